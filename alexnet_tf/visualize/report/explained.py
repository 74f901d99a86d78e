"""The report's sections on the towers, on explanations of single pictures, and on nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alexnet_tf.figures import kernels, text
from alexnet_tf.visualize.measures import tuning
from alexnet_tf.visualize.network import top_classes
from alexnet_tf.visualize.report import charts
from alexnet_tf.visualize.report.charts import Line
from alexnet_tf.visualize.report.html import Content, embed, note
from pipelines.errors import DataError, UserError

if TYPE_CHECKING:
    import keras

    from alexnet_tf.run_record import Run
    from alexnet_tf.visualize.pictures import Pictures

NEIGHBOURS = 6
# Among so many training pictures a report looks for neighbours, unless the features of all are there: some
# ten to thirty seconds' work.
MOST_INDEXED = 1200
TOWER_COLOURS = ("var(--first)", "var(--second)")
DEFINITIONS = (
    "Colour is the share of a kernel's energy off the grey axis (0.67 for random weights), orientation one "
    "minus the circular variance of its power spectrum (1 for a grating, 0 for a round spot)"
)


def towers(run: Run, network: keras.Model) -> Content:
    """Section 6.1 in numbers: whether the kernels of only one tower are selective for colour."""
    from alexnet_tf import model

    labels = kernels.tower_labels(run.recipe.variant)
    indices = tuning.indices(model.conv1_kernels(network))
    summary = tuning.summarise(indices, labels)
    groups = tuning.split(indices, labels)
    drawn = [
        charts.histogram(
            f"{name} index",
            [
                Line(label, colour, getattr(own, name).tolist())
                for (label, own), colour in zip(groups.items(), TOWER_COLOURS, strict=False)
            ],
        )
        for name in ("colour", "orientation")
    ]
    hanging = "; tower a's counts rise, tower b's hang" if len(groups) == 2 else ""
    return Content(
        "towers.html",
        {
            "verdict": _verdict(summary),
            "charts": drawn,
            "caption": f"How many kernels of conv1 have which index{hanging}. {DEFINITIONS}.",
            **_medians(summary),
        },
    )


def _verdict(summary: dict[str, Any]) -> str:
    medians = summary["towers"]
    if "difference" not in summary:
        (only,) = medians.values()
        return (
            f"This network has one path, so that there is no tower to compare: the median colour index of "
            f"its {summary['kernels']} kernels is {only['colour']:.2f}, the median orientation index "
            f"{only['orientation']:.2f}."
        )
    (first, a), (second, b) = medians.items()
    chance = summary["difference"]["colour"]["p"]
    return (
        "The paper found the kernels of one tower largely colour-agnostic and those of the other largely "
        f"colour-specific (section 6.1). Here the median colour index is {a['colour']:.2f} in {first} and "
        f"{b['colour']:.2f} in {second}. Were the kernels dealt out to the towers at random, their means "
        f"would lie as far apart with probability {chance:.2g}."
    )


def _medians(summary: dict[str, Any]) -> dict[str, Any]:
    """The table of medians: its head, its rows and its caption."""
    medians, difference = summary["towers"], summary.get("difference", {})
    rows = []
    for name in next(iter(medians.values())):
        row = [name, *(f"{own[name]:.3f}" for own in medians.values())]
        if difference:
            row += [text.minus(f"{difference[name]['medians']:+.3f}"), f"{difference[name]['p']:.2g}"]
        rows.append(row)
    caption = "Medians over conv1's kernels; the frequency is in cycles a pixel"
    if difference:
        caption += ", and p is a permutation test's for a difference of the means"
    head = ["median", *medians, *(["difference", "p"] if difference else [])]
    return {"head": head, "rows": rows, "medians": caption}


def explanations(run: Run, network: keras.Model, shown: Pictures) -> Content:
    """Chosen pictures with maps of the pixels that matter to their best class, and the five best classes."""
    import tensorflow as tf

    from alexnet_tf.figures import heat
    from alexnet_tf.visualize import gradcam, saliency

    labels, scores = top_classes(network, shown.pixels)
    layer = last_maps(network)
    maps = {
        "saliency": (saliency.maps(network, shown.pixels, "vanilla"), heat.OVERLAY_WINDOW),
        "SmoothGrad": (saliency.maps(network, shown.pixels, "smooth"), heat.OVERLAY_WINDOW),
        "Grad-CAM": (gradcam.maps(network, shown.pixels, "gradcam", layer=layer), 1),
    }
    overlays = {
        name: heat.overlay(tf.constant(shown.images), tf.constant(own, tf.float32), window).numpy()
        for name, (own, window) in maps.items()
    }
    rows = []
    for number, true_name in enumerate(shown.true_names):
        names = [run.readable_names[label] for label in labels[number].tolist()]
        known = f"true class: {true_name}" if true_name else shown.keys[number]
        pictures = {"picture": embed(shown.images[number], f"A picture; {known}")}
        for name, own in overlays.items():
            pictures[name] = embed(own[number], f"{name} of {names[0]} over the picture; {known}")
        bars = [
            {"name": name, "share": share, "correct": name == true_name}
            for name, share in zip(names, scores[number].tolist(), strict=True)
        ]
        name = true_name or shown.keys[number]
        rows.append({"name": name, "pictures": list(pictures.items()), "bars": bars})
    caption = (
        "What the best class of each picture hangs on. Saliency is the largest derivative of its logit over "
        "a pixel's three colours (Simonyan et al. 2013), SmoothGrad the mean of such maps under noise "
        f"(Smilkov et al. 2017), Grad-CAM the maps of {layer} weighted by their mean derivatives (Selvaraju "
        "et al. 2017). Beside them the five best classes, the correct one in pink."
    )
    return Content("explanations.html", {"rows": rows, "caption": caption})


def last_maps(network: keras.Model) -> str:
    """The ReLU after the last convolution, of both towers."""
    from alexnet_tf.network import graph

    names = graph.layer_names(network, maps=True)
    return [name for name in names if name.startswith("relu") and not name.endswith(graph.TOWERS)][-1]


def neighbours(run: Run, network: keras.Model, shown: Pictures) -> Content:
    """The nearest training pictures of the chosen ones (figure 4 right)."""
    from alexnet_tf.visualize import neighbours as method

    try:
        found = method.find(run, network, shown.pixels, NEIGHBOURS, MOST_INDEXED)
        near = method.pictures_of(run, found)
    except (UserError, DataError, OSError) as error:
        return note(f"The training pictures cannot be shown: {error}")
    rows = []
    width = found.positions.shape[1]
    for number, true_name in enumerate(shown.true_names):
        name = true_name or shown.keys[number]
        own = [
            _neighbour(near, number * width + rank, float(found.distances[number, rank]), true_name)
            for rank in range(width)
        ]
        picture = embed(shown.images[number], f"A picture of {name}")
        rows.append({"name": name, "picture": picture, "neighbours": own})
    caption = (
        "Each picture and the training pictures nearest to it, by the Euclidean distance between the last "
        "hidden layer's activations, which stands below (the paper's figure 4, right). Other classes' names "
        "are coloured."
    )
    command = ""
    if found.indexed < found.total:
        caption += (
            f" Looked at were {found.indexed:,} of the {found.total:,} training pictures, from all over them."
        )
        command = f"python -m alexnet_tf.visualize neighbours --workdir {run.workdir} --out DIR"
    return Content("neighbours.html", {"rows": rows, "caption": caption, "command": command})


def _neighbour(near: Pictures, place: int, distance: float, true_name: str) -> dict[str, Any]:
    """One training picture, at `place` among those found, beside a picture of class `true_name`."""
    name = near.true_names[place]
    return {
        "name": name,
        "picture": embed(near.images[place], f"Training picture of {name}, distance {distance:#.3g}"),
        "distance": f"{distance:#.3g}",
        "of_another_class": bool(true_name) and name != true_name,
    }

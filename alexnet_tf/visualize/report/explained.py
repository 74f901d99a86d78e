"""The report's sections that explain: towers as numbers, single pictures, and their nearest neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alexnet_tf.figures import kernels
from alexnet_tf.visualize.measures import tuning
from alexnet_tf.visualize.network import top_classes
from alexnet_tf.visualize.report import charts as report_charts
from alexnet_tf.visualize.report.charts import Line
from alexnet_tf.visualize.report.html import (
    Html,
    clipped,
    command,
    element,
    figure,
    image,
    join,
    paragraph,
    table,
)
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


def towers(run: Run, network: keras.Model) -> Html:
    """Section 6.1 as numbers: whether one tower sees colours and the other does not."""
    from alexnet_tf import model

    labels = kernels.tower_labels(run.recipe.variant)
    found = tuning.indices(model.conv1_kernels(network))
    summary = tuning.summarise(found, labels)
    groups = tuning.split(found, labels)
    charts = [
        report_charts.towers(
            f"{name} index",
            [
                Line(label, colour, getattr(own, name).tolist())
                for (label, own), colour in zip(groups.items(), TOWER_COLOURS, strict=False)
            ],
        )
        for name in ("colour", "orientation")
    ]
    hanging = "; tower a's counts rise, tower b's hang" if len(groups) == 2 else ""
    caption = f"How many kernels of conv1 have which index{hanging}. {DEFINITIONS}."
    return join(
        [
            _verdict(summary),
            figure(element("div", *charts, class_="charts"), caption),
            _medians(summary),
        ]
    )


def _verdict(summary: dict[str, Any]) -> Html:
    medians = summary["towers"]
    if "difference" not in summary:
        (only,) = medians.values()
        return paragraph(
            f"This network has one path, so that there is no tower to compare: the median colour index of "
            f"its {summary['kernels']} kernels is {only['colour']:.2f}, the median orientation index "
            f"{only['orientation']:.2f}."
        )
    (first, a), (second, b) = medians.items()
    chance = summary["difference"]["colour"]["p"]
    return paragraph(
        "The paper found the kernels of one tower largely colour-agnostic and those of the other largely "
        f"colour-specific (section 6.1). Here the median colour index is {a['colour']:.2f} in {first} and "
        f"{b['colour']:.2f} in {second}. Were the kernels dealt out to the towers at random, their means "
        f"would lie as far apart with probability {chance:.2g}."
    )


def _medians(summary: dict[str, Any]) -> Html:
    medians, difference = summary["towers"], summary.get("difference", {})
    head = ["median", *medians, *(["difference", "p"] if difference else [])]
    rows = []
    for name in next(iter(medians.values())):
        row = [name, *(f"{own[name]:.3f}" for own in medians.values())]
        if difference:
            row += [_signed(difference[name]["medians"]), f"{difference[name]['p']:.2g}"]
        rows.append(row)
    caption = "Medians over conv1's kernels; the frequency is in cycles a pixel"
    if difference:
        caption += ", and p is a permutation test's for a difference of the means"
    return table(head, rows, caption, numbers=range(1, len(head)))


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")


def explanations(run: Run, network: keras.Model, shown: Pictures) -> Html:
    """Chosen pictures, what each best class hangs on, and the five best classes."""
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
        cells = [_labelled("picture", image(shown.images[number], f"A picture; {known}"))]
        cells += [
            _labelled(name, image(own[number], f"{name} of {names[0]} over the picture; {known}"))
            for name, own in overlays.items()
        ]
        words = element("p", element("b", true_name or shown.keys[number]), class_="true-name")
        bars = report_charts.bars(names, scores[number].tolist(), true_name)
        rows.append(element("div", *cells, element("div", words, bars), class_="explained"))
    caption = (
        "What the best class of each picture hangs on. Saliency is the largest derivative of its logit over "
        "a pixel's three colours (Simonyan et al. 2013), SmoothGrad the mean of such maps under noise "
        f"(Smilkov et al. 2017), Grad-CAM the maps of {layer} weighted by their mean derivatives (Selvaraju "
        "et al. 2017). Beside them the five best classes, the correct one in pink."
    )
    return figure(join(rows), caption)


def last_maps(network: keras.Model) -> str:
    """The ReLU after the last convolution, of both towers."""
    from alexnet_tf.network import graph

    names = graph.layer_names(network, maps=True)
    return [name for name in names if name.startswith("relu") and not name.endswith(graph.TOWERS)][-1]


def _labelled(name: str, picture: Html) -> Html:
    return element("figure", picture, element("figcaption", name))


def neighbours(run: Run, network: keras.Model, shown: Pictures) -> Html:
    """The nearest training pictures of the chosen ones (figure 4 right)."""
    from alexnet_tf.visualize import neighbours as method

    try:
        found = method.find(run, network, shown.pixels, NEIGHBOURS, MOST_INDEXED)
        near = method.pictures_of(run, found)
    except (UserError, DataError, OSError) as error:
        return paragraph(f"The training pictures cannot be shown: {error}")
    rows = []
    width = found.positions.shape[1]
    for number, true_name in enumerate(shown.true_names):
        query = image(shown.images[number], f"A picture of {true_name or shown.keys[number]}")
        cells = [_neighbour(query, true_name or shown.keys[number], "", "query")]
        for rank in range(width):
            place = number * width + rank
            name, distance = near.true_names[place], float(found.distances[number, rank])
            said = f"Training picture of {name}, distance {distance:#.3g}"
            other = "other" if true_name and name != true_name else None
            cells.append(_neighbour(image(near.images[place], said), name, f"{distance:#.3g}", other))
        rows.append(element("div", *cells, class_="near"))
    caption = (
        "Each picture and the training pictures nearest to it, by the Euclidean distance between the last "
        "hidden layer's activations, which stands below (the paper's figure 4, right). Other classes' names "
        "are coloured."
    )
    if found.indexed == found.total:
        return figure(join(rows), caption)
    caption += (
        f" Looked at were {found.indexed:,} of the {found.total:,} training pictures, from all over them."
    )
    all_of_them = paragraph(
        "This indexes all training pictures once, and the next report looks through them: ",
        command(f"python -m alexnet_tf.visualize neighbours --workdir {run.workdir} --out DIR"),
    )
    return join([figure(join(rows), caption), all_of_them])


def _neighbour(picture: Html, name: str, distance: str, class_: str | None) -> Html:
    words = element("figcaption", element("b", clipped(name)), element("span", distance))
    return element("figure", picture, words, class_=class_)

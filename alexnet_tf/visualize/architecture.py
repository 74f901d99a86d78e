"""Method `architecture`: the network layer by layer, as in figure 2 of the paper.

Everything is read from the model that the program builds: sizes, kernels and costs, and between the
towers the values that they exchange.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet_tf.network import variants
from pipelines.files import write_text

if TYPE_CHECKING:
    import keras

    from alexnet_tf.run_record import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this method's own options."""
    parser.add_argument(
        "--variant", default="", metavar="NAME", help="another network than the run's, with as many classes"
    )


def draw(run: Run, out: Path, *, variant: str = "") -> dict[str, Any]:
    """Writes architecture.png, architecture.svg and architecture.json.

    Args:
      run: whose variant and number of classes are taken.
      out: an existing folder.
      variant: another network.

    Raises:
      UserError: there is no such variant.
    """
    from alexnet_tf import model
    from alexnet_tf.figures import style
    from alexnet_tf.visualize.internals import boxes

    name = variant or run.recipe.variant
    variants.get(name)
    network = model.build(name, len(run.class_names))
    page = boxes.figure(network, f"{name} network, {len(run.class_names)} classes")
    pictures = [style.save(page, out / f"architecture.{form}") for form in ("png", "svg")]
    numbers, record = out / "architecture.json", describe(network)
    write_text(numbers, json.dumps({"variant": name, **record}, indent=2) + "\n")
    return {
        "files": [*map(str, pictures), str(numbers)],
        "variant": name,
        **record["total"],
        "crossing": sum(crossing["values"] for crossing in record["crossings"] if not crossing["meets"]),
        "warning": "",
    }


def describe(network: keras.Model) -> dict[str, Any]:
    """The network's layers, the values that its towers exchange, and its totals, as JSON holds them."""
    from alexnet_tf.visualize.internals import stages

    layers = stages.of(network)
    return {
        "input": list(network.input.shape[1:]),
        "layers": [{**stage._asdict(), "neurons": stage.neurons} for stage in layers],
        "crossings": [crossing._asdict() for crossing in stages.crossings(network)],
        "total": {
            "neurons": sum(stage.neurons for stage in layers),
            "parameters": sum(stage.parameters for stage in layers),
            "multiply_adds": sum(stage.multiply_adds for stage in layers),
        },
    }

"""How long explanations take: a saliency map against a training step, many against tf-keras-vis, neighbours.

    python -m benchmarks.explain                       # some two minutes on two cores, 6 GB of memory
    python -m benchmarks.explain --workdir runs/quickstart

Three parts, whose contenders take turns, each in a process of its own.

*One picture.* The vanilla saliency map against the forward and backward pass of a training step on the
same picture: the loss and its gradients with respect to all weights, dropout and all, compiled, without
the optimizer's update. Beside it the same without the weights' gradients: forward, and back through the
activations as far as conv1's maps, which is what a map needs but for its last operation.

*Many pictures.* Their maps in one batch against one after the other through tf-keras-vis' Saliency, on
the same network and pictures.

*Neighbours.* The six nearest of many features by Euclidean distance, one query after the other.

Without a run the network has its initial weights and the pictures are noise: the speed is the same.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from alexnet_tf.visualize.measures import nearest as nearest_module
from benchmarks import turns
from pipelines import command

if TYPE_CHECKING:
    import keras

FEATURES, WIDTH, NEIGHBOURS, QUERIES = 50_000, 4096, 6, 64
# What each figure should reach.
MOST_PASSES, LEAST_SPEED_UP, MOST_MILLISECONDS = 2.5, 5.0, 50.0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.explain", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--workdir", type=command.path, metavar="W", help="a run whose network and pictures to take"
    )
    parser.add_argument("--pictures", type=int, default=64, help="in the batch (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=10, help="in a turn, of the short parts (default %(default)s)"
    )
    command.add_json_flag(parser)
    arguments = parser.parse_args(argv)
    turns.check_counts(parser, arguments, "pictures", "rounds", "steps")
    return command.run(lambda: _measure(arguments), as_json=arguments.json, tensorflow=False)


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    make = functools.partial(_make, arguments.workdir)
    one = _take({name: functools.partial(make, name, 1) for name in ONE_PICTURE}, arguments, arguments.steps)
    many = _take(
        {name: functools.partial(make, name, arguments.pictures) for name in MANY_PICTURES}, arguments, 1
    )
    nearest = _take({"nearest": _nearest}, arguments, arguments.steps)
    return _report({**one, **many, **nearest}, arguments.pictures)


def _take(makers: dict[str, turns.Maker], arguments: argparse.Namespace, steps: int) -> dict[str, turns.Cost]:
    """The median cost of a step of each contender."""
    taken = turns.take(
        {name: [maker] for name, maker in makers.items()}, rounds=arguments.rounds, steps=steps
    )
    return {name: turns.median(costs) for name, costs in taken.items()}


def _make(workdir: str | None, name: str, count: int) -> turns.Step:
    """A contender by its name, which can be sent to another process."""
    return {**ONE_PICTURE, **MANY_PICTURES}[name](*_network_and_pixels(workdir, count))


def _network_and_pixels(workdir: str | None, count: int) -> tuple[keras.Model, np.ndarray]:
    """A run's network and so many pictures of its data, or the paper's and noise."""
    from alexnet_tf import model

    if workdir is None:
        pixels = np.random.default_rng(0).normal(0, 1, (count, 224, 224, 3)).astype(np.float32)
        return model.build("paper", initializer="he"), pixels
    from alexnet_tf.run_record import Run
    from alexnet_tf.visualize import network, pictures

    run = Run.open(workdir)
    return network.load(run)[0], pictures.from_split(run, count).pixels


def _passes(network: keras.Model, pixels: np.ndarray) -> turns.Step:
    """Forward and backward of a training step: the gradients of all weights."""
    import tensorflow as tf

    labels = tf.zeros([len(pixels)], tf.int32)
    values = [variable.value for variable in network.trainable_variables]

    @tf.function(autograph=False)
    def gradients(x: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = network(x, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        found: list[tf.Tensor] = tape.gradient(loss, values)
        return found

    picture = tf.constant(pixels)
    return lambda: gradients(picture)[-1].numpy()


def _activations(network: keras.Model, pixels: np.ndarray) -> turns.Step:
    """Forward, and backward as far as conv1's maps, without the gradients of any weights."""
    import keras
    import tensorflow as tf

    from alexnet_tf.network import graph

    layers = graph.parts(network, "conv1")
    before = keras.Model(network.input, [layer.output for layer in layers])
    after = keras.Model([layer.output for layer in layers], network.output)

    @tf.function(autograph=False)
    def gradients(x: tf.Tensor) -> list[tf.Tensor]:
        maps = keras.tree.flatten(before(x, training=False))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(maps)
            best = tf.reduce_max(after(maps, training=False), axis=1)
        found: list[tf.Tensor] = tape.gradient(best, maps)
        return found

    picture = tf.constant(pixels)
    return lambda: gradients(picture)[-1].numpy()


def _vanilla(network: keras.Model, pixels: np.ndarray) -> turns.Step:
    """Our maps of all the pictures at once."""
    from alexnet_tf.visualize import saliency

    def step() -> None:
        saliency.vanilla(network, pixels)

    return step


def _peer(network: keras.Model, pixels: np.ndarray) -> turns.Step:
    """tf-keras-vis' maps of one picture after the other, as its manual has it."""
    import keras
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.utils.scores import CategoricalScore

    best = np.concatenate([np.asarray(network(x[np.newaxis])).argmax(axis=-1) for x in pixels])
    method = Saliency(keras.Model(network.inputs, network.output), clone=False)  # it passes a list

    def step() -> None:
        for picture, label in zip(pixels, best, strict=True):
            method(CategoricalScore(int(label)), picture[np.newaxis])

    return step


def _nearest() -> turns.Step:
    """The nearest of many random features to one query, another one each time."""
    from alexnet_tf.visualize.measures import feature_index

    generator = np.random.default_rng(0)
    features = generator.standard_normal((FEATURES, WIDTH), np.float32)
    norms = feature_index.squared_norms(features)
    queries = itertools.cycle(generator.standard_normal((QUERIES, 1, WIDTH), np.float32))

    def step() -> None:
        nearest_module.nearest(features, next(queries), NEIGHBOURS, norms)

    return step


ONE_PICTURE = {"passes": _passes, "activations": _activations, "vanilla": _vanilla}
MANY_PICTURES = {"batch": _vanilla, "peer": _peer}


def _report(costs: dict[str, turns.Cost], count: int) -> dict[str, Any]:
    """Prints the times and their ratios; returns them."""
    words = {
        "passes": "one picture: forward and backward of a training step",
        "activations": "one picture: the same without the weights' gradients",
        "vanilla": "one picture: vanilla saliency",
        "batch": f"{count} pictures: vanilla saliency in one batch",
        "peer": f"{count} pictures: tf-keras-vis, one after the other",
        "nearest": f"the {NEIGHBOURS} nearest of {FEATURES:,} features of {WIDTH:,} values",
    }
    print(f"{'':56} milliseconds   processor ms")
    for name, cost in costs.items():
        print(f"{words[name]:56} {1000 * cost.wall:12.1f} {1000 * cost.processor:14.1f}")
    ratios = {
        "saliency_over_passes": costs["vanilla"].wall / costs["passes"].wall,
        "saliency_over_activations": costs["vanilla"].wall / costs["activations"].wall,
        "peer_over_batch": costs["peer"].wall / costs["batch"].wall,
    }
    milliseconds = 1000 * costs["nearest"].wall
    print(
        f"saliency / forward and backward: {ratios['saliency_over_passes']:.2f} (at most {MOST_PASSES}); "
        f"without weights' gradients {ratios['saliency_over_activations']:.2f}"
    )
    print(f"tf-keras-vis / ours in one batch: {ratios['peer_over_batch']:.2f} (at least {LEAST_SPEED_UP})")
    print(f"neighbours: {milliseconds:.1f} ms a query (at most {MOST_MILLISECONDS:.0f})")
    return {
        "milliseconds": {name: 1000 * cost.wall for name, cost in costs.items()},
        "processor_milliseconds": {name: 1000 * cost.processor for name, cost in costs.items()},
        **ratios,
        "neighbours_milliseconds": milliseconds,
    }


if __name__ == "__main__":
    sys.exit(main())

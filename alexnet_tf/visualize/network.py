"""The network that a figure shows: a run's best, or an untrained one where there is no checkpoint yet."""

from __future__ import annotations

import sys

import keras
import numpy as np

from alexnet_tf import checkpoint, model
from alexnet_tf.run_record import Run

SHOWN_CLASSES = 5
AT_ONCE = 64  # pictures in a forward pass


def load(run: Run) -> tuple[keras.Model, str]:
    """The run's best network in float32, and a warning for the figure if it is untrained, else empty."""
    (network, _), warning = load_with_step(run)
    return network, warning


def load_with_step(run: Run) -> tuple[checkpoint.Trained, str]:
    """As `load`, with the number of updates that its weights have seen."""
    saved = checkpoint.Checkpoints(run.checkpoint_dir)
    if (run.checkpoint_dir / checkpoint.BEST).exists() or saved.newest():
        return checkpoint.load_network(run), ""
    warning = "untrained: the run has no checkpoint yet, these are its initial weights"
    print(f"warning: {run.workdir}: {warning}", file=sys.stderr)
    return checkpoint.Trained(initial(run, run.recipe.seed), 0), warning


def initial(run: Run, seed: int) -> keras.Model:
    """The run's network before its training, with the initial weights of a seed."""
    recipe = run.recipe
    return model.build(
        recipe.variant,
        len(run.class_names),
        initializer=recipe.initializer,
        pixel_std=recipe.pixel_std,
        dropout_rate=recipe.dropout_rate,
        seed=seed,
    )


def top_classes(trained: keras.Model, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The best classes of pictures and their probabilities, best first.

    Args:
      trained: pixels -> logits.
      pixels: float32 [N, S, S, 3], as `pictures.Pictures` has them.

    Returns:
      labels int [N, 5] and probabilities float32 [N, 5]; fewer where there are fewer classes.
    """
    import tensorflow as tf

    probabilities = tf.nn.softmax(trained(pixels, training=False))
    scores, labels = tf.math.top_k(probabilities, min(SHOWN_CLASSES, probabilities.shape[-1]))
    return labels.numpy(), scores.numpy()


def in_batches(network: keras.Model, pixels: np.ndarray, batch_size: int = AT_ONCE) -> np.ndarray:
    """The outputs of a network of one output, such as its logits [N, classes], computed batch by batch."""
    starts = range(0, len(pixels), batch_size)
    batches = [network(pixels[start : start + batch_size], training=False) for start in starts]
    return np.concatenate([np.asarray(batch) for batch in batches])


def best_classes(network: keras.Model, pixels: np.ndarray) -> np.ndarray:
    """Each picture's most probable class, int [N]."""
    return in_batches(network, pixels).argmax(axis=1)


def explained_classes(network: keras.Model, pixels: np.ndarray, classes: np.ndarray | None) -> np.ndarray:
    """The class to explain in each picture, int [N]: `classes`, or without them each picture's best."""
    return best_classes(network, pixels) if classes is None else np.asarray(classes)

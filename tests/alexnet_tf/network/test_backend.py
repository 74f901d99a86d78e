"""Keras on another backend or with another layout: one line where it cannot work."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest

from alexnet_tf import model
from alexnet_tf.evaluation import metrics
from alexnet_tf.export import saved_model
from alexnet_tf.network import input_gradient
from alexnet_tf.training import placement
from pipelines.errors import UserError


@pytest.mark.parametrize(
    "call",
    [
        lambda: placement.place(),
        lambda: metrics.Evaluator(None, lambda images: images),  # type: ignore[arg-type]
        lambda: input_gradient.function(None),  # type: ignore[arg-type]
        lambda: saved_model.export(None, Path("none")),  # type: ignore[arg-type]
    ],
    ids=["training", "evaluation", "gradient", "export"],
)
def test_what_needs_tensorflow_says_so(call, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(UserError, match=r"needs Keras on TensorFlow; received the backend jax \(set KERAS_"):
        call()


def test_maps_are_channels_last():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(UserError, match="channels_last; received channels_first"):
            model.build(classes=10)
    finally:
        keras.config.set_image_data_format("channels_last")

"""Settings of Keras that come from the user's shell or keras.json, held against what the code needs."""

from __future__ import annotations

import keras

from pipelines.errors import UserError


def require_tensorflow(what: str) -> None:
    """Raises UserError where Keras runs on another backend; the network alone runs on all of them.

    Args:
      what: what needs TensorFlow, as the message begins.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UserError(
            f"{what} needs Keras on TensorFlow; received the backend {backend} (set KERAS_BACKEND=tensorflow "
            "before Keras is imported)"
        )


def require_channels_last() -> None:
    """Raises UserError where Keras lays maps out as [N, C, H, W]; the network's are [N, H, W, C]."""
    layout = keras.config.image_data_format()
    if layout != "channels_last":
        raise UserError(
            f"the network needs Keras' image_data_format to be channels_last; received {layout} (change it "
            "in keras.json or by keras.config.set_image_data_format)"
        )

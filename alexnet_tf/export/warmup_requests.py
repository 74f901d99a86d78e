"""Warm-up requests, which a server runs before it serves a version: the first call compiles.

TF Serving reads them from assets.extra/tf_serving_warmup_requests, a TFRecord of PredictionLog messages
(www.tensorflow.org/tfx/serving/saved_model_warmup).
"""

from __future__ import annotations

import os

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

WARMUP_FILE = "tf_serving_warmup_requests"
# One picture alone, and as many as a batching server gathers under load.
BATCH_SIZES = (1, 8)
_SIDE = 256


def write(path: str | os.PathLike[str], model_name: str, feature: str) -> int:
    """Writes one Predict request a batch size and one Classify request.

    Args:
      path: the file.
      model_name: noted in the requests; servers do not look it up.
      feature: name of the input, and of the tf.Example's feature, that holds a picture.

    Returns:
      How many requests there are.
    """
    image_bytes = tf.io.encode_jpeg(textured_image(_SIDE, _SIDE)).numpy()
    logs = [_predict(model_name, feature, [image_bytes] * size) for size in BATCH_SIZES]
    logs.append(_classify(model_name, feature, image_bytes))
    with tf.io.TFRecordWriter(os.fspath(path)) as writer:
        for log in logs:
            writer.write(log.SerializeToString())
    return len(logs)


def textured_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A synthetic picture of gradients, stripes and noise: uint8 [height, width, 3].

    A flat picture would hide what a textured one shows: a crop a pixel off, another resizing, swapped
    colours.
    """
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    stripes = np.stack([np.sin(2 * np.pi * (a * x + b * y)) for a, b in ((9, 4), (-3, 11), (6, -7))], axis=-1)
    slopes = np.stack([x, y, 1 - x], axis=-1)
    noise = generator.normal(0, 18, (height, width, 3))
    image: np.ndarray = 60 + 110 * slopes + 35 * stripes + noise
    return image.clip(0, 255).astype(np.uint8)


def _predict(model_name: str, feature: str, pictures: list[bytes]) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = model_name, "serving_default"
    request.inputs[feature].CopyFrom(tf.make_tensor_proto(pictures, tf.string))
    return log


def _classify(model_name: str, feature: str, picture: bytes) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    request = log.classify_log.request
    request.model_spec.name, request.model_spec.signature_name = model_name, "classify"
    example = request.input.example_list.examples.add()
    example.features.feature[feature].bytes_list.value.append(picture)
    return log

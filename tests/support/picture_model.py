"""A tiny SavedModel with the signatures of an exported network, and a server that runs it."""

import contextlib
import io
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

SIDE = 8


class Brightness(tf.Module):
    """Names a picture by how bright it is: `light` and `dark`."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def name(self, image_bytes):
        return self._named(self._grey(image_bytes))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def saliency(self, image_bytes):
        grey = self._grey(image_bytes)
        picture = tf.cast(255.0 * tf.repeat(grey[..., tf.newaxis], 3, axis=-1), tf.uint8)
        overlay = tf.map_fn(tf.io.encode_png, picture, fn_output_signature=tf.TensorSpec([], tf.string))
        return {"heatmap": grey, "overlay_bytes": overlay}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        features = {"image_bytes": tf.io.FixedLenFeature([], tf.string)}
        return self._named(self._grey(tf.io.parse_example(inputs, features)["image_bytes"]))

    def _named(self, grey):
        light = tf.reduce_mean(grey, axis=[1, 2])
        scores, order = tf.math.top_k(tf.stack([light, 1 - light], axis=1), 2)
        return {"classes": tf.gather(tf.constant(["light", "dark"]), order), "scores": scores}

    def _grey(self, image_bytes):
        def one(encoded):
            picture = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            return tf.image.resize(picture, [SIDE, SIDE])

        pictures = tf.map_fn(one, image_bytes, fn_output_signature=tf.TensorSpec([SIDE, SIDE, 3], tf.float32))
        return tf.reduce_mean(pictures, axis=-1) / 255.0


def brightness(base, version=1, with_saliency=True):
    """BASE/VERSION: serving_default, classify and, where asked for, saliency."""
    folder = Path(base) / str(version)
    module = Brightness()
    signatures = {"serving_default": module.name, "classify": module.classify}
    if with_saliency:
        signatures["saliency"] = module.saliency
    tf.saved_model.save(module, str(folder), signatures=signatures)
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    updater.replace_method_name(signature_key="classify", method_name="tensorflow/serving/classify")
    updater.save()
    return folder


def encoded(grey, kind="PNG", size=(12, 9), **options):
    """A picture of one grey level, 0 to 255."""
    stream = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0], 3), grey, np.uint8)).save(stream, kind, **options)
    return stream.getvalue()


@contextlib.contextmanager
def running(**flags):
    """This project's server on free ports of the loopback, with TF Serving's flags by name."""
    from serving.server import create_server

    with create_server(host="127.0.0.1", pick_ports=True, **flags) as server:
        yield server

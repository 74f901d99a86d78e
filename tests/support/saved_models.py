"""Tiny SavedModels of every kind that a server must answer from, and how a request is written."""

from pathlib import Path

import numpy as np
import tensorflow as tf


class HalfPlus(tf.Module):
    """x / 2 + `add`, TF Serving's own first example; the variable proves which version answers."""

    def __init__(self, add):
        super().__init__()
        self.add = tf.Variable(float(add))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(self, x):
        return {"y": x / 2 + self.add}


def half_plus(base, version=1, add=2.0, as_name=None):
    """BASE/VERSION: serving_default x float [N] -> y; returns BASE/VERSION."""
    folder = Path(base) / (as_name or str(version))
    module = HalfPlus(add)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.predict})
    return folder


class Kinds(tf.Module):
    """Signatures that between them use what a request can hold."""

    def __init__(self, labels_path):
        super().__init__()
        self.labels = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                labels_path,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
            ),
            default_value="?",
        )

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 2], tf.float32, name="a"),
            tf.TensorSpec([None, 2], tf.int32, name="b"),
        ]
    )
    def two(self, a, b):
        return {
            "sum": a + tf.cast(b, tf.float32),
            "rows": tf.shape(a)[0] + tf.zeros([tf.shape(a)[0]], tf.int32),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def texts(self, text):
        return {"echo": text, "echo_bytes": text, "length": tf.strings.length(text)}

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def scalar(self, x):
        return {"double": 2 * x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="index")])
    def lookup(self, index):
        return {"label": self.labels.lookup(index)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.bool, name="flag"),
            tf.TensorSpec([None], tf.float64, name="d"),
        ]
    )
    def flags(self, flag, d):
        return {"not": tf.logical_not(flag), "d": d}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs):
        x = self._parsed(inputs)
        scores = tf.stack([x, 1 - x], axis=1)
        classes = tf.tile([["yes", "no"]], [tf.shape(x)[0], 1])
        return {"classes": classes, "scores": scores}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def regress(self, inputs):
        return {"outputs": 10 * self._parsed(inputs)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def fails(self, x):
        with tf.control_dependencies([tf.debugging.assert_positive(x, "x must be positive")]):
            return {"y": tf.identity(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def slow(self, x):
        """Turns for about `x[0]` million rounds: long enough to be interrupted."""
        rounds = tf.cast(1e6 * x[0], tf.int32)
        turned = tf.while_loop(lambda i, v: i < rounds, lambda i, v: (i + 1, tf.sin(v) + 1), (0, x))
        return {"y": turned[1]}

    def _parsed(self, inputs):
        return tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"]


METHODS = {"classify": "tensorflow/serving/classify", "regress": "tensorflow/serving/regress"}


def kinds(base, version=1):
    """BASE/VERSION with the signatures of `Kinds`; `two` is the default one."""
    folder = Path(base) / str(version)
    Path(base).mkdir(parents=True, exist_ok=True)
    labels = Path(base) / "labels.txt"
    labels.write_text("zero\none\ntwo\n")
    module = Kinds(str(labels))
    names = ("texts", "scalar", "lookup", "flags", "classify", "regress", "fails", "slow")
    signatures = {name: getattr(module, name) for name in names}
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.two, **signatures})
    labels.unlink()
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(folder))
    for name, method in METHODS.items():
        updater.replace_method_name(signature_key=name, method_name=method)
    updater.save()
    return folder


def example(**features):
    """A serialized tf.Example of float features."""
    message = tf.train.Example()
    for name, value in features.items():
        message.features.feature[name].float_list.value.extend(np.atleast_1d(value).tolist())
    return message.SerializeToString()

"""The signatures of an exported network, with the preparation of pictures inside the graph.

    serving_default  image_bytes string [N]        classes string [N, 5], scores float32 [N, 5]
    probabilities    image_bytes                   probabilities float32 [N, classes]
    ten_crop         image_bytes                   classes, scores: ten crops' probabilities averaged
    pixels           pixels float32 [N, S, S, 3]   logits float32 [N, classes]
    classify         inputs string [N]             classes, scores, for the Classify call
    features         image_bytes                   fc7 float32 [N, 4096]
    saliency         image_bytes                   heatmap float32 [N, S, S], overlay_bytes string [N]

A request with no picture fails with INVALID_ARGUMENT, and so does one with a picture that cannot be
decoded, the whole of it, since an answer has a row for each picture. With fewer than five classes,
classes and scores are as wide as there are classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from alexnet_tf.figures import heat
from alexnet_tf.network import input_gradient
from pipelines.config import DataConfig
from pipelines.pictures import apart, preprocess
from pipelines.pictures.statistics import ImageStats

# The feature that holds a picture in a tf.Example, and the input of every signature that takes bytes.
IMAGE_BYTES = "image_bytes"
CLASSIFY = "classify"
METHOD_NAMES = {CLASSIFY: "tensorflow/serving/classify"}
SHOWN_CLASSES = 5
# Pictures of one request that are decoded at the same time, memory permitting: a whole photograph each.
DECODED_AT_ONCE = 16
# Section 6.1 compares the last hidden layer's activations, before dropout scales them.
LAST_HIDDEN = "relu7"

Outputs = dict[str, tf.Tensor]
_BYTES = [tf.TensorSpec([None], tf.string, name=IMAGE_BYTES)]


class SignatureForm(NamedTuple):
    """A signature in words: its input, its outputs and its purpose."""

    takes: str
    gives: str
    purpose: str


FORMS = {
    "serving_default": SignatureForm("image_bytes [N]", "classes, scores [N, 5]", "the five best classes"),
    "probabilities": SignatureForm("image_bytes [N]", "probabilities [N, classes]", "every class"),
    "ten_crop": SignatureForm(
        "image_bytes [N]", "classes, scores [N, 5]", "the average of ten crops: better, ten times the work"
    ),
    "pixels": SignatureForm("pixels [N, S, S, 3]", "logits [N, classes]", "pictures prepared by the client"),
    CLASSIFY: SignatureForm("inputs [N], tf.Example", "classes, scores [N, 5]", "the Classify call"),
    "features": SignatureForm("image_bytes [N]", "fc7 [N, 4096]", "the last hidden layer"),
    "saliency": SignatureForm(
        "image_bytes [N]", "heatmap [N, S, S], overlay_bytes [N]", "which pixels the best class hangs on"
    ),
}


class Servable(tf.Module):
    """The exported module: from encoded pictures to class names, of TensorFlow's own operations only.

    Args:
      network: pixels [N, S, S, 3] -> logits, float32, free of devices and compiled parts.
      stats: statistics of its training set.
      config: how its pictures are prepared.
      labels_path: text file of the class names, a line each; becomes an asset of the export.
    """

    def __init__(self, network: keras.Model, stats: ImageStats, config: DataConfig, labels_path: str) -> None:
        super().__init__(name="alexnet")
        # The variables alone: a Keras model would take its whole object graph into the file.
        self.weights = {variable.path: variable.value for variable in network.weights}
        self.class_names = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(
                labels_path,
                tf.int64,
                tf.lookup.TextFileIndex.LINE_NUMBER,
                tf.string,
                tf.lookup.TextFileIndex.WHOLE_LINE,
            ),
            default_value="",
        )
        self._side = config.crop
        self._classes = int(network.output_shape[-1])
        self._shown = min(SHOWN_CLASSES, self._classes)
        hidden = keras.Model(network.input, network.get_layer(LAST_HIDDEN).output)
        self._gradient = input_gradient.function(network)
        # One function each, called by all signatures: the file holds everything once, and is traced once.
        pixels = tf.TensorSpec([None, self._side, self._side, 3], tf.float32, name="pixels")
        crops = tf.TensorSpec([None, self._side, self._side, 3], tf.uint8)
        self._logits = _traced(lambda x: network(x, training=False), pixels)
        self._hidden = _traced(lambda x: hidden(x, training=False), pixels)
        self._pixels = _traced(lambda x: preprocess.to_pixels(x, stats, config), crops)
        # [N, 10, S, S, 3]
        self._ten_pixels: Callable[[tf.Tensor], tf.Tensor] = lambda x: preprocess.to_pixels(x, stats, config)
        self._crops = _traced(
            lambda pictures: _map(
                lambda image_bytes: preprocess.evaluation_crop(image_bytes, config),
                _not_empty(pictures),
                tf.TensorSpec([self._side, self._side, 3], tf.uint8),
            ),
            *_BYTES,
        )
        # Traced here as well: while a model is saved, what both decode by would be traced once more.
        self._ten_crops = _traced(
            lambda pictures: _map(
                lambda image_bytes: preprocess.ten_crops(image_bytes, config),
                _not_empty(pictures),
                tf.TensorSpec([10, self._side, self._side, 3], tf.uint8),
            ),
            *_BYTES,
        )

    def signatures(self) -> dict[str, Any]:
        """Every signature under its name, as `tf.saved_model.save` takes them."""
        functions = {name: getattr(self, name) for name in FORMS}
        functions["pixels"] = self.pixels.get_concrete_function(*self._logits.structured_input_signature[0])
        return functions

    @tf.function(autograph=False, input_signature=_BYTES)
    def serving_default(self, image_bytes: tf.Tensor) -> Outputs:
        return self._best(self._probabilities_of(image_bytes))

    @tf.function(autograph=False, input_signature=_BYTES)
    def probabilities(self, image_bytes: tf.Tensor) -> Outputs:
        return {"probabilities": self._probabilities_of(image_bytes)}

    @tf.function(autograph=False, input_signature=_BYTES)
    def ten_crop(self, image_bytes: tf.Tensor) -> Outputs:
        crops = self._ten_crops(image_bytes)
        logits = self._logits(tf.reshape(self._ten_pixels(crops), [-1, self._side, self._side, 3]))
        each = tf.reshape(tf.nn.softmax(logits), [tf.size(image_bytes), 10, self._classes])
        return self._best(tf.reduce_mean(each, axis=1))  # section 4.1

    @tf.function(autograph=False)
    def pixels(self, pixels: tf.Tensor) -> Outputs:
        return {"logits": self._logits(_not_empty(pixels))}

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
    def classify(self, inputs: tf.Tensor) -> Outputs:
        features = {IMAGE_BYTES: tf.io.FixedLenFeature([], tf.string)}
        return self._best(self._probabilities_of(tf.io.parse_example(inputs, features)[IMAGE_BYTES]))

    @tf.function(autograph=False, input_signature=_BYTES)
    def features(self, image_bytes: tf.Tensor) -> Outputs:
        return {"fc7": self._hidden(self._pixels(self._crops(image_bytes)))}

    @tf.function(autograph=False, input_signature=_BYTES)
    def saliency(self, image_bytes: tf.Tensor) -> Outputs:
        crops = self._crops(image_bytes)
        best = tf.fill([tf.shape(crops)[0]], -1)
        # The network itself: the gradient of a function call would compute those of all weights too.
        _, gradient = self._gradient(self._pixels(crops), input_gradient.of_class(best))
        heatmap = heat.to_unit(tf.reduce_max(tf.abs(gradient), axis=-1))
        overlay = heat.overlay(crops, heatmap)
        png = _map(tf.io.encode_png, overlay, tf.TensorSpec([], tf.string))
        return {"heatmap": heatmap, "overlay_bytes": png}

    def _probabilities_of(self, image_bytes: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(self._logits(self._pixels(self._crops(image_bytes))))

    def _best(self, probabilities: tf.Tensor) -> Outputs:
        """The names and probabilities of the best classes, best first."""
        scores, labels = tf.math.top_k(probabilities, self._shown)
        return {"classes": self.class_names.lookup(tf.cast(labels, tf.int64)), "scores": scores}


def _traced(function: Callable[[tf.Tensor], tf.Tensor], takes: tf.TensorSpec) -> Any:
    """A function's graph, without AutoGraph's slow search for Python's control flow: there is none."""
    with apart.taken_in():
        return tf.function(function, autograph=False).get_concrete_function(takes)


def _map(function: Callable[[tf.Tensor], tf.Tensor], batch: tf.Tensor, gives: tf.TensorSpec) -> tf.Tensor:
    """Applies a function to each element of a batch, several at a time."""
    return tf.map_fn(function, batch, fn_output_signature=gives, parallel_iterations=DECODED_AT_ONCE)


def _not_empty(batch: tf.Tensor) -> tf.Tensor:
    """The batch, checked: an empty one, on which some CPU kernels fail obscurely, is a clear error."""
    check = tf.debugging.Assert(tf.shape(batch)[0] > 0, ["a request must hold at least one picture"])
    with tf.control_dependencies([check]):
        return tf.identity(batch)

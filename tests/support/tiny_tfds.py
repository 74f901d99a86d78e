"""Data sets for the tests of the TFDS source; a builder must live in a module that can be imported."""

import numpy as np
import tensorflow_datasets as tfds


class _Tiny(tfds.core.GeneratorBasedBuilder):
    """Pictures whose red channel is their number."""

    VERSION = tfds.core.Version("1.0.0")
    COUNTS = {"train": 40}  # noqa: RUF012 - a constant, replaced by subclasses

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self._features()))

    def _features(self):
        return {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        }

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in self.COUNTS}

    def _generate_examples(self, split):
        for number in range(self.COUNTS[split]):
            picture = np.full((4, 5, 3), (number, 0, 0), np.uint8)
            yield number, self._example(picture, number % 2)

    def _example(self, picture, label):
        return {"image": picture, "label": label}


class TinyTrainOnly(_Tiny):
    pass


class TinyThreeSplits(_Tiny):
    COUNTS = {"train": 20, "validation": 6, "test": 8}  # noqa: RUF012


class TinyUnlabelledTest(_Tiny):
    COUNTS = {"train": 20, "test": 8}  # noqa: RUF012

    def _generate_examples(self, split):
        for number, example in super()._generate_examples(split):
            yield number, example | ({"label": -1} if split == "test" else {})


class TinyTest(_Tiny):
    COUNTS = {"train": 20, "test": 8}  # noqa: RUF012


class TinyOtherNames(_Tiny):
    def _features(self):
        return {"photo": super()._features()["image"], "species": super()._features()["label"]}

    def _example(self, picture, label):
        return {"photo": picture, "species": label}


class TinySomeUnlabelled(_Tiny):
    COUNTS = {"train": 40}  # noqa: RUF012

    def _generate_examples(self, split):
        for number, example in super()._generate_examples(split):
            yield number, example | ({"label": -1} if number % 4 == 0 else {})


class TinySomeUnlabelledOfEach(TinySomeUnlabelled):
    COUNTS = {"train": 8, "validation": 6, "test": 5}  # noqa: RUF012


class TinyTestOnly(_Tiny):
    COUNTS = {"test": 6}  # noqa: RUF012


class TinyManyFeatures(_Tiny):
    """Two labels, and a picture of each type; pixels of 0.7 of the range."""

    def _features(self):
        image, label = tfds.features.Image, tfds.features.ClassLabel
        return {
            "photo": super()._features()["image"],
            "depth": image(shape=(None, None, 1), dtype=np.float32),
            "metres": image(shape=(None, None, 1), dtype=np.float32),
            "scan": image(shape=(None, None, 1), dtype=np.uint16, encoding_format="png"),
            "mask": tfds.features.LabeledImage(labels=2, shape=(None, None, 1)),
            "coarse": label(names=["pet", "bird"]),
            "fine": label(names=["cat", "dog", "owl"]),
        }

    def _example(self, picture, label):
        depth = np.full((4, 5, 1), 0.7, np.float32)
        return {
            "photo": picture,
            "depth": depth,
            "metres": depth * 3,
            "scan": np.full((4, 5, 1), 0.7 * 65535, np.uint16),
            "mask": np.zeros((4, 5, 1), np.uint8),
            "coarse": label,
            "fine": 2 * label,
        }


class TinyVideo(_Tiny):
    def _features(self):
        return {"clip": tfds.features.Video(shape=(None, 4, 5, 3)), "label": super()._features()["label"]}

    def _example(self, picture, label):
        return {"clip": picture[np.newaxis], "label": label}


class TinyTwoImages(_Tiny):
    def _features(self):
        image = super()._features()["image"]
        return {"left": image, "right": image, "label": super()._features()["label"]}

    def _example(self, picture, label):
        return {"left": picture, "right": picture, "label": label}


class TinyNoLabel(_Tiny):
    def _features(self):
        return {"image": super()._features()["image"]}

    def _example(self, picture, label):
        del label
        return {"image": picture}

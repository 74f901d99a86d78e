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

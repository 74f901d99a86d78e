"""What `--devices` asks for, held against a recipe as far as that goes without TensorFlow.

What cannot work is so refused at once: TensorFlow takes seconds to start, and the scan of large data minutes.
`placement` makes the devices of it.
"""

from __future__ import annotations

import dataclasses

from alexnet_tf.network import variants
from alexnet_tf.recipe import Recipe
from pipelines.errors import UserError

KINDS = ("one", "mirrored", "multi-worker", "towers")


@dataclasses.dataclass(frozen=True)
class DeviceChoice:
    """A value of `--devices`.

    Attributes:
      kind: one of KINDS.
      count: N of `mirrored:N`; None where it says none.
    """

    kind: str
    count: int | None = None

    @classmethod
    def parse(cls, text: str) -> DeviceChoice:
        """Reads `one`, `mirrored`, `mirrored:N`, `multi-worker` or `towers`.

        Raises:
          UserError: it is none of them.
        """
        kind, colon, number = text.partition(":")
        if kind not in KINDS or (colon and kind != "mirrored"):
            raise UserError(
                f"--devices must be one of {', '.join(KINDS)} (mirrored:N for N devices); received {text!r}"
            )
        if colon and not (number.isascii() and number.isdecimal() and int(number) > 0):
            raise UserError(f"--devices mirrored:N takes a number of devices; received {text!r}")
        return cls(kind, int(number) if colon else None)

    def check(self, recipe: Recipe, workers: int = 1) -> None:
        """Raises UserError where the recipe cannot be trained so.

        Args:
          recipe: of the training.
          workers: processes that train together, each with one replica or more.
        """
        if self.kind == "towers":
            variants.require_two_towers(recipe.variant)
            if recipe.xla:
                raise UserError("--devices towers: one XLA program has one device; leave out xla=true")
        check_batch(recipe, self.count or workers)


def check_batch(recipe: Recipe, replicas: int) -> None:
    """Raises UserError where a batch cannot be shared out between so many replicas."""
    if recipe.batch_size % (replicas * recipe.accumulation_steps):
        parts = "" if recipe.accumulation_steps == 1 else f" x {recipe.accumulation_steps} parts"
        raise UserError(
            f"`batch_size` must be a multiple of the {replicas} replicas{parts}; received {recipe.batch_size}"
        )

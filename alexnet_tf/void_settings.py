"""Errors for settings that do nothing beside the others; no TensorFlow import."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from alexnet_tf.recipe_fields import RecipeFields
from pipelines.errors import UserError


class _Rule(NamedTuple):
    """When a field has no effect, and what to say then.

    Attributes:
      field: its name.
      void: whether it does nothing in a recipe.
      because: what makes it void, in words that may hold fields in braces.
      cure: what would make it count.
      neutral: the value that asks for nothing; None where every value asks for something.
      kept: whether a recipe's own value must not become void unnoticed either.
    """

    field: str
    void: Callable[[RecipeFields], bool]
    because: str
    cure: str
    neutral: Any = None
    kept: bool = False


def _one_place(recipe: RecipeFields) -> bool:
    return recipe.resize + 2 * recipe.pad == recipe.crop


def _one_view(recipe: RecipeFields) -> bool:
    return _one_place(recipe) and not recipe.mirror


_SCHEDULE = "`schedule` is {schedule}"
_NO_ROOM = "`resize` + 2 `pad` leave a crop no room to move (resize={resize}, pad={pad}, crop={crop})"
_ROOM = "a larger resize or pad"

RULES = (
    _Rule("freeze_conv1", lambda r: r.schedule != "cosine", _SCHEDULE, "schedule=cosine", 1.0, kept=True),
    _Rule("plateau_patience", lambda r: r.schedule != "plateau", _SCHEDULE, "schedule=plateau"),
    _Rule("plateau_drops", lambda r: r.schedule != "plateau", _SCHEDULE, "schedule=plateau"),
    _Rule("plateau_patience", lambda r: r.plateau_drops == 0, "`plateau_drops` is 0", "plateau_drops=3"),
    _Rule(
        "colour_std",
        lambda r: r.colour_noise == "none",
        "`colour_noise` is none",
        "colour_noise=eigenvalue or colour_noise=deviation",
        0.0,
    ),
    *(
        _Rule(
            field,
            lambda r: r.colour_noise == "none" or r.colour_std == 0,
            "there is no colour noise (colour_noise={colour_noise}, colour_std={colour_std:g})",
            "a colour_noise that is not none and a colour_std over 0",
            neutral,
        )
        for field, neutral in (("colour_statistics", None), ("colour_rescale", False))
    ),
    _Rule("colour_noise", lambda r: r.colour_std == 0, "`colour_std` is 0", "colour_std=0.1", "none"),
    _Rule("mean_follows_crop", lambda r: r.mean != "image", "`mean` is {mean}", "mean=image", False),
    _Rule("mean_follows_crop", _one_view, _NO_ROOM, f"{_ROOM}, or mirror=true", False),
    _Rule("edge_crops", _one_place, _NO_ROOM, _ROOM, False),
    _Rule("share_crops", _one_view, _NO_ROOM, f"{_ROOM}, or mirror=true", 1),
)


def fields(recipe: RecipeFields) -> set[str]:
    """Names of the fields of a recipe that have no effect in it."""
    return {rule.field for rule in _broken(recipe)}


def check(before: RecipeFields, after: RecipeFields, settings: Mapping[str, str]) -> None:
    """Makes sure that every setting of a user has an effect.

    Args:
      before: the named recipe.
      after: the same with the user's settings.
      settings: fields and values as the user wrote them.

    Raises:
      UserError: a setting is void, or makes one of the recipe's own void unexpectedly.
    """
    for rule in _broken(after):
        value = getattr(after, rule.field)
        if value == rule.neutral:
            continue
        because = rule.because.format_map(vars(after))
        if rule.field in settings:
            raise UserError(
                f"--set {rule.field}={settings[rule.field]}: does nothing, since {because}; "
                f"leave it out, or set {rule.cure}"
            )
        if rule.kept and not rule.void(before):
            raise UserError(
                f"`{rule.field}` is {value} in recipe {before.name} and would do nothing, since {because}; "
                f"add --set {rule.field}={rule.neutral:g}, or keep {rule.cure}"
            )


def _broken(recipe: RecipeFields) -> Iterator[_Rule]:
    return (rule for rule in RULES if rule.void(recipe))

"""A setting that does nothing beside the others is refused, and what would make it count is said."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from alexnet_tf import recipe, void_settings
from alexnet_tf.run_record import Run
from pipelines.errors import UserError
from pipelines.pictures.statistics import ImageStats

REFUSED = [
    ("original", ["freeze_conv1=0.5"], "`schedule` is logged", "schedule=cosine"),
    ("paper", ["freeze_conv1=0.5"], "`schedule` is plateau", "schedule=cosine"),
    ("original", ["plateau_patience=3"], "`schedule` is logged", "schedule=plateau"),
    ("small_data", ["plateau_drops=2"], "`schedule` is cosine", "schedule=plateau"),
    ("paper", ["plateau_drops=0", "plateau_patience=3"], "`plateau_drops` is 0", "plateau_drops=3"),
    ("small_data", ["colour_std=0.2"], "`colour_noise` is none", "colour_noise=eigenvalue"),
    ("paper", ["colour_noise=none", "colour_std=0.2"], "`colour_noise` is none", "colour_noise=deviation"),
    ("small_data", ["colour_statistics=published"], "no colour noise (colour_noise=none", "a colour_noise"),
    ("paper", ["colour_std=0", "colour_rescale=true"], "colour_std=0)", "a colour_std over 0"),
    ("paper", ["colour_std=0", "colour_noise=deviation"], "`colour_std` is 0", "colour_std=0.1"),
    ("small_data", ["mean_follows_crop=true"], "`mean` is channel", "mean=image"),
    ("paper", ["resize=224", "edge_crops=true"], "no room to move (resize=224, pad=0", "a larger resize"),
    ("paper", ["resize=224", "mirror=false", "share_crops=4"], "no room to move", "mirror=true"),
]


@pytest.mark.parametrize(("name", "pairs", "because", "cure"), REFUSED)
def test_a_void_setting_is_one_line_with_the_cause_and_the_cure(name, pairs, because, cure):
    with pytest.raises(UserError) as caught:
        recipe.get(name).replace(recipe.parse_settings(pairs))
    message = str(caught.value)
    assert message.startswith(f"--set {pairs[-1]}: does nothing, since ")
    assert because in message
    assert cure in message.partition("leave it out, or set ")[2]
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("paper", ["schedule=cosine", "freeze_conv1=0.5"]),
        ("original", ["freeze_conv1=1", "warmup_steps=10", "bias_rate=1", "reference_batch_size=256"]),
        ("small_data", ["schedule=plateau", "freeze_conv1=1", "plateau_patience=3", "plateau_drops=1"]),
        ("paper", ["colour_noise=none"]),
        ("original", ["colour_noise=none", "colour_std=0", "colour_rescale=false"]),
        ("original", ["mean=channel", "mean_follows_crop=false"]),
        ("small_data", ["colour_noise=deviation", "colour_std=0.2", "colour_rescale=true"]),
        ("paper", ["resize=224", "share_crops=4"]),  # the mirror is shared
        ("paper", ["resize=224", "pad=16", "edge_crops=true"]),
    ],
)
def test_what_counts_or_asks_for_nothing_is_legal(name, pairs):
    settings = recipe.parse_settings(pairs)
    changed = recipe.get(name).replace(settings)
    assert changed == dataclasses.replace(
        recipe.get(name), **{field: getattr(changed, field) for field in settings}
    )


@pytest.mark.parametrize("name", recipe.RECIPES)
def test_recipes_as_they_are_stay_legal(name):
    assert recipe.get(name).replace({"seed": "1"}).seed == 1


def test_a_recipe_s_own_freezing_does_not_go_unnoticed():
    with pytest.raises(UserError) as caught:
        recipe.get("quickstart").replace({"schedule": "plateau"})
    assert str(caught.value) == (
        "`freeze_conv1` is 0.5 in recipe quickstart and would do nothing, since `schedule` is plateau; "
        "add --set freeze_conv1=1, or keep schedule=cosine"
    )


def test_fields_of_rules_exist_and_neutral_values_have_their_type():
    for rule in void_settings.RULES:
        value = getattr(recipe.PAPER, rule.field)
        assert rule.neutral is None or isinstance(rule.neutral, type(value)), rule.field


def test_a_run_begun_with_a_void_setting_goes_on_without_it(tmp_path):
    """Earlier versions took them in silence."""
    flat = np.zeros((4, 4, 3), np.float32)
    stats = ImageStats(np.ones(3, np.float32), np.eye(3, dtype=np.float32), flat, flat[0, 0], 1)
    run = Run.create(tmp_path, recipe.get("original"), "synthetic", ["a", "b"], stats)
    path = tmp_path / "recipe.json"
    record = json.loads(path.read_text())
    record["recipe"]["freeze_conv1"] = 0.5
    path.write_text(json.dumps(record))
    opened = Run.open(tmp_path)
    assert opened.recipe.freeze_conv1 == 0.5
    opened.check_same(run.recipe, "synthetic")
    with pytest.raises(UserError, match="schedule=logged there, cosine here"):
        opened.check_same(dataclasses.replace(run.recipe, schedule="cosine"), "synthetic")

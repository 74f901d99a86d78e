"""The recipes: the numbers of the paper and of its source, and what `--set` accepts."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest

from alexnet_tf import recipe, run_record
from alexnet_tf.network import variants
from alexnet_tf.recipe import Recipe
from pipelines import fields
from pipelines.config import DataConfig, PictureSettings
from pipelines.errors import DataError, UserError


def test_the_papers_numbers() -> None:
    paper = recipe.get("paper")
    assert (paper.batch_size, paper.learning_rate, paper.momentum, paper.weight_decay) == (
        128,
        0.01,
        0.9,
        0.0005,
    )
    assert (paper.epochs, paper.schedule, paper.plateau_drops, paper.warmup_steps) == (90.0, "plateau", 3, 0)
    assert (paper.dropout_rate, paper.bias_rate, paper.label_smoothing) == (0.5, 1.0, 0.0)
    assert (paper.variant, paper.initializer, paper.precision) == ("paper", "published", "float32")
    data = paper.data_config("synthetic")
    assert (data.resize, data.crop, data.pad, data.mirror, data.share_crops) == (256, 224, 0, True, 1)
    assert (data.colour_noise, data.colour_std, data.colour_divisor) == ("eigenvalue", 0.1, 1.0)
    assert (data.mean, data.pixel_divisor, data.shuffle) == ("image", 1.0, True)
    assert (data.crop_places**2 * 2, data.mean_moves) == (2048, True)  # "by a factor of 2048" [P 4.1]


def test_only_2012_and_the_smoke_test_name_their_precision() -> None:
    asked = {name: recipe.get(name).precision for name in recipe.RECIPES}
    assert {name for name, precision in asked.items() if precision == "float32"} == {
        "paper",
        "original",
        "smoke",
    }
    assert {name for name, precision in asked.items() if precision == "auto"} == {"quickstart", "small_data"}


def test_the_source_departs_from_the_text_in_rows_2_to_13() -> None:
    ours, theirs = (dataclasses.asdict(recipe.get(name)) for name in ("original", "paper"))
    assert {field: value for field, value in ours.items() if value != theirs[field]} == {
        "name": "original",
        "exif_orientation": False,
        "variant": "original",
        "bias_rate": 2.0,
        "schedule": "logged",
        "share_crops": 32,
        "colour_noise": "deviation",
        "colour_statistics": "published",
        "edge_crops": True,
        "mean_follows_crop": False,
        "colour_rescale": True,
        "shuffle": False,
        "partial_batch": True,
    }


@pytest.mark.parametrize("name", recipe.RECIPES)
def test_each_named_recipe_is_whole(name: str) -> None:
    found = recipe.get(name)
    assert found.name == name
    arch = variants.get(found.variant)
    data = found.data_config("folder:pictures")
    assert data.spec == "folder:pictures"
    assert data.crop == arch.input_size
    shared = {f.name for f in dataclasses.fields(DataConfig)} - {"spec"}
    assert {field: getattr(data, field) for field in shared} == {
        field: getattr(found, field) for field in shared
    }


def test_fields_stand_once_and_keep_the_order_of_recipe_json() -> None:
    names = [f.name for f in dataclasses.fields(Recipe)]
    shared = [f.name for f in dataclasses.fields(PictureSettings)]
    start = names.index("seed")
    assert names[start : start + len(shared)] == shared
    assert (names[0], names[start - 1], names[-1]) == ("name", "plateau_drops", "steps_per_call")
    for config in (Recipe, DataConfig):
        assert not set(vars(config).get("__annotations__", {})) & {*names}
    assert {"log_every", "checkpoint_every", "keep_checkpoints", "steps_per_call"} == recipe.CADENCE
    assert all(f.metadata["meaning"] for f in dataclasses.fields(Recipe))


def test_help_and_table_have_a_line_for_each_field() -> None:
    settable = [f.name for f in dataclasses.fields(Recipe) if f.name != "name"]
    lines = recipe.fields_help().splitlines()
    assert [line.split("=")[0].strip() for line in lines] == settable
    assert any(
        re.fullmatch(r"  batch_size=128 +pictures a step .* \[whole number, positive\]", x) for x in lines
    )
    head, rule, *rows = recipe.fields_table().splitlines()
    assert (head, rule) == ("| field | meaning | paper | range |", "| --- | --- | --- | --- |")
    assert [row.split("`")[1] for row in rows] == settable
    assert all(row.count(" | ") == 3 for row in rows)
    assert "| `momentum` | of the update rule (section 5) | 0.9 | number, in [0, 1) |" in rows


def test_the_pixels_size_follows_their_divisor() -> None:
    paper = recipe.get("paper")
    assert paper.pixel_std == 60.0
    assert paper.replace({"pixel_divisor": "15"}).pixel_std == 4.0


def test_recipes_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.get("paper").epochs = 1.0
    with pytest.raises(TypeError):
        recipe.RECIPES["mine"] = Recipe()


def test_an_unknown_recipe_lists_the_others() -> None:
    with pytest.raises(
        UserError,
        match="--recipe must be one of paper, original, quickstart, small_data, smoke; received 'alex'",
    ):
        recipe.get("alex")


def test_settings_take_the_type_of_their_field() -> None:
    settings = recipe.parse_settings(
        ["epochs = 2.5", "batch_size=32", "mirror=False", "schedule=cosine", "seed=-3"]
    )
    changed = recipe.get("paper").replace(settings)
    assert (changed.epochs, changed.batch_size, changed.mirror) == (2.5, 32, False)
    assert (changed.schedule, changed.seed, changed.name) == ("cosine", -3, "paper")
    unchanged = {"epochs", "batch_size", "mirror", "schedule", "seed"}
    ours, theirs = (dataclasses.asdict(r) for r in (changed, recipe.get("paper")))
    assert {field for field in ours if ours[field] != theirs[field]} == unchanged


@pytest.mark.parametrize("field", ["learning_rat", "name", "spec", "scaled_learning_rate", ""])
def test_an_unknown_field_lists_all_fields(field: str) -> None:
    with pytest.raises(UserError) as caught:
        recipe.get("paper").replace({field: "1"})
    message = str(caught.value)
    assert message.startswith(f"--set {field}: no such field; legal: ")
    legal = message.partition("legal: ")[2].split(", ")
    assert legal == sorted({f.name for f in dataclasses.fields(Recipe)} - {"name"})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs=many", r"--set epochs: must be of type float; received 'many'"),
        ("batch_size=1.5", r"--set batch_size: must be of type int; received '1.5'"),
        ("batch_size=", r"--set batch_size: must be of type int; received ''"),
        ("mirror=yes", r"--set mirror: must be true or false; received 'yes'"),
        ("schedule=step", r"`schedule` must be one of plateau, logged, cosine; received 'step'"),
        ("precision=float16", r"`precision` must be one of auto, float32, bfloat16; received 'float16'"),
        ("variant=vgg", r"`variant` must be one of paper, original, .*; received 'vgg'"),
        ("initializer=xavier", r"`initializer` must be one of published, he; received 'xavier'"),
        ("batch_size=0", r"`batch_size` must be positive; received 0"),
        ("epochs=-1", r"`epochs` must be positive; received -1.0"),
        ("learning_rate=nan", r"`learning_rate` must be .*; received nan"),
        ("epochs=inf", r"`epochs` must be .*; received inf"),
        ("momentum=1", r"`momentum` must lie in \[0, 1\); received 1.0"),
        ("weight_decay=-1", r"`weight_decay` must .*; received -1.0"),
        ("bias_rate=-1", r"`bias_rate` must .*; received -1.0"),
        ("warmup_steps=-1", r"`warmup_steps` must .*; received -1"),
        ("plateau_drops=-1", r"`plateau_drops` must .*; received -1"),
        ("checkpoint_every=-1", r"`checkpoint_every` must .*; received -1"),
        ("dropout_rate=1", r"`dropout_rate` must lie in \[0, 1\); received 1.0"),
        ("label_smoothing=1", r"`label_smoothing` must lie in \[0, 1\); received 1.0"),
        ("freeze_conv1=0", r"`freeze_conv1` must lie in \(0, 1\]; received 0.0"),
        ("resize=200", r"`crop` must fit into `resize`"),
        ("val_fraction=1", r"`val_fraction` must lie between 0 and 1; received 1.0"),
        ("colour_noise=loud", r"`colour_noise` must be one of .*; received 'loud'"),
        ("colour_noise", r"--set takes field=value; received 'colour_noise'"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(setting: str, message: str) -> None:
    with pytest.raises((UserError, DataError), match=message) as caught:
        recipe.get("paper").replace(recipe.parse_settings([setting]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "field", [f.name for f in dataclasses.fields(Recipe) if type(f.default) in (int, float)]
)
def test_no_number_is_too_large_to_compute_with(field: str) -> None:
    """Of whichever field: the largest that is legal fits into the int64 and the float32 of the graph."""
    kind = type(getattr(recipe.PAPER, field))
    for text in ("5000000000000000000", "-" + "9" * 30) if kind is int else ("1e39", "-inf", "nan"):
        with pytest.raises((UserError, DataError)) as caught:
            recipe.get("paper").replace({field: text})
        assert f"`{field}` must " in str(caught.value) or "would do nothing" in str(caught.value)
        assert len(str(caught.value)) < 200
    assert 1000 * fields.LARGEST[int] + 1000 < 2**63  # seeds of layers (`model.build`)
    assert np.isfinite(np.float32(fields.LARGEST[float]))


def test_a_crop_that_the_network_does_not_take_is_named() -> None:
    with pytest.raises(UserError, match=r"`crop` must be 227 .*caffe.*received 224"):
        recipe.get("paper").replace({"variant": "caffe"})
    assert recipe.get("paper").replace({"variant": "caffe", "crop": "227"}).crop == 227


class TestResizeRules:
    def test_a_name_with_its_size_sets_both(self):
        changed = recipe.get("paper").replace({"resize_rule": "squash_224"})
        assert (changed.resize_rule, changed.resize, changed.crop) == ("squash", 224, 224)
        changed = recipe.get("paper").replace({"resize_rule": "warp_256"})
        assert changed == recipe.get("paper").replace({"resize_rule": "warp"})
        assert recipe.get("paper").replace({"resize_rule": "short_side_256"}) == recipe.get("paper")

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            (
                {"resize_rule": "warp_256", "resize": "240"},
                "another size than `resize`; .*, resize=240",
            ),
            ({"resize_rule": "squash"}, "`resize` must be `crop` .* resize=256, crop=224"),
            ({"resize_rule": "squash_256"}, "`resize` must be `crop`"),
            ({"resize_rule": "fit"}, "`resize_rule` must be one of short_side, warp, squash, alone or as in"),
            ({"resize_rule": "warp_"}, "`resize_rule` must be one of"),
        ],
    )
    def test_contradictions_are_refused_in_a_line(self, settings, words):
        with pytest.raises(DataError, match=words):
            recipe.get("paper").replace(settings)


def test_photographs_are_turned_upright_but_in_2012():
    upright = {name: known.exif_orientation for name, known in recipe.RECIPES.items()}
    assert upright == {name: name != "original" for name in recipe.RECIPES}
    assert run_record.OLD_RUN_DEFAULTS["exif_orientation"] is False

"""Fields that describe themselves: what is legal, the errors, and the words for help and documentation."""

from __future__ import annotations

import dataclasses
import math

import pytest

from pipelines import fields
from pipelines.config import DataConfig, PictureSettings
from pipelines.errors import DataError, UserError
from pipelines.fields import Description, OneOf, setting


@dataclasses.dataclass(frozen=True)
class Size:
    side: int = setting(4, "side in pixels", fields.POSITIVE, more="both ways")


@dataclasses.dataclass(frozen=True)
class Drawing(Size):
    colour: str = setting("red", "of the pen", OneOf(("red", "blue")), seen=True)
    filled: bool = setting(False, "whether there is anything inside")
    share: float = setting(0.25, "of the page", fields.BELOW_ONE)
    height: float = setting(1.0, "above the page")


def test_a_field_is_an_ordinary_one_that_says_what_it_means():
    assert Drawing() == Drawing(4, "red", False, 0.25, 1.0)
    by_name = {field.name: field for field in dataclasses.fields(Drawing)}
    assert list(by_name) == ["side", "colour", "filled", "share", "height"]
    assert by_name["colour"].metadata["meaning"] == "of the pen"
    assert by_name["colour"].metadata["seen"]
    assert list(fields.describe(Drawing)) == [
        Description("side", "side in pixels", "both ways", "4", "whole number, positive"),
        Description("colour", "of the pen", "", "red", "red, blue"),
        Description("filled", "whether there is anything inside", "", "false", "true or false"),
        Description("share", "of the page", "", "0.25", "number, in [0, 1)"),
        Description("height", "above the page", "", "1", "number"),
    ]


@pytest.mark.parametrize(
    ("drawing", "message"),
    [
        (Drawing(side=0), "`side` must be positive; received 0"),
        (Drawing(colour="green"), "`colour` must be one of red, blue; received 'green'"),
        (Drawing(share=1.0), "`share` must lie in [0, 1); received 1.0"),
        (Drawing(share=math.nan), "`share` must lie in [0, 1); received nan"),
        (
            Drawing(side=5 * 10**18),
            "`side` must lie between -9007199254740992 and 9007199254740992; received 5000000000000000000",
        ),
        (Drawing(height=1e39), "`height` must lie between -3.4e+38 and 3.4e+38; received 1e+39"),
        (Drawing(height=math.nan), "`height` must lie between -3.4e+38 and 3.4e+38; received nan"),
        (Drawing(height=-math.inf), "`height` must lie between -3.4e+38 and 3.4e+38; received -inf"),
    ],
)
def test_an_illegal_value_is_an_error_of_the_kind_that_is_wanted(drawing, message):
    for kind in (UserError, DataError):
        with pytest.raises(kind) as caught:
            fields.check(drawing, kind)
        assert str(caught.value) == message


def test_the_fields_of_one_base_can_be_checked_alone():
    wrong = Drawing(colour="green")
    fields.check(wrong, UserError, Size)
    with pytest.raises(UserError, match="colour"):
        fields.check(wrong, UserError, Drawing)


def test_names_are_read_when_a_value_is_checked():
    names = {"a": 1}
    legal = OneOf(names)
    assert legal.complaint("b")
    names["b"] = 2
    assert not legal.complaint("b")
    assert str(legal) == "a, b"


@pytest.mark.parametrize(
    ("legal", "inside", "outside"),
    [
        (fields.POSITIVE, (1e-9, 1, 1e9), (0, -1, math.inf, math.nan)),
        (fields.NOT_NEGATIVE, (0, 1e9), (-1e-9, math.inf, math.nan)),
        (fields.BELOW_ONE, (0, 0.999), (1, -0.1, math.nan)),
        (fields.UP_TO_ONE, (1e-9, 1), (0, 1.1, math.nan)),
        (fields.BETWEEN, (0.001, 0.999), (0, 1, math.nan)),
        (fields.ONE_OR_MORE, (1, 7), (0, 0.5, math.inf, math.nan)),
    ],
)
def test_ranges_end_where_they_say(legal, inside, outside):
    assert all(not legal.complaint(value) for value in inside)
    assert all(legal.complaint(value) == f"{legal.must}; received {value}" for value in outside)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"pad": -1}, "`pad` must lie between 0 and 8192; received -1"),
        ({"colour_std": math.nan}, "`colour_std` must be 0 or more; received nan"),
        ({"share_crops": 0}, "`share_crops` must be 1 or more; received 0"),
        ({"pixel_divisor": 0.0}, "`pixel_divisor` must be positive; received 0.0"),
        ({"val_fraction": 1.0}, "`val_fraction` must lie between 0 and 1; received 1.0"),
        ({"mean": "median"}, "`mean` must be one of image, channel; received 'median'"),
        (
            {"colour_statistics": "own"},
            "`colour_statistics` must be one of training_set, published; received 'own'",
        ),
    ],
)
def test_the_input_pipeline_s_settings_are_checked_without_a_recipe_too(setting, message):
    with pytest.raises(DataError) as caught:
        DataConfig(**setting)
    assert str(caught.value) == message


def test_the_spec_comes_before_the_settings_that_recipes_share():
    names = [field.name for field in dataclasses.fields(DataConfig)]
    assert names == ["spec", *(field.name for field in dataclasses.fields(PictureSettings))]

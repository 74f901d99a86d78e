"""The architectures as data: the paper's numbers, and in what each variant departs from them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from alexnet_tf.network import variants
from pipelines.errors import UserError


def _departures(name: str, base: str = "paper") -> dict[str, object]:
    ours, theirs = (dataclasses.asdict(variants.get(n)) for n in (name, base))
    return {field: ours[field] for field in ours if ours[field] != theirs[field]}


def test_the_papers_numbers() -> None:
    paper = variants.get("paper")
    assert paper.filters == (96, 256, 384, 384, 256)
    assert paper.hidden == 4096
    assert (paper.input_size, paper.conv1_padding) == (224, (0, 3))
    assert dataclasses.astuple(paper.channel_norm) == (2.0, 1e-4, 0.75, 5, True)
    assert paper.spatial_norm is None
    assert paper.weight_std == (0.01,) * 8
    ones = {layer for layer, bias in zip(variants.LAYERS, paper.bias, strict=True) if bias == 1.0}
    assert ones == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert set(paper.bias) == {0.0, 1.0}
    assert paper.dropout == "paper"
    assert (paper.layout, paper.towers, paper.groups) == ("two_tower", ("_a", "_b"), 1)


def test_the_source_departs_from_the_text_in_rows_2_to_6() -> None:
    norm = {"k": 2.0, "alpha": 1e-4 / 5, "beta": 0.75, "size": 5, "across_towers": False}
    assert _departures("original") == {
        "relu1_after_pool": True,
        "channel_norm": pytest.approx(norm),
        "spatial_norm": pytest.approx({"alpha": 0.001 / 25, "beta": 0.75, "size": 5}),
        "weight_std": (0.01, 0.01, 0.03, 0.03, 0.03, 0.01, 0.01, 0.01),
    }


@pytest.mark.parametrize(
    ("name", "departures"),
    [
        ("merged", {"layout": "merged"}),
        ("half", {"layout": "single", "filters": (48, 128, 192, 192, 256)}),
        ("no_normalization", {"channel_norm": None}),
        ("non_overlapping_pooling", {"pool_size": 2, "conv2_padding": 1, "conv5_padding": 0}),
        ("conv6", {"conv6": True}),
    ],
)
def test_an_ablation_changes_nothing_else(name: str, departures: dict[str, object]) -> None:
    assert _departures(name) == departures


def test_caffes_numbers() -> None:
    caffe = variants.get("caffe")
    assert (caffe.input_size, caffe.conv1_padding, caffe.layout) == (227, (0, 0), "merged")
    assert (caffe.channel_norm.k, caffe.channel_norm.alpha) == (1.0, pytest.approx(1e-4 / 5))
    assert caffe.weight_std == (0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.005, 0.01)
    assert caffe.bias == tuple(0.1 * bias for bias in variants.get("paper").bias)
    assert caffe.dropout == "inverted"
    assert _departures("caffenet", "caffe") == {"norm_after_pool": True, "bias": variants.get("paper").bias}


def test_torchvisions_numbers() -> None:
    single = variants.get("one_weird_trick")
    assert single.filters == (64, 192, 384, 256, 256)
    assert (single.layout, single.conv1_padding, single.channel_norm) == ("single", (2, 2), None)
    assert single.dropout == "inverted_before"


def test_an_unknown_variant_lists_the_others() -> None:
    with pytest.raises(
        UserError, match=r"`variant` must be one of paper, original, merged.*received 'alexnet'"
    ):
        variants.get("alexnet")


def test_recipes_and_variants_import_no_tensorflow() -> None:
    modules = "alexnet_tf.network.variants, alexnet_tf.recipe, alexnet_tf.training.schedule"
    code = f"import sys, {modules}; print('tensorflow' in sys.modules or 'keras' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"

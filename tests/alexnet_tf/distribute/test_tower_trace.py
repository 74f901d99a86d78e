"""What each device works on, and what goes between the towers' devices, in the graphs that really run."""

from __future__ import annotations

import pytest

from tests.support import bfloat16_here, two_devices

TRACE = """
def traced(variant, policy="float32", fused_update=False, frozen=False):
    network = towers.build(variant, 10, devices=DEVICES, dtype_policy=policy, fused=True)
    step, _ = trainer(network, fused_update, frozen)
    found = tower_trace.trace(lambda: step(*pictures(4)))
    operations = {d: {" ".join(k): n for k, n in counts.items()} for d, counts in found.operations.items()}
    crossings = [{**dataclasses.asdict(c), "bytes": c.bytes} for c in found.crossings]
    print(json.dumps({"crossings": crossings, "operations": operations}))

traced("original")
traced("paper", "POLICY", fused_update=True)
traced("no_normalization", frozen=True)

# A pin of the forward pass alone, as `with tf.device` in a layer's call would be.
def forward_only(device, name, function, *tensors):
    with tf.device(device), tf.name_scope(f"forward/{name}/"):
        return function(*tensors)

towers.run_on = forward_only
traced("no_normalization")
"""
PIXELS = 4 * 70 * 70 * 3  # four pictures of 67 pixels and their padding
# Half the channels of pool2 and of pool5, and half of the hidden units: what one tower has for the other.
HALVES = {"conv3": 4 * 3 * 3 * 16, "fc6": 4 * 1 * 1 * 16, "fc7": 4 * 32}


@pytest.fixture(scope="module")
def traces() -> dict[str, dict]:
    names = ("original", "paper", "frozen", "forward only")
    script = TRACE.replace("POLICY", bfloat16_here.policy())
    return dict(zip(names, two_devices.run(script), strict=True))


def _meetings(trace: dict) -> dict[tuple[str, str, str], int]:
    """Bytes by (place, phase, sender), of everything that belongs to a layer; each crosses once."""
    meetings = {}
    for crossing in trace["crossings"]:
        if crossing["place"]:
            key = crossing["place"], crossing["phase"], crossing["source"]
            assert key not in meetings
            assert {crossing["source"], crossing["destination"]} == {"CPU:0", "CPU:1"}
            meetings[key] = crossing["bytes"]
    return meetings


def _expected(size: int) -> dict[tuple[str, str, str], int]:
    """The meetings of the 2012 layout with elements of `size` bytes, worked by hand."""
    meetings = {("pad", "forward", "CPU:0"): PIXELS * size}
    for place, elements in HALVES.items():
        for phase in ("forward", "backward"):
            meetings |= {(place, phase, device): elements * size for device in ("CPU:0", "CPU:1")}
    # fc8 is on the first device alone: b's half of fc7 goes there, and its gradient comes back.
    return meetings | {
        ("fc8", "forward", "CPU:1"): 4 * 32 * size,
        ("fc8", "backward", "CPU:0"): 4 * 32 * size,
    }


def test_the_towers_of_2012_talk_at_conv3_fc6_fc7_and_fc8_only(traces) -> None:
    assert _meetings(traces["original"]) == _expected(4)


def test_a_normalisation_across_towers_sends_two_maps_each_way(traces) -> None:
    halos = {"lrn1": 4 * 15 * 15 * 2, "lrn2": 4 * 7 * 7 * 2}
    size, dtype = (2, "bfloat16") if bfloat16_here.is_computed() else (4, "float32")
    expected = _expected(size) | {
        (place, phase, device): elements * size
        for place, elements in halos.items()
        for phase in ("forward", "backward")
        for device in ("CPU:0", "CPU:1")
    }
    assert _meetings(traces["paper"]) == expected
    assert {c["dtype"] for c in traces["paper"]["crossings"] if c["place"]} == {dtype}


def test_beside_the_meetings_only_scalars_cross(traces) -> None:
    for name in ("original", "paper", "frozen"):
        others = [crossing for crossing in traces[name]["crossings"] if not crossing["place"]]
        assert others  # the rates, and the norms of the gradients
        assert [c for c in others if c["bytes"] is None or c["bytes"] > 8] == []


KERNELS = (
    *("Conv2D", "BatchMatMulV2", "MatMul", "MaxPool"),
    *("Conv2DBackpropFilter", "Conv2DBackpropInput", "MaxPoolGrad"),
)


def _kernels(trace: dict) -> dict[str, dict[str, int]]:
    return {
        device: {name: n for name, n in sorted(counts.items()) if name.partition(" ")[2] in KERNELS}
        for device, counts in trace["operations"].items()
    }


def test_each_device_works_on_its_tower_forward_and_backward(traces) -> None:
    tower = {
        "forward Conv2D": 5,
        "forward MatMul": 2,  # fc6 and fc7
        "forward MaxPool": 3,
        "backward Conv2DBackpropFilter": 5,
        "backward Conv2DBackpropInput": 4,  # nobody asks for the gradient of the pixels
        "backward MatMul": 4,
        "backward MaxPoolGrad": 3,
    }
    # In float32 conv3, conv4 and conv5 are each 16 products at once forward, and twice as many backward.
    winograd = {
        "forward Conv2D": 2,
        "forward BatchMatMulV2": 3,
        "backward Conv2DBackpropFilter": 2,
        "backward Conv2DBackpropInput": 1,
        "backward BatchMatMulV2": 6,
    }
    fc8 = {"forward MatMul": 3, "backward MatMul": 6}
    in_paper = tower if bfloat16_here.is_computed() else tower | winograd
    assert _kernels(traces["paper"]) == {"CPU:0": in_paper | fc8, "CPU:1": in_paper}
    assert _kernels(traces["original"]) == {"CPU:0": tower | fc8 | winograd, "CPU:1": tower | winograd}


def test_a_frozen_conv1_saves_its_share_of_the_backward_pass(traces) -> None:
    for counts in _kernels(traces["frozen"]).values():
        assert counts["backward Conv2DBackpropFilter"] == 1  # conv2
        assert "backward Conv2DBackpropInput" not in counts
        assert counts["backward BatchMatMulV2"] == 6
        assert counts["backward MaxPoolGrad"] == 2


def test_pinning_the_forward_pass_leaves_the_backward_pass_on_one_device(traces) -> None:
    kernels = _kernels(traces["forward only"])
    assert [kernels["CPU:1"][f"forward {name}"] for name in ("Conv2D", "BatchMatMulV2")] == [2, 3]
    assert "backward Conv2DBackpropFilter" not in kernels["CPU:1"]
    assert kernels["CPU:0"]["backward Conv2DBackpropFilter"] == 4
    # A gradient of our own is told from the forward pass by `run_on` alone.
    products = {
        device: sum(n for name, n in counts.items() if name.endswith("BatchMatMulV2"))
        for device, counts in kernels.items()
    }
    assert products == {"CPU:0": 3 + 12, "CPU:1": 3}

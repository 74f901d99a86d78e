"""A tower on each of two devices trains as both on one do."""

from __future__ import annotations

import pytest

from tests.support import two_devices

TRAIN = """
def arrays(network, optimizer):
    found = checkpoint.training_arrays(network, optimizer)
    return {name: np.array(array) for name, array in checkpoint.join_halves(found).items()}

for variant, fused in (("paper", True), ("original", False), ("conv6", False)):
    one = networks(variant)[0]
    two = networks(variant, fused=fused)[1]
    trainers = [trainer(one, False), trainer(two, fused)]
    before = [arrays(network, optimizer) for network, (_, optimizer) in zip((one, two), trainers)]
    losses = [[float(step(*pictures(4, seed))) for seed in range(3)] for step, _ in trainers]
    after = [arrays(network, optimizer) for network, (_, optimizer) in zip((one, two), trainers)]
    figures = {
        "variant": variant,
        "same_names": list(after[0]) == [*after[1]] or set(after[0]) == set(after[1]),
        "same_start": all(np.array_equal(before[0][n], before[1][n]) for n in before[0]),
        "losses": losses,
        "seeds": [[after[i][n].tolist() for n in sorted(after[i]) if n.startswith("seed/")] for i in (0, 1)],
        "difference": {n: float(np.abs(after[0][n] - after[1][n]).max()) for n in after[0]},
        "movement": {n: float(np.abs(after[0][n] - before[0][n]).max()) for n in after[0]},
    }
    print(json.dumps(figures))
"""


def test_training_is_that_of_one_device() -> None:
    for figures in two_devices.run(TRAIN):
        assert figures["same_names"]
        assert figures["same_start"]
        one, two = figures["losses"]
        assert two == pytest.approx(one, rel=1e-5)
        assert one[0] != pytest.approx(one[2], rel=1e-2)
        assert figures["seeds"][0] == figures["seeds"][1]
        for name, moved in figures["movement"].items():
            if name.startswith("network/"):
                # Both halves of every layer have learnt, and the same.
                assert figures["difference"][name] < 1e-2 * moved, name
                assert figures["difference"][name] < 1e-5, name

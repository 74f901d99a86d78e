"""Every step of each learning-rate rule against an implementation written apart from it."""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction

import pytest

from alexnet_tf import recipe
from alexnet_tf.recipe import Recipe
from alexnet_tf.training.schedule import Rates, Schedule, total_steps

STEPS_PER_EPOCH = 7


def _schedule(**settings) -> Schedule:
    return Schedule(Recipe(**settings), STEPS_PER_EPOCH)


def test_cosine_falls_from_the_warm_up_to_nothing() -> None:
    schedule = _schedule(
        schedule="cosine",
        epochs=20.0,
        warmup_steps=10,
        learning_rate=0.02,
        batch_size=64,
        reference_batch_size=64,
    )
    assert schedule.total_steps == 140
    for step in range(140):
        if step < 10:
            expected = 0.02 * (step + 1) / 10
        else:
            expected = 0.02 * math.cos(math.pi / 2 * (step - 10) / 130) ** 2  # half-angle form
        rates = schedule.rates(step)
        assert rates == pytest.approx((expected, expected, expected, 1.0), rel=1e-12, abs=1e-15), step
    assert schedule.rates(139).weights < 3e-6


def test_conv1_may_reach_0_on_a_cosine_of_its_own() -> None:
    schedule = _schedule(schedule="cosine", epochs=20.0, freeze_conv1=0.25, learning_rate=0.02)
    for step in range(140):
        rates = schedule.rates(step)
        share = step / 140
        assert rates.weights == pytest.approx(0.02 * math.cos(math.pi / 2 * share) ** 2)
        assert rates.conv1 == pytest.approx(
            0.02 * math.cos(math.pi / 2 * share / 0.25) ** 2 if share < 0.25 else 0.0
        )
    assert [schedule.rates(step).conv1 == 0.0 for step in (34, 35, 139)] == [False, True, True]


def test_plateau_holds_the_rate_and_divides_it_three_times() -> None:
    schedule = _schedule(plateau_patience=2, warmup_steps=3, learning_rate=0.01)
    errors = [0.9, 0.8, 0.8, 0.85, 0.7, 0.7, 0.7, 0.71, 0.72, 0.73, 0.74, 0.75, 0.76, 0.77]
    #         best best  1    2 ->  best 1    2 ->  1    2 ->  (three drops: no more)
    drops = [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3]
    for epoch, (error, expected) in enumerate(zip(errors, drops, strict=True)):
        before = schedule.drops
        assert schedule.evaluated(error) == (expected > before), epoch
        for step in range(epoch * STEPS_PER_EPOCH, (epoch + 1) * STEPS_PER_EPOCH):
            warm = min(1.0, (step + 1) / 3)
            rate = 0.01 * warm * (1.0, 0.1, 0.01, 0.001)[expected]
            assert schedule.rates(step) == pytest.approx((rate, rate, rate, 1.0), rel=1e-12)


def test_patience_counts_from_the_best_error_or_the_last_drop() -> None:
    schedule = _schedule(plateau_patience=3)
    assert [schedule.evaluated(error) for error in (0.5, 0.5, 0.5, 0.5)] == [False, False, False, True]
    assert [schedule.evaluated(error) for error in (0.5, 0.5, 0.5)] == [False, False, True]
    assert [schedule.evaluated(error) for error in (0.4, 0.41, 0.41, 0.39, 0.4, 0.4)] == [False] * 6
    assert schedule.evaluated(0.4)


def test_only_the_plateau_rule_listens_to_evaluations() -> None:
    for name in ("logged", "cosine"):
        schedule = _schedule(schedule=name, plateau_patience=1)
        before = [schedule.rates(step) for step in range(100)]
        assert not any(schedule.evaluated(1.0) for _ in range(5))
        assert [schedule.rates(step) for step in range(100)] == before


# The diary of the 2012 run: from epoch (1 is the first), rate of weights, of biases, of conv1's weights,
# and whether there is colour noise.
DIARY = [
    (1, 0.01, 0.02, 0.01, 1.0),
    (25, 0.001, 0.02, 0.001, 1.0),
    (51, 0.0001, 0.02, 0.0001, 1.0),
    (67, 0.0001, 0.02, 0.00001, 0.0),
    (72, 0.0001, 0.02, 0.0, 0.0),
    (79, 0.00001, 0.02, 0.0, 0.0),
]


def test_original_follows_the_diary_at_every_step() -> None:
    original = recipe.get("original")
    schedule = Schedule(original, STEPS_PER_EPOCH)
    assert schedule.total_steps == 90 * STEPS_PER_EPOCH  # it stopped when epoch 91 would have begun
    for step in range(schedule.total_steps):
        epoch = step // STEPS_PER_EPOCH + 1
        expected = next(row for row in reversed(DIARY) if row[0] <= epoch)[1:]
        assert schedule.rates(step) == pytest.approx(expected, rel=1e-12), epoch
    assert schedule.rates(24 * STEPS_PER_EPOCH - 1).weights == pytest.approx(0.01)
    assert schedule.rates(24 * STEPS_PER_EPOCH).weights == pytest.approx(0.001)


def test_the_diary_takes_the_biases_rate_from_the_recipe() -> None:
    twice, once = (_schedule(schedule="logged", bias_rate=rate) for rate in (2.0, 1.0))
    for step in (0, 30 * STEPS_PER_EPOCH):
        assert once.rates(step).biases == pytest.approx(0.01)
        assert twice.rates(step)._replace(biases=0.01) == once.rates(step)


@pytest.mark.parametrize("name", ["paper", "original", "small_data"])
def test_twice_the_batch_is_twice_every_rate(name: str) -> None:
    single = recipe.get(name)
    double = dataclasses.replace(single, batch_size=2 * single.batch_size)
    assert double.scaled_learning_rate == pytest.approx(2 * single.scaled_learning_rate)
    for step in range(0, 600, 13):
        ours, theirs = (Schedule(r, STEPS_PER_EPOCH).rates(step) for r in (double, single))
        assert ours[:3] == pytest.approx([2 * rate for rate in theirs[:3]], rel=1e-12)
        assert ours.colour == theirs.colour


def test_biases_move_at_their_multiple() -> None:
    rates = _schedule(bias_rate=2.0).rates(0)
    assert rates == Rates(0.01, 0.02, 0.01, 1.0)


def test_the_state_of_a_schedule_is_enough_to_go_on() -> None:
    first = _schedule(plateau_patience=2)
    errors = [0.9, 0.8, 0.85, 0.86, 0.7, 0.75, 0.76, 0.77, 0.6, 0.65, 0.65, 0.65]
    whole = [(first.evaluated(error), first.rates(0)) for error in errors]
    for stop in range(len(errors)):
        before, after = _schedule(plateau_patience=2), _schedule(plateau_patience=2)
        for error in errors[:stop]:
            before.evaluated(error)
        after.restore(before.state())
        assert [(after.evaluated(error), after.rates(0)) for error in errors[stop:]] == whole[stop:]


@pytest.mark.parametrize(
    ("evaluate_every", "steps_per_epoch"), [(0.1, 10_009), (0.1, 10), (0.7, 1000), (1 / 3, 9), (0.3, 7)]
)
def test_evaluations_meet_every_end_of_an_epoch_that_they_should(evaluate_every, steps_per_epoch) -> None:
    """In floats the tenth tenth of 10,009 steps ends one step after them."""
    schedule = Schedule(Recipe(evaluate_every=evaluate_every, epochs=3.0), steps_per_epoch)
    due = [step for step in range(1, 3 * steps_per_epoch + 1) if schedule.evaluation_due(step)]
    # By whole numbers: the first step at or past each multiple.
    numerator, denominator = Fraction(str(evaluate_every)).as_integer_ratio()
    multiples = range(1, 3 * denominator // numerator + 1)
    expected = {-(-k * numerator * steps_per_epoch // denominator) for k in multiples}
    assert due == sorted(expected | {3 * steps_per_epoch})


def test_an_evaluation_s_interval_may_be_shorter_than_a_step() -> None:
    schedule = Schedule(Recipe(evaluate_every=0.01, epochs=1.0), 7)
    assert all(schedule.evaluation_due(step) for step in range(1, 8))


def test_conv1_is_frozen_at_the_very_step() -> None:
    for total in range(1, 400):
        for hundredths in (1, 7, 29, 40, 57, 58, 90):
            at = Fraction(hundredths, 100) * total
            if at.denominator == 1 and at < total:
                schedule = Schedule(
                    Recipe(schedule="cosine", epochs=1.0, freeze_conv1=hundredths / 100), total
                )
                rests = [schedule.rates(step).conv1 == 0.0 for step in (int(at) - 1, int(at))]
                assert rests == [False, True], (total, hundredths)


@pytest.mark.parametrize(("epochs", "steps"), [(90.0, 630), (0.5, 4), (1.5, 10), (0.01, 1)])
def test_epochs_may_be_a_fraction(epochs: float, steps: int) -> None:
    assert total_steps(Recipe(epochs=epochs), STEPS_PER_EPOCH) == steps


def test_epochs_are_counted_in_decimals() -> None:
    assert 0.575 * 100 < 57.5
    assert total_steps(Recipe(epochs=0.575), 100) == 58

"""Copies are found without comparing all pairs, and none is missed that comparing all pairs would find."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy import fft

from pipelines.inspect import duplicates, hashing
from pipelines.inspect.hashing import Hashes
from tests.support.pictures import textured

BITS = 40


def flipped_bits(generator, words, count):
    """The words of a hash with `count` of their bits changed."""
    bits = np.unpackbits(np.atleast_1d(words).view(np.uint8))
    bits[generator.permutation(len(bits))[:count]] ^= 1
    return np.packbits(bits).view(np.uint64)


def reversed_bits(words):
    """What stands for the hashes of mirror images: a mirror image's own is the picture's again."""
    bits = np.unpackbits(words.view(np.uint8).reshape(len(words), -1), axis=1)[:, ::-1]
    return np.packbits(bits, axis=1).view(np.uint64).reshape(words.shape)


def planted(seed, *, singles, copied):
    """Hashes of pictures, some of which are copies at distances up to and just beyond what is a copy.

    Returns:
      The hashes, and the hashes of mirror images.
    """
    generator = np.random.default_rng(seed)
    short = generator.integers(0, 2**64, singles, np.uint64)
    long = generator.integers(0, 2**64, (singles, hashing.WORDS), np.uint64)
    most = duplicates.CANDIDATE_BITS
    for number in generator.permutation(singles)[:copied]:
        near = flipped_bits(generator, short[number], generator.integers(0, most + 3))
        far = flipped_bits(generator, long[number], generator.integers(0, BITS + 3))
        short, long = np.append(short, near), np.vstack([long, far])
    # Some copies are mirrored as well.
    turned = np.arange(len(short)) >= singles + copied // 2
    short[turned], long[turned] = reversed_bits(short[turned]), reversed_bits(long[turned])
    hashes = Hashes(short, long).take(generator.permutation(len(short)))
    return hashes, Hashes(reversed_bits(hashes.short), reversed_bits(hashes.long))


def by_all_pairs(hashes, mirrored, bits):
    """The same groups, slowly."""
    roots = np.arange(len(hashes.short))
    for one in range(len(roots)):
        for probe in (hashes, mirrored):
            alike = hashing.distance(probe.short[one : one + 1], hashes.short) <= duplicates.CANDIDATE_BITS
            alike &= hashing.distance(probe.long[one : one + 1], hashes.long) <= bits
            for other in np.flatnonzero(alike):
                if other > one:
                    roots[roots == roots[other]] = roots[one]
    groups = [np.flatnonzero(roots == root).tolist() for root in np.unique(roots)]
    return sorted(group for group in groups if len(group) > 1)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_groups_are_those_of_comparing_all_pairs(seed):
    hashes, mirrored = planted(seed, singles=300, copied=250)
    found = duplicates.near(hashes, mirrored, BITS)
    wanted = by_all_pairs(hashes, mirrored, BITS)
    assert [group.members.tolist() for group in found] == wanted
    assert len(wanted) > 100


def test_every_pattern_of_differing_bits_is_a_candidate():
    generator = np.random.default_rng(0)
    base = generator.integers(0, 2**64, 1, np.uint64)[0]
    for _ in range(50):
        # As many as may differ, put into as few bands as they fit and into all of them.
        spread = generator.permutation(64)[: duplicates.CANDIDATE_BITS]
        bits = np.zeros(64, np.uint8)
        bits[spread] = 1
        other = base ^ np.packbits(bits).view(np.uint64)[0]
        short = np.array([base, other])
        long = np.zeros((2, hashing.WORDS), np.uint64)
        strangers = Hashes(generator.integers(0, 2**64, 2, np.uint64), ~long)
        (group,) = duplicates.near(Hashes(short, long), strangers, 0)
        assert group.members.tolist() == [0, 1]


def test_members_are_told_how_they_differ_from_the_first():
    gray = np.stack([textured(32, 32, seed)[..., 1] for seed in range(6)]).astype(np.float32)
    gray = np.concatenate([gray, gray[2:3, :, ::-1], gray[4:5] * 0.8 + 10])
    hashes, mirrored = hashing.hashes(gray), hashing.hashes(hashing.mirrored(gray))
    turned, darker = duplicates.near(hashes, mirrored, duplicates.DEFAULT_BITS)
    assert (turned.members.tolist(), turned.mirrored.tolist()) == ([2, 6], [False, True])
    assert turned.bits.tolist() == [0, 0]
    assert (darker.members.tolist(), darker.mirrored.tolist()) == ([4, 7], [False, False])


def test_thousands_of_equal_pictures_are_one_group_at_once():
    count = 200_000
    same = Hashes(np.full(count, 7, np.uint64), np.full((count, hashing.WORDS), 9, np.uint64))
    began = time.process_time()
    (group,) = duplicates.near(same, same, BITS)
    assert len(group.members) == count
    assert time.process_time() - began < 10


def test_a_chain_of_likenesses_is_one_group():
    generator = np.random.default_rng(3)
    long = generator.integers(0, 2**64, (1, hashing.WORDS), np.uint64)
    short = generator.integers(0, 2**64, 1, np.uint64)
    for _ in range(60):
        long = np.vstack([long, flipped_bits(generator, long[-1], BITS)])
        short = np.append(short, flipped_bits(generator, short[-1], 5))
    order = generator.permutation(len(short))
    strangers = Hashes(generator.permutation(~short), ~long)
    (group,) = duplicates.near(Hashes(short, long).take(order), strangers, BITS)
    assert len(group.members) == 61
    assert group.bits.max() > BITS


def test_same_files_are_grouped_by_all_columns():
    content = np.array([[5, 1], [6, 1], [5, 1], [5, 2], [6, 1], [5, 1]])
    assert [group.tolist() for group in duplicates.exact(content)] == [[0, 2, 5], [1, 4]]


def test_hashes_are_of_the_cosine_transform_and_of_means_of_cells():
    gray = np.stack([textured(32, 32, seed)[..., 0] for seed in range(4)]).astype(np.float32)
    found = hashing.hashes(gray)
    spectrum = fft.dctn(gray, axes=(1, 2), norm="ortho")[:, :8, :8].reshape(4, 64)
    bits = spectrum > np.median(spectrum[:, 1:], axis=1, keepdims=True)
    np.testing.assert_array_equal(np.unpackbits(found.short.view(np.uint8).reshape(4, -1), axis=1), bits)
    # Seventeen columns of 32 pixels, each the mean of 32 / 17 of them: of a ramp every step goes up.
    ramp = np.tile(np.arange(32, dtype=np.float32), (1, 32, 1))
    assert np.unpackbits(hashing.hashes(ramp).long.view(np.uint8)).all()
    assert not np.unpackbits(hashing.hashes(ramp[:, :, ::-1]).long.view(np.uint8)).any()


def test_pictures_of_one_colour_are_told_apart_from_pictures():
    flat = np.full((32, 32), 128, np.float32)
    assert hashing.is_flat(np.stack([flat, flat + np.random.default_rng(0).normal(0, 1, flat.shape)])).all()
    assert not hashing.is_flat(textured(32, 32)[np.newaxis, ..., 0].astype(np.float32)).any()

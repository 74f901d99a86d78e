"""Many-dimensional points on a plane: principal components, exact t-SNE, and how far a map can be trusted.

t-SNE after van der Maaten and Hinton (2008), every pair of points in every step: some seconds for a
thousand points, a minute and a half for five thousand. It begins with the principal components, so that
what lies far apart has a chance to stay so (Kobak and Berens, 2019).
"""

from __future__ import annotations

import numpy as np

from pipelines import progress

# The first steps pull neighbours together more strongly (van der Maaten, 2014).
EXAGGERATION, EXAGGERATED_STEPS = 12.0, 250
MOMENTUM, LATE_MOMENTUM = 0.5, 0.8
# Each coordinate's own rate grows while its gradient keeps its sign, and shrinks otherwise (Jacobs, 1988).
GAIN_UP, GAIN_DOWN, SMALLEST_GAIN = 0.2, 0.8, 0.01
# Spread of the map at the start.
START = 1e-4
BISECTIONS, LARGEST_POWER = 60, 40.0


def principal_components(points: np.ndarray, count: int) -> np.ndarray:
    """Coordinates along the directions of largest variance, the largest first.

    Args:
      points: [n, d].
      count: how many; fewer where n or d are smaller.

    Returns:
      float32 [n, count], of mean 0; the sign of each column makes its largest entry positive.
    """
    centred = np.asarray(points, np.float64)
    centred = centred - centred.mean(axis=0)
    n, d = centred.shape
    # The smaller of the two products has the same eigenvalues.
    values, vectors = np.linalg.eigh(centred @ centred.T if n <= d else centred.T @ centred)
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    scores = vectors * np.sqrt(np.maximum(values, 0.0)) if n <= d else centred @ vectors
    largest = np.take_along_axis(scores, np.abs(scores).argmax(axis=0)[None], axis=0)
    return (scores * np.where(largest < 0, -1.0, 1.0)).astype(np.float32)


def tsne(points: np.ndarray, *, perplexity: float = 30.0, steps: int = 750, seed: int = 0) -> np.ndarray:
    """A map on which near points are near.

    Args:
      points: [n, d], d small: some fifty principal components.
      perplexity: about how many neighbours count for each point; at most a third of the points.
      steps: of the descent.
      seed: decides the noise that parts points which lie on top of each other at the start.

    Returns:
      float32 [n, 2], of mean 0.
    """
    n = len(points)
    if n < 4:
        return np.pad(principal_components(points, 2), ((0, 0), (0, 2)))[:, :2]
    joint = affinities(points, min(perplexity, (n - 1) / 3)).astype(np.float32)
    start = principal_components(points, 2)
    noise = np.random.default_rng(seed % 2**32).normal(0.0, 0.01, (n, 2))
    place = np.zeros((n, 2))
    place[:, : start.shape[1]] = start / max(float(start[:, 0].std()), 1e-12)
    place = (START * (place + noise)).astype(np.float32)
    rate = max(n / EXAGGERATION, 50.0)  # Belkina et al. (2019)
    velocity, gains = np.zeros_like(place), np.ones_like(place)
    for step in progress.counted("embedding, steps", range(steps), steps):
        early = step < EXAGGERATED_STEPS
        slope = gradient(place, joint, EXAGGERATION if early else 1.0)
        gains = np.where(slope * velocity > 0, gains * GAIN_DOWN, gains + GAIN_UP)
        gains = np.maximum(gains, SMALLEST_GAIN)
        velocity = (MOMENTUM if early else LATE_MOMENTUM) * velocity - rate * gains * slope
        place = place + velocity.astype(np.float32)
        place -= place.mean(axis=0)
    return place


def affinities(points: np.ndarray, perplexity: float) -> np.ndarray:
    """How likely each pair of points are neighbours: float64 [n, n], symmetric, adding up to 1.

    The Gaussian around each point is as wide as gives its neighbours' distribution this perplexity.
    """
    squared = squared_distances(points)
    n = len(squared)
    np.fill_diagonal(squared, np.inf)
    # Neither changes a share: the one keeps the exponentials from vanishing, the other narrows the search.
    squared -= squared.min(axis=1, keepdims=True)
    finite = np.where(np.isfinite(squared), squared, 0.0)
    mean = finite.sum(axis=1, keepdims=True) / (n - 1)
    mean[mean == 0.0] = 1.0
    squared, finite = squared / mean, finite / mean
    low, high = np.full(n, -LARGEST_POWER), np.full(n, LARGEST_POWER)  # of two, the precision
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        precision = np.exp2(middle)
        weights = np.exp(-squared * precision[:, None])
        total = weights.sum(axis=1)
        entropy = np.log(total) + precision * (weights * finite).sum(axis=1) / total
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    shares = weights / total[:, None]
    return (shares + shares.T) / (2 * n)


def gradient(place: np.ndarray, joint: np.ndarray, exaggeration: float = 1.0) -> np.ndarray:
    """The slope of the divergence of the map's affinities from the points' (their equation 5).

    Args:
      place: [n, 2], the map.
      joint: [n, n], the points' affinities.
      exaggeration: by which `joint` is multiplied.

    Returns:
      [n, 2].
    """
    lengths = np.einsum("ij,ij->i", place, place)
    near = place @ (-2.0 * place.T)
    near += lengths[:, None] + 1.0
    near += lengths
    np.maximum(near, 1.0, out=near)  # rounding
    np.reciprocal(near, out=near)
    np.fill_diagonal(near, 0.0)
    forces = joint * place.dtype.type(exaggeration)
    forces -= near * (1.0 / near.sum())
    forces *= near
    return 4.0 * (forces.sum(axis=1, keepdims=True) * place - forces @ place)


def squared_distances(points: np.ndarray) -> np.ndarray:
    """Between all pairs of rows: float64 [n, n], 0 or more."""
    points = np.asarray(points, np.float64)
    lengths = np.einsum("ij,ij->i", points, points)
    squared = np.maximum(lengths[:, None] + lengths - 2.0 * points @ points.T, 0.0)
    np.fill_diagonal(squared, 0.0)
    return squared


def trustworthiness(points: np.ndarray, place: np.ndarray, k: int = 12) -> float:
    """How far neighbours on a map are neighbours in truth (Venna and Kaski, 2001).

    Args:
      points: [n, d].
      place: [n, 2], their map.
      k: how many neighbours on the map are asked of each point; fewer of few points.

    Returns:
      1 where all k are among the point's true k nearest; about 0.5 for a random map.
    """
    n = len(points)
    k = min(k, (n - 1) // 2)
    if k < 1:
        return 1.0
    ranks = _ranks(squared_distances(points))
    shown = _ranks(squared_distances(place)) <= k
    excess = np.where(shown, ranks - k, 0).clip(min=0).sum()
    return 1.0 - 2.0 * float(excess) / (n * k * (2 * n - 3 * k - 1))


def _ranks(squared: np.ndarray) -> np.ndarray:
    """For each row, 1 for its nearest other point, 2 for the next, and so on; int64 [n, n].

    A point's own rank is beyond all others.
    """
    squared = squared.copy()
    np.fill_diagonal(squared, np.inf)
    order = np.argsort(squared, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(1, len(order) + 1)[None], axis=1)
    return ranks

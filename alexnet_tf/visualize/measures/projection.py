"""Two-dimensional maps of many-dimensional points, and how far such a map can be trusted, by scikit-learn.

What is set here: principal components are exact; t-SNE (van der Maaten and Hinton 2008) uses the Barnes-Hut
approximation (van der Maaten 2014) and starts from the first two principal components, so that what lies far
apart has a chance to stay so (Kobak and Berens 2019). On one core it takes 4 s for 1,500 points of 50
components and 18 s for 5,000.
"""

from __future__ import annotations

import numpy as np

from pipelines import progress

# Standard deviation of the map at the start, and as a share of it that of the noise which parts equal points.
START, NOISE = 1e-4, 0.01
FEWEST = 4  # points that have neighbours to weigh against each other


def principal_components(points: np.ndarray, count: int) -> np.ndarray:
    """Coordinates along the directions of largest variance, the largest first.

    Args:
      points: [n, d].
      count: how many; fewer where n or d are smaller.

    Returns:
      float32 [n, count], of mean 0; the sign of each column makes its largest entry positive.
    """
    from sklearn.decomposition import PCA

    points = np.asarray(points, np.float64)
    count = min(count, *points.shape)
    if (points == points[0]).all():  # no direction has any variance
        return np.zeros((len(points), count), np.float32)
    # Both are exact; ARPACK computes no more components than are wanted, but not all of them.
    solver = "arpack" if count < min(points.shape) else "full"
    scores = PCA(count, svd_solver=solver, random_state=0).fit_transform(points)
    largest = np.take_along_axis(scores, np.abs(scores).argmax(axis=0)[None], axis=0)
    return (scores * np.where(largest < 0, -1.0, 1.0)).astype(np.float32)


def plane(points: np.ndarray) -> np.ndarray:
    """The first two principal components, float32 [n, 2]; zeros where there are fewer."""
    scores = principal_components(points, 2)
    return np.pad(scores, ((0, 0), (0, 2 - scores.shape[1])))


def tsne(points: np.ndarray, *, perplexity: float = 30.0, steps: int = 1000, seed: int = 0) -> np.ndarray:
    """A t-SNE map, on which near points are near; the same seed gives the same map.

    Args:
      points: [n, d], d small: some fifty principal components.
      perplexity: about how many neighbours count for each point; at most a third of the points.
      steps: of the descent, 250 or more.
      seed: decides the noise that parts points which coincide at the start.

    Returns:
      float32 [n, 2], of mean 0.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    n = len(points)
    if n < FEWEST:
        return plane(points)
    method = TSNE(perplexity=min(perplexity, (n - 1) / 3), max_iter=steps, init=_start(points, seed))
    # Several threads would add up forces in an order that differs from run to run, and so would the map.
    with progress.phase(f"t-SNE of {n:,} pictures"), threadpool_limits(1, user_api="openmp"):
        place = method.fit_transform(np.asarray(points, np.float32))
    return place - place.mean(axis=0)


def _start(points: np.ndarray, seed: int) -> np.ndarray:
    """The first two principal components, very small, with a little noise: float32 [n, 2]."""
    place = plane(points)
    noise = np.random.default_rng(seed % 2**32).normal(0.0, NOISE, place.shape)
    return (START * (place / max(float(place[:, 0].std()), 1e-12) + noise)).astype(np.float32)


def trustworthiness(points: np.ndarray, place: np.ndarray, k: int = 12) -> float:
    """How far neighbours on a map are neighbours in truth (Venna and Kaski 2001).

    Args:
      points: [n, d].
      place: [n, 2], their map.
      k: how many neighbours on the map count for each point; fewer of few points.

    Returns:
      1 where all k are among the point's true k nearest; about 0.5 for a random map.
    """
    from sklearn import manifold

    k = min(k, (len(points) - 1) // 2)
    return float(manifold.trustworthiness(points, place, n_neighbors=k)) if k else 1.0

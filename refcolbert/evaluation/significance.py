"""Comparison of two runs: how far apart, for which queries, and whether by chance (extra `eval`).

The significance is that of Fisher's randomization test on paired values, two-sided (Smucker, Allan and Carterette, CIKM
2007): if the two runs were alike, each query's difference would have either sign, so p is the share of all choices of
signs whose mean is at least as far from 0 as the one found. Few choices are counted, many are sampled with a seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Doubles
from ..checks import check_count
from ..errors import InvalidInput
from .metrics import METRICS, Judged, Run, per_query

__all__ = ["Comparison", "compare", "randomization_p"]

SAMPLES = 100_000
AT_ONCE = 1 << 20  # signs that are drawn at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One metric of two runs over the same judged queries."""

    metric: str
    mean: float
    baseline: float
    p: float  # two-sided, not corrected for several metrics
    differences: dict[str, float]  # query id -> value less the baseline's, the greatest gain first

    @property
    def difference(self) -> float:
        """How much higher the mean is than the baseline's."""
        return self.mean - self.baseline

    @property
    def better(self) -> int:
        """Queries with a higher value than the baseline's."""
        return sum(value > 0 for value in self.differences.values())

    @property
    def worse(self) -> int:
        """Queries with a lower value."""
        return sum(value < 0 for value in self.differences.values())


def compare(
    run: Run,
    baseline: Run,
    qrels: Judged,
    metrics: Sequence[str] = METRICS,
    *,
    seed: int = 0,
    samples: int = SAMPLES,
) -> list[Comparison]:
    """Both runs over all judged queries, metric by metric; a query that one of them lacks counts as 0 there.

    Raises `InvalidInput` as `evaluate` does.
    """
    ours, theirs = per_query(run, qrels, metrics), per_query(baseline, qrels, metrics)
    return [_comparison(name, ours[name], theirs[name], seed, samples) for name in metrics]


def randomization_p(differences: Doubles, *, seed: int = 0, samples: int = SAMPLES) -> float:
    """The two-sided p-value of paired `differences` [n]: exact where there are at most `samples` choices of signs."""
    if not np.isfinite(differences).all():
        raise InvalidInput("expected finite differences, found NaN or infinity")
    moved = np.abs(differences[differences != 0]).astype(np.float64)  # [n_moved]: a zero has no sign
    n_moved = len(moved)
    least = abs(float(differences.sum())) - 1e-9 * float(moved.sum())  # sums of equal numbers differ in the last bits
    exact = 2**n_moved <= check_count(samples, "samples")
    total = 2**n_moved if exact else samples
    rng = np.random.default_rng(seed)
    as_far, step = 0, max(AT_ONCE // max(n_moved, 1), 1)
    for first in range(0, total, step):
        rows = np.arange(first, min(first + step, total))  # [n]
        signs = rows[:, None] >> np.arange(n_moved) & 1 if exact else rng.integers(0, 2, (len(rows), n_moved), np.int8)
        as_far += int((np.abs((2.0 * signs - 1) @ moved) >= least).sum())
    return as_far / total if exact else (as_far + 1) / (total + 1)


def _comparison(metric: str, ours: dict[str, float], theirs: dict[str, float], seed: int, samples: int) -> Comparison:
    gains = {query: ours[query] - theirs[query] for query in ours}
    return Comparison(
        metric=metric,
        mean=float(np.mean(list(ours.values()))),
        baseline=float(np.mean(list(theirs.values()))),
        p=randomization_p(np.array(list(gains.values())), seed=seed, samples=samples),
        differences=dict(sorted(gains.items(), key=lambda gain: -gain[1])),
    )

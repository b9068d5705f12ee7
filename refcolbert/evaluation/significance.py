"""Comparison of two runs: differences per query, and the p-value of the mean difference (extra `eval`).

p comes from Fisher's randomization test on paired values, two-sided (Smucker, Allan and Carterette, CIKM 2007). If the
two runs were equally good, the difference of each query could as well have the other sign. So p is the share of all
choices of signs whose mean is at least as far from 0 as the observed mean. A worked example with three queries:

    differences   .1  .2  .3       sum .6
    8 choices of signs             sums .6 .4 .2 0 0 -.2 -.4 -.6
    p             2 of 8 sums are at least .6 from 0: .25

Up to `samples` choices are counted exactly. Of more choices, `samples` are drawn with a seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..arrays import Doubles
from ..checks import check_count
from ..errors import InvalidInput
from .metrics import METRICS, Judged, Run, per_query

__all__ = ["Comparison", "compare", "randomization_p"]

SAMPLES = 100_000  # of choices of signs
CHUNK_SIGNS = 1 << 20  # in memory at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One metric of two runs over the same judged queries."""

    metric: str
    mean: float
    baseline: float  # mean of the baseline
    p: float  # two-sided, not corrected for several metrics
    differences: dict[str, float]  # query id -> value minus that of the baseline, the greatest gain first

    @property
    def difference(self) -> float:
        """The mean minus the baseline."""
        return self.mean - self.baseline

    @property
    def better(self) -> int:
        """Number of queries with a higher value than in the baseline."""
        return sum(value > 0 for value in self.differences.values())

    @property
    def worse(self) -> int:
        """Number of queries with a lower value."""
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
    """Return one comparison per metric, over all judged queries.

    run         a query that it lacks counts as 0
    baseline    likewise
    qrels       judgements
    metrics     names, as for `evaluate`
    seed        of the choices of signs
    samples     number of choices; default: p then has a standard error of at most .0016

    Raises `InvalidInput` and `MissingDependency` as `evaluate` does.

    >>> qrels = {"q1": {"a": 1}, "q2": {"a": 1}, "q3": {"a": 1}}
    >>> run = {"q1": {"a": 1.0}, "q2": {"a": 1.0}, "q3": {"a": 1.0}}
    >>> baseline = {"q1": {"a": 1.0}, "q2": {"b": 2.0, "a": 1.0}}
    >>> (comparison,) = compare(run, baseline, qrels, ["RR@10"])
    >>> comparison.mean, comparison.baseline, comparison.better, comparison.worse
    (1.0, 0.5, 2, 0)
    >>> comparison.differences
    {'q3': 1.0, 'q2': 0.5, 'q1': 0.0}
    >>> comparison.p  # q1 has no sign: 2 of 4 choices
    0.5
    """
    values, baseline_values = per_query(run, qrels, metrics), per_query(baseline, qrels, metrics)
    return [_comparison(name, values[name], baseline_values[name], seed, samples) for name in metrics]


def randomization_p(
    differences: Doubles,  # [n]
    *,
    seed: int = 0,
    samples: int = SAMPLES,
) -> float:
    """Return the two-sided p-value of paired differences: exact if there are at most `samples` choices of signs.

    Raises `InvalidInput` for NaN, infinity, and samples below 1.

    >>> randomization_p(np.array([0.1, 0.2, 0.3]))
    0.25
    """
    if not np.isfinite(differences).all():
        raise InvalidInput("expected finite differences, found NaN or infinity")
    # Both signs of a zero give the same sum, so it would only double all counts.
    sizes = np.abs(differences[differences != 0]).astype(np.float64)  # [n_signs]
    n_signs = len(sizes)
    # The same numbers summed in another order differ in the last bits, and must still count as equally far.
    threshold = abs(float(differences.sum())) - 1e-9 * float(sizes.sum())
    exact = 2**n_signs <= check_count(samples, "samples")
    n_choices = 2**n_signs if exact else samples
    rng = np.random.default_rng(seed)
    n_as_far, step = 0, max(CHUNK_SIGNS // max(n_signs, 1), 1)
    for first in range(0, n_choices, step):
        choices = np.arange(first, min(first + step, n_choices))  # [n_chunk]
        if exact:  # bit j of the choice's number is the sign of difference j
            bits = choices[:, None] >> np.arange(n_signs) & 1  # [n_chunk, n_signs]
        else:
            bits = rng.integers(0, 2, (len(choices), n_signs), np.int8)  # [n_chunk, n_signs]
        n_as_far += int((np.abs((2.0 * bits - 1) @ sizes) >= threshold).sum())
    # The observed signs are one more choice among the sampled ones, so that p is never 0.
    return n_as_far / n_choices if exact else (n_as_far + 1) / (n_choices + 1)


def _comparison(
    metric: str,
    values: dict[str, float],
    baseline_values: dict[str, float],
    seed: int,
    samples: int,
) -> Comparison:
    """Return the comparison of one metric from its values by query: means, p-value, differences from the largest."""
    differences = {query: value - baseline_values[query] for query, value in values.items()}
    return Comparison(
        metric=metric,
        mean=float(np.mean(list(values.values()))),
        baseline=float(np.mean(list(baseline_values.values()))),
        p=randomization_p(np.array(list(differences.values())), seed=seed, samples=samples),
        differences=dict(sorted(differences.items(), key=lambda item: -item[1])),
    )

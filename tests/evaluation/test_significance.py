"""Comparison of runs: p-values against scipy's permutation test and by hand."""

import itertools

import numpy as np
import pytest
from scipy import stats

from refcolbert.errors import InvalidInput
from refcolbert.evaluation.significance import compare, randomization_p


def by_hand(differences):
    """The share of all sign choices whose sum is at least as far from 0."""
    sums = [
        sum(s * d for s, d in zip(signs, differences, strict=True))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(abs(s) >= abs(sum(differences)) - 1e-12 for s in sums) / len(sums)


@pytest.mark.parametrize(
    "differences",
    [[1.0], [1.0, 1.0], [0.5, -0.25, 1.0], [0.1, 0.2, 0.3, -0.1], [0.0, 0.0, 1.0], [0.1] * 9, [-0.3, -0.2, 0.5]],
    ids=str,
)
def test_few_differences_are_counted_exactly(differences):
    """p is the share of all choices of signs."""
    assert randomization_p(np.array(differences)) == by_hand(differences)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_many_differences_are_sampled(seed):
    """p is within five standard errors of what scipy's permutation test finds with as many samples."""
    samples = 20_000
    differences = np.random.default_rng(seed).normal(0.15, 1, 200)
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=samples, vectorized=True, rng=seed
    ).pvalue
    two_samples = np.sqrt(2 * expected * (1 - expected) / samples)
    assert abs(randomization_p(differences, samples=samples) - expected) < 5 * two_samples


def test_a_seed_repeats_and_another_one_does_not():
    """Equal seeds give equal p, and another seed another one."""
    differences = np.random.default_rng(0).normal(0.1, 1, 100)
    found = {randomization_p(differences, samples=1000, seed=seed) for seed in (0, 0, 1)}
    assert randomization_p(differences, samples=1000) in found
    assert len(found) == 2


def test_no_difference_is_no_evidence():
    """Equal runs, and no queries, have p = 1."""
    assert randomization_p(np.zeros(50)) == 1
    assert randomization_p(np.empty(0)) == 1


def test_a_clear_difference_is_not_chance():
    """With 100 queries that all gain, p is as small as the samples can say."""
    assert randomization_p(np.full(100, 0.1), samples=9999) == 1 / 10_000


def test_runs_are_compared_over_every_judged_query():
    """A query that one run lacks is 0 there; differences come greatest gain first, under their ids."""
    qrels = {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 1}, "d": {"x": 1}}
    run = {"a": {"x": 2.0}, "b": {"y": 2.0, "x": 1.0}, "c": {"x": 1.0}, "unjudged": {"x": 1.0}}
    baseline = {"a": {"x": 1.0}, "b": {"x": 1.0}, "d": {"z": 3.0, "y": 2.0, "x": 1.0}}
    (found,) = compare(run, baseline, qrels, ["RR@10"])
    assert found.differences == pytest.approx({"c": 1.0, "a": 0.0, "d": -1 / 3, "b": -0.5})
    assert list(found.differences) == ["c", "a", "d", "b"]
    assert (found.metric, found.better, found.worse) == ("RR@10", 1, 2)
    assert found.mean == pytest.approx(2.5 / 4)
    assert found.baseline == pytest.approx((2 + 1 / 3) / 4)
    assert found.difference == pytest.approx(found.mean - found.baseline)
    assert found.p == by_hand([1.0, 0.0, -1 / 3, -0.5])


@pytest.mark.parametrize("bad", [np.array([np.nan]), np.array([1.0, np.inf])])
def test_nan_and_infinity_are_refused(bad):
    """NaN and infinity have no sign to flip."""
    with pytest.raises(InvalidInput, match="finite"):
        randomization_p(bad)


def test_samples_below_one_are_refused():
    """There would be nothing to count."""
    with pytest.raises(InvalidInput, match="samples"):
        randomization_p(np.ones(3), samples=0)

"""Cases of the training losses: their algebra, and their values and gradients in torch (golden/losses)."""

import math

import numpy as np
from hypothesis import strategies as st

from .goldens import arrays_of, names
from .oracle import definition
from .registry import case

SCORES = st.lists(st.integers(-400, 400), min_size=2, max_size=6).map(lambda values: [v / 8 for v in values])
TABLES = st.integers(0, 2**32 - 1).map(
    lambda seed: (np.random.default_rng(seed).integers(-99, 99, (2, 3, 3)) / 4).tolist()
)
REL = 1e-6  # float64 sums of a few terms; torch and the definition agree to this


def close(value, expected, rel=REL):
    """Assert that two numbers are equal up to rounding."""
    assert math.isclose(value, expected, rel_tol=rel, abs_tol=rel), f"{value} is not {expected}"


@case("47", "pairwise_hinge", scores=SCORES)
def the_hinge_is_the_definition(impl, scores):
    """The loss is max(0, 1 - S+ + S-)."""
    close(impl.pairwise_hinge(*scores[:2]), definition.pairwise_hinge(*scores[:2]))


@case("47", "pairwise_softmax", scores=SCORES)
def pairwise_softmax_is_the_definition(impl, scores):
    """The loss is -log softmax(S+, S-)_0, also for scores whose exp overflows."""
    for factor in (1, 100):
        pair = [factor * s for s in scores[:2]]
        close(impl.pairwise_softmax(*pair), definition.pairwise_softmax(*pair))


@case("47", "n_way", scores=SCORES, shift=st.integers(-64, 64))
def n_way_is_the_definition_and_ignores_a_shift(impl, scores, shift):
    """The loss is -log softmax(S)_0 with the positive first, and S + c gives the same loss."""
    close(impl.n_way(scores), definition.n_way(scores))
    close(impl.n_way([s + shift for s in scores]), definition.n_way(scores))


@case("47", "in_batch", tables=TABLES, temperature=st.sampled_from([0.5, 1.0, 20.0]))
def in_batch_is_the_definition(impl, tables, temperature):
    """The loss is the mean of -log softmax(S_i / temperature)_i: the positives are on the diagonal."""
    close(impl.in_batch(tables[0], temperature), definition.in_batch(tables[0], temperature))


@case("47", "kl_divergence", tables=TABLES)
def the_divergence_is_the_definition(impl, tables):
    """The divergence of the student from the teacher is never negative, and zero for equal scores."""
    close(impl.kl_divergence(*tables), definition.kl_divergence(*tables))
    assert impl.kl_divergence(*tables) >= -REL
    close(impl.kl_divergence(tables[0], tables[0]), 0.0)


@case("47", "margin_mse", tables=TABLES)
def margin_mse_is_the_definition(impl, tables):
    """The loss is the mean squared difference of margins, and S + c gives the same loss."""
    close(impl.margin_mse(*tables), definition.margin_mse(*tables))
    shifted = [[s + 2.5 for s in row] for row in tables[0]]
    close(impl.margin_mse(shifted, tables[1]), definition.margin_mse(*tables))


def _golden(name):
    """Register a case for the golden of one loss: its value, and its gradient by central differences."""

    def the_value_and_gradient_are_those_of_torch(impl):
        golden, loss = arrays_of("losses", name), getattr(impl, name)
        for i, scores in enumerate(golden["scores"]):
            arguments = _arguments(name, scores, golden, i)
            close(loss(*arguments), float(golden["loss"][i]))
            flat = scores.astype(np.float64).ravel()
            for j in range(flat.size):
                sides = []
                for sign in (1, -1):
                    moved = flat.copy()
                    moved[j] += sign * 1e-5
                    sides.append(loss(*_arguments(name, moved.reshape(scores.shape), golden, i)))
                close((sides[0] - sides[1]) / 2e-5, float(golden["gradient"][i].ravel()[j]), 1e-4)

    the_value_and_gradient_are_those_of_torch.__name__ = f"{name}_has_the_value_and_gradient_of_torch"
    the_value_and_gradient_are_those_of_torch.__doc__ = (
        "The value is that of torch to 1e-6, the gradient by central differences to 1e-4."
    )
    case("47", name)(the_value_and_gradient_are_those_of_torch)


def _arguments(name, scores, golden, i):
    if name in ("pairwise_hinge", "pairwise_softmax"):
        return [float(s) for s in scores]
    if name == "n_way":
        return [scores.tolist()]
    return [scores.tolist(), float(golden["temperature"][i]) if name == "in_batch" else golden["teacher"][i].tolist()]


for _name in names("losses"):
    _golden(_name)

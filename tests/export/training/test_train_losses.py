"""Losses and MaxSim with gradients, in float64: equal to the definition, and to torch's goldens."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from refcolbert import definition
from refcolbert_export.training import losses
from refcolbert_export.training.batches import Batch
from refcolbert_export.training.maxsim import CHUNK, maxsim
from refcolbert_export.training.objective import losses_of, weighted
from refcolbert_export.training.settings import Settings

GOLDEN = Path(__file__).parents[3] / "golden" / "losses"
TIGHT = {"rtol": 1e-12, "atol": 1e-12}  # float64 sums of a few terms


def of(name, scores, found, i):
    """The loss of one golden case on a tensor of its scores."""
    teacher = torch.from_numpy(found["teacher"][i]).double() if "teacher" in found else None
    if name == "in_batch":
        return losses.in_batch(scores, torch.arange(len(scores)), float(found["temperature"][i]))
    if name in ("kl_divergence", "margin_mse"):
        return getattr(losses, name)(scores, teacher)
    return getattr(losses, name)(scores.reshape(1, -1))


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDEN.glob("*.npz")))
def test_values_and_gradients_are_the_goldens(name):
    """Each loss and its gradient equal the committed ones of another implementation."""
    found = dict(np.load(GOLDEN / f"{name}.npz"))
    assert json.loads((GOLDEN / f"{name}.json").read_text())
    for i, given in enumerate(found["scores"]):
        scores = torch.from_numpy(given).double().requires_grad_()
        loss = of(name, scores, found, i)
        loss.backward()
        np.testing.assert_allclose(loss.item(), found["loss"][i], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(scores.grad, found["gradient"][i].reshape(scores.shape), rtol=1e-6, atol=1e-6)


def test_values_are_the_definition():
    """Each loss equals the plain loops on seeded scores, far apart and close together."""
    rng = np.random.default_rng(3)
    for scale in (0.1, 3.0, 200.0):
        s, t = (rng.normal(0, scale, (4, 5)) for _ in range(2))
        table = torch.from_numpy(s)
        pairs = [(row[0], negative) for row in s for negative in row[1:]]
        expected = {
            "pairwise_hinge": np.mean([definition.pairwise_hinge(*pair) for pair in pairs]),
            "pairwise_softmax": np.mean([definition.pairwise_softmax(*pair) for pair in pairs]),
            "n_way": np.mean([definition.n_way(row) for row in s]),
        }
        for name, value in expected.items():
            np.testing.assert_allclose(getattr(losses, name)(table), value, **TIGHT)
        for name in ("kl_divergence", "margin_mse"):
            value = getattr(definition, name)(s, t)
            np.testing.assert_allclose(getattr(losses, name)(table, torch.from_numpy(t)), value, **TIGHT)
        value = definition.in_batch(s[:, :4], 0.7)
        np.testing.assert_allclose(losses.in_batch(table[:, :4], torch.arange(4), 0.7), value, **TIGHT)


def test_the_loss_of_vectors_is_the_mean_distance():
    """It is the mean of 1 - v . w over tokens: 0 for equal vectors, 2 for opposite ones."""
    v, w = ragged([3, 2], 4, 4), ragged([3, 2], 4, 5)
    expected = np.mean([1 - definition.dot(a, b) for a, b in zip(v.tolist(), w.tolist(), strict=True)])
    np.testing.assert_allclose(losses.vectors(v, w), expected, **TIGHT)
    np.testing.assert_allclose([losses.vectors(v, v), losses.vectors(v, -v)], [0, 2], **TIGHT)


def test_a_column_that_is_not_compared_has_no_part_in_the_loss():
    """in-batch equals the loss of a table without that column, and gives it no gradient."""
    scores = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    compared = torch.tensor([[True, False, True, True], [True, True, True, True]])
    loss = losses.in_batch(scores, torch.tensor([0, 1]), 0.5, compared)
    rows = [scores[0, [0, 2, 3]].tolist(), scores[1, [1, 0, 2, 3]].tolist()]
    np.testing.assert_allclose(loss.item(), np.mean([definition.n_way([2 * s for s in row]) for row in rows]), **TIGHT)
    loss.backward()
    assert scores.grad[0, 1] == 0
    assert (scores.grad[compared] != 0).all()


def ragged(lengths, dim, seed):
    """Seeded unit rows of texts with these lengths."""
    rows = torch.randn(sum(lengths), dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=1)


def test_maxsim_of_all_pairs_is_the_definition():
    """Every query with every document, whatever their lengths; also where all similarities are negative."""
    q, d = ragged([3, 1, 4], 5, 0), ragged([2, 7, 1], 5, 1)
    q[3], d[9] = torch.eye(5)[0], -torch.eye(5)[0]  # one token each, opposite
    found = maxsim(q, [3, 1, 4], d, [2, 7, 1])
    parts = [[x.tolist() for x in t] for t in (q.split([3, 1, 4]), d.split([2, 7, 1]))]
    expected = [[definition.maxsim(a, b) for b in parts[1]] for a in parts[0]]
    np.testing.assert_allclose(found, expected, **TIGHT)
    assert found[1, 2] == -1


def test_the_gradient_of_maxsim_is_its_derivative(monkeypatch):
    """Central differences agree, when documents are scored in one block and in several."""
    for chunk in (CHUNK, 20):
        monkeypatch.setattr("refcolbert_export.training.maxsim.CHUNK", chunk)
        q, d = ragged([3, 2], 4, 2).requires_grad_(), ragged([2, 5, 1, 3], 4, 3).requires_grad_()
        assert torch.autograd.gradcheck(lambda q, d: maxsim(q, [3, 2], d, [2, 5, 1, 3]), (q, d))


def test_losses_of_a_batch_are_means_over_the_queries_that_have_the_data():
    """Rows of different widths and rows without a teacher: each query that counts weighs the same."""
    scores = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    columns, teacher = [[0, 3], [1], [2, 0, 1]], [[2.0, 1.0], None, None]
    batch = Batch(["a", "b", "c"], ["w", "x", "y", "z"], columns, teacher, torch.ones(3, 4, dtype=torch.bool))
    how = {"temperature": 2.0, "student_temperature": 0.5, "teacher_temperature": 4.0}
    settings = Settings(steps=1, losses={"n-way": 1.0, "kl": 3.0, "in-batch": 0.5}, **how)
    found = losses_of(scores, batch, settings)
    s = scores.tolist()
    n_way = (definition.n_way([s[0][0], s[0][3]]) + definition.n_way([s[2][2], s[2][0], s[2][1]])) / 2
    kl = definition.kl_divergence([[2 * s[0][0], 2 * s[0][3]]], [[0.5, 0.25]])
    np.testing.assert_allclose(found["n-way"].item(), n_way, **TIGHT)
    np.testing.assert_allclose(found["kl"].item(), kl, **TIGHT)
    total = weighted(found, settings, scores)
    np.testing.assert_allclose(total.item(), n_way + 3 * kl + 0.5 * found["in-batch"].item(), **TIGHT)
    bare = Batch(["b"], ["x", "w"], [[0]], [None], torch.ones(1, 2, dtype=torch.bool))
    nothing = weighted(losses_of(scores[:1, :2], bare, Settings(steps=1, losses={"kl": 1.0})), settings, scores)
    nothing.backward()
    assert nothing.item() == 0
    assert (scores.grad == 0).all()

"""Tuning: recall against the exact scan, and the recommendation."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from strategies import topical, unit

from refcolbert import Index, tune
from refcolbert.cli import main
from refcolbert.engine.search import SearchOptions, search
from refcolbert.errors import InvalidInput
from refcolbert.evaluation.tune import GRID, sample_queries

DOCUMENTS = topical(np.random.default_rng(4), 300, 16)
QUERIES = [unit(np.random.default_rng(i), 6, 16) for i in range(12)]


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
    """An index of ready-made vectors with a codec."""
    index = Index.create(tmp_path_factory.mktemp("tune") / "i", dim=16, train_at=1)
    index.add([{"id": f"d{i}"} for i in range(300)], vectors=DOCUMENTS)
    return index


def test_recall_is_the_share_of_the_exact_answer(coded):
    """Each setting's recall equals a count by hand, and the settings end where every document is ranked."""
    tuning = tune(coded, QUERIES, k=5, target=0.5)
    exact = [set(search(q, coded.segmented, 5, SearchOptions(exact=True)).documents) for q in QUERIES]
    for setting, (nprobe, candidates) in zip(tuning.settings, GRID, strict=False):
        found = [
            set(search(q, coded.segmented, 5, SearchOptions(nprobe=nprobe, candidates=candidates)).documents)
            for q in QUERIES
        ]
        by_hand = np.mean([len(f & e) / 5 for f, e in zip(found, exact, strict=True)])
        assert (setting.nprobe, setting.candidates, setting.recall) == (nprobe, candidates, pytest.approx(by_hand))
        assert 0 < setting.p50 <= setting.p95
    assert tuning.settings[-1].candidates >= 300 > tuning.settings[-2].candidates
    assert tuning.settings[-1].recall == 1
    assert tuning.n_queries == 12


def test_the_first_setting_that_reaches_the_target_is_recommended(coded):
    """The recommendation is the least work that suffices; a target of 1 is reached where all is ranked."""
    tuning = tune(coded, QUERIES, k=5, target=0.5)
    reaching = [s for s in tuning.settings if s.recall >= 0.5]
    assert tuning.recommended == reaching[0]
    assert tune(coded, QUERIES, k=5, target=1.0).recommended.recall == 1


def test_queries_are_drawn_with_a_seed(coded, tmp_path, encoder):
    """Queries are runs of vectors without an encoder and sentences with one; the same seed draws the same."""
    drawn = sample_queries(coded, 7, seed=1)
    assert len(drawn) == 7
    held = coded.vectors(coded.ids()).vectors
    for q, again in zip(drawn, sample_queries(coded, 7, seed=1), strict=True):
        assert np.array_equal(q, again)
        assert (held[:, None] == q[None, :1]).all(axis=2).any()
    texts = ["One two three four five. And another sentence of six words!", "short", "a b c d e f " * 40, ""]
    index = Index.create(tmp_path / "texts", encoder)
    index.add(texts)
    sentences = sample_queries(index, 10, seed=0)
    assert sentences == sample_queries(index, 10, seed=0)
    assert len(sentences) == 3  # nothing can be drawn from an empty text
    for sentence in sentences:
        assert any(sentence in text for text in texts)
        assert len(sentence.split()) <= 32


@pytest.mark.parametrize(
    ("options", "message"), [({"k": 0}, "k must"), ({"target": 0}, "target"), ({"queries": []}, "nothing to tune")]
)
def test_bad_input_is_refused(coded, options, message):
    """No queries, k below 1 and a target outside 0 to 1 are typed errors."""
    with pytest.raises(InvalidInput, match=message):
        tune(coded, **options)


def test_an_empty_index_cannot_be_tuned(tmp_path):
    """There is no document to draw a query from."""
    with pytest.raises(InvalidInput, match="nothing to tune"):
        tune(Index.create(tmp_path / "i", dim=4))


def test_the_command_prints_the_curve(coded, tmp_path, encoder):
    """`tune` prints one line per setting with a mark at the recommended one, or the same as JSON."""
    index = Index.create(tmp_path / "i", encoder)
    index.add([f"text number {i} about things" for i in range(40)])
    index.close()
    result = CliRunner().invoke(main, ["tune", str(tmp_path / "i"), "--sample", "5"])
    assert result.exit_code == 0, result.output
    assert "<-" in result.output
    assert "for recall@10 >= 0.95: nprobe=" in result.output
    found = json.loads(CliRunner().invoke(main, ["tune", str(tmp_path / "i"), "--sample", "5", "--json"]).output)
    assert found["recommended"]["recall"] == 1

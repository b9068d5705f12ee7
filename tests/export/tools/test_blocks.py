"""Blocks: related queries over shared documents, with the teacher's score of every one."""

from collections import Counter

import numpy as np
import pytest

from refcolbert_export.mining.teachers import BM25, ensemble
from tools.training import blocks
from tools.training.distil import SCALE, WEIGHT, Pool
from tools.training.pairs import Pair

TOPICS, EACH = 3, 24
DIM = TOPICS + TOPICS * EACH


@pytest.fixture(scope="module")
def material():
    """A pool of three topics of 24 pairs, rows of queries and documents: a shared direction and one of its own."""
    names = [(topic, f"topic{topic} name{topic}x{i}") for topic in range(TOPICS) for i in range(EACH)]
    documents = [f"{name} and more about it" for _, name in names]
    pairs = [Pair(name, document, "s", "given") for (_, name), document in zip(names, documents, strict=True)]
    rows = np.zeros((len(names), DIM), np.float32)  # [n_pairs, dim]
    for i, (topic, _) in enumerate(names):
        rows[i, [topic, TOPICS + i]] = np.sqrt(0.5)
    return Pool(documents, pairs, np.arange(len(names))), rows


def made(material, seed=0, counts=None):
    """Its blocks."""
    pool, rows = material
    return list(blocks.blocks(pool, rows, rows, seed, Counter() if counts is None else counts))


def test_a_block_is_of_one_topic_and_shares_its_documents(material, monkeypatch):
    """Eight queries of one topic stand over the same sixteen documents, each with its own positive first."""
    monkeypatch.setattr(blocks, "NEAREST", blocks.BLOCK - 1)  # among more, these small topics would mix
    counts: Counter[str] = Counter()
    found = made(material, counts=counts)
    assert len(found) == TOPICS * EACH // blocks.BLOCK == counts["s: given"] // blocks.BLOCK
    for block in found:
        assert len(block) == blocks.BLOCK
        assert len({line["query"][:6] for line in block}) == 1
        shared = [{line["positive"], *line["negatives"]} for line in block]
        assert all(texts == shared[0] and len(texts) == blocks.SHARED for texts in shared)
        assert all(line["positive"].startswith(line["query"]) for line in block)
        assert all(len(line["negatives"]) == blocks.SHARED - 1 for line in block)
    queries = [line["query"] for block in found for line in block]
    assert len(set(queries)) == len(queries)


def test_scores_are_the_teachers(material):
    """Every score is SCALE times the ensemble of its query and its document."""
    pool, rows = material
    bm25, places = BM25(pool.documents), {text: i for i, text in enumerate(pool.documents)}
    for line in made(material)[0]:
        pair = places[line["positive"]]
        teacher = ensemble(rows[pair] @ rows.T, bm25.scores(line["query"]), WEIGHT)  # [n_docs]
        expected = [SCALE * teacher[places[text]] for text in (line["positive"], *line["negatives"])]
        np.testing.assert_allclose(line["scores"], expected, atol=6e-4)


def test_blocks_are_drawn_by_the_seed(material):
    """The same seed gives the same lines, another one others."""
    assert made(material) == made(material)
    assert made(material) != made(material, seed=1)


def test_what_the_teacher_cannot_find_stays_out(material):
    """A query whose positive the teacher ranks far down is in no block, nor are those left without enough company."""
    pool, rows = material
    queries = rows.copy()
    queries[:EACH, TOPICS:] *= -1  # those of the first topic point to every document of it but their own
    stray = [Pair(f"unheard{i}", pair.positive, "s", "given") for i, pair in enumerate(pool.pairs[:EACH])]
    strange = Pool(pool.documents, [*stray, *pool.pairs[EACH:]], pool.positives)
    counts: Counter[str] = Counter()
    found = list(blocks.blocks(strange, queries, rows, 0, counts))
    assert counts["left out: positive not found"] == EACH
    assert not any(line["query"].startswith("unheard") for block in found for line in block)
    assert counts["s: given"] + counts["left out: too few related"] == (TOPICS - 1) * EACH


def test_a_block_never_holds_a_positive_twice(material):
    """Two queries for one document come into different blocks."""
    pool, rows = material
    again = [Pair(f"more about {pair.query}", pair.positive, "s", "sentence") for pair in pool.pairs]
    double = Pool(pool.documents, [*pool.pairs, *again], np.tile(pool.positives, 2))
    for block in blocks.blocks(double, np.tile(rows, (2, 1)), rows, 0, Counter()):
        assert len({line["positive"] for line in block}) == blocks.BLOCK

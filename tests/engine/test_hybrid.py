"""Hybrid search against the definition: the pool of both rankings, both scores, and their fusion."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import topical, unit

from refcolbert import Index, definition
from refcolbert.engine.bm25 import weigh
from refcolbert.engine.hybrid import POOL_EXTRA, POOL_FACTOR, search_by
from refcolbert.engine.terms import build

WORDS = ("ant", "bee", "cat", "dog", "elk", "fox")
DIM, N_DOCS = 8, 140
QUERIES = (["ant"], ["dog", "cat", "dog"], ["yak"], [], ["elk", "bee", "ant", "fox"])


@pytest.fixture(scope="module")
def texts():
    """A text per document: of few words, some of them rare; every tenth document has none."""
    rng, rarity = np.random.default_rng(5), [0.03, 0.1, 0.3, 0.5, 0.8, 1]
    return [
        [w for w, p in zip(WORDS, rarity, strict=True) if rng.random() < p for _ in range(rng.integers(1, 4))]
        * (i % 10 > 0)
        for i in range(N_DOCS)
    ]


@pytest.fixture(scope="module")
def index_of(tmp_path_factory, texts):
    """Returns an index of the documents, added in parts, some of them deleted; `train_at` decides if it is encoded."""
    vectors = list(topical(np.random.default_rng(3), N_DOCS, DIM))

    def build(cuts=(), dead=(), train_at=1):
        index = Index.create(tmp_path_factory.mktemp("hybrid") / "i", dim=DIM, words="unicode61", train_at=train_at)
        bounds = [0, *cuts, N_DOCS]
        for first, last in itertools.pairwise(bounds):
            documents = [{"id": f"d{i}", "text": " ".join(texts[i]) or None} for i in range(first, last)]
            index.add(documents, vectors=vectors[first:last])
        if dead:
            index.delete([f"d{i}" for i in dead])
        return index

    return build


@pytest.fixture(scope="module")
def whole(index_of):
    """Encoded documents, none of them deleted."""
    return index_of()


@pytest.fixture(scope="module")
def damaged(index_of):
    """Encoded documents in several parts, a fifth of them deleted."""
    return index_of([30, 31, 90], range(0, N_DOCS, 5))


def model_of(index, texts):
    """The definition's index of the vectors that an index holds."""
    model, names = definition.Index(DIM), index.ids()
    vectors = [d.tolist() for d in index.vectors(names)]
    model.add(names, vectors, [texts[int(name[1:])] for name in names])
    return model


@pytest.fixture(scope="module")
def whole_model(whole, texts):
    """The definition's index of `whole`."""
    return model_of(whole, texts)


def answer(hits):
    """(id, score) of hits."""
    return [(hit.id, hit.score) for hit in hits]


@pytest.mark.parametrize("terms", QUERIES, ids=" ".join)
@pytest.mark.parametrize("name", ["whole", "damaged"])
@pytest.mark.parametrize("options", [{}, {"exact": True}, {"exact": True, "threads": 3}], ids=str)
def test_a_search_is_the_definition_to_the_bit(request, texts, name, terms, options):
    """Ids, scores and order are those of equation 8.6 where every document is ranked: exact, or a small index."""
    index = request.getfixturevalue(name)
    model = model_of(index, texts)
    for seed, k in enumerate((1, 10, N_DOCS)):
        q = unit(np.random.default_rng(seed), 5, DIM)
        for ids in (None, [f"d{i}" for i in range(0, N_DOCS, 3)]):
            hits = index.search(" ".join(terms), k, mode="hybrid", vectors=q, ids=ids, **options)
            assert answer(hits) == model.search_hybrid(q.tolist(), terms, k, ids)


@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 30), nprobe=st.integers(1, 4), candidates=st.integers(1, 40))
def test_parts_of_any_search_are_true(whole, whole_model, seed, k, nprobe, candidates):
    """However few candidates are kept, both parts of each hit are its exact scores, and the order is the score's."""
    rng, model = np.random.default_rng(seed), whole_model
    q, terms = unit(rng, 4, DIM), rng.choice(WORDS, 3).tolist()
    found = whole.search(" ".join(terms), k, mode="hybrid", vectors=q, nprobe=nprobe, candidates=candidates)
    words = dict(zip(model.documents, definition.word_scores(terms, list(model.terms.values())), strict=True))
    assert [hit.parts.words for hit in found] == [words[hit.id] for hit in found]
    assert [hit.parts.late for hit in found] == [
        definition.maxsim(q.tolist(), model.documents[hit.id]) for hit in found
    ]
    assert len(found) == k
    assert answer(found) == sorted(answer(found), key=lambda hit: (-hit[1], int(hit[0][1:])))


def test_words_find_what_vectors_do_not(whole, texts):
    """A document that is not in the pool of MaxSim is found by its words, with both scores."""
    q, k = unit(np.random.default_rng(1), 5, DIM), 40
    last = whole.search(q, N_DOCS)[POOL_FACTOR * k + POOL_EXTRA :]
    rare = next(hit for hit in last if "ant" in texts[int(hit.id[1:])])
    found = {hit.id: hit for hit in whole.search("ant", k, mode="hybrid", vectors=q)}
    assert found[rare.id].parts.late == rare.score
    assert found[rare.id].parts.words > 0


def test_each_ranking_contributes_its_pool_whatever_k_is(tmp_path):
    """The best document is the second by BM25 and not in the pool of MaxSim; k = 1 finds it."""
    depth = POOL_FACTOR + POOL_EXTRA
    index = Index.create(tmp_path / "i", dim=1, words="unicode61")
    near = [{"id": f"n{i}", "text": "bee"} for i in range(depth)]
    index.add(
        [*near, {"id": "worst", "text": "ant ant"}, {"id": "best", "text": "ant bee"}],
        vectors=[*[[[0.5]]] * depth, [[-1]], [[0.49]]],
    )
    assert [hit.id for hit in index.search("ant", mode="words")] == ["worst", "best"]
    assert [hit.id for hit in index.search("ant", 1, mode="hybrid", vectors=[[1]])] == ["best"]


def test_equal_scores_are_ordered_by_position(index_of):
    """Documents with equal vectors and words come by position, not by their number in the index."""
    segmented = index_of(train_at=1 << 20).segmented
    (segment,) = segmented.segments
    raw, lists = np.ones_like(segment.raw), build([(b"ant", i, 1) for i in range(N_DOCS)], N_DOCS)
    turned = replace(segment, positions=segment.positions[::-1].copy(), raw=raw, terms=lists)
    index = replace(segmented, segments=(turned,))
    result = search_by((unit(np.random.default_rng(0), 3, DIM), weigh([b"ant"], index)), index, 3)
    assert len(set(result.scores.tolist())) == 1
    assert result.documents.tolist() == [N_DOCS - 1, N_DOCS - 2, N_DOCS - 3]


@pytest.mark.parametrize("mode", ["words", "hybrid"])
def test_segments_do_not_change_the_answer(index_of, mode):
    """Documents added in parts have the answers of documents added together, also after they are merged."""
    dead = range(2, N_DOCS, 7)
    together, parts = (index_of(cuts, dead, train_at=1 << 20) for cuts in ((), (70, 100, 125)))
    vectors = None if mode == "words" else unit(np.random.default_rng(0), 5, DIM)

    def answers(index):
        return [answer(index.search(" ".join(terms), 20, mode=mode, vectors=vectors)) for terms in QUERIES]

    expected = answers(together)
    assert len(parts.segmented.segments) > 1
    assert answers(parts) == expected
    parts.compact()
    assert len(parts.segmented.segments) == 1
    assert answers(parts) == expected

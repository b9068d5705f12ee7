"""Hits: the modes of a search, both scores, similarity and its threshold, and what callers do with hits."""

import copy
import dataclasses
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from refcolbert import Index, rerank
from refcolbert.errors import InvalidInput

TEXTS = ["strptime parses a date", "open a file and read it", "a date and a time", "close the file"]
MODES = ("late", "words", "hybrid")


@pytest.fixture
def index(tmp_path, encoder):
    """Four texts under the tiny model, with the words of English."""
    made = Index.create(tmp_path / "i", encoder, words="porter")
    made.add([{"id": f"t{i}", "text": text, "metadata": {"n": i, "of": f"g{i % 2}"}} for i, text in enumerate(TEXTS)])
    return made


def scored(hits):
    """(id, score) of each hit."""
    return [(hit.id, hit.score) for hit in hits]


def test_words_return_only_documents_that_share_a_word(index):
    """A search by words leaves out a document without any word of the query, also when k asks for more."""
    assert [hit.id for hit in index.search("Files!", mode="words")] == ["t3", "t1"]
    assert index.search("zebra", mode="words") == []


def test_words_need_no_model(tmp_path):
    """A search by words in an index of ready-made vectors encodes nothing."""
    made = Index.create(tmp_path / "v", dim=2, words="unicode61")
    made.add([{"id": "a", "text": "an east wind"}, {"id": "b"}], vectors=[[[1, 0]], [[0, 1]]])
    assert [hit.id for hit in made.search("Wind", mode="words")] == ["a"]
    hits = made.search("wind", mode="hybrid", vectors=[[0, 1]])
    assert {hit.id: hit.parts.late for hit in hits} == {"a": 0.0, "b": 1.0}


def test_a_hybrid_hit_has_both_scores(index):
    """The parts of a hybrid hit are the scores that searches by vectors and by words give the document."""
    late = dict(scored(index.search("reading a file", k=4)))
    words = dict(scored(index.search("reading a file", k=4, mode="words")))
    for hit in index.search("reading a file", k=4, mode="hybrid"):
        assert hit.parts.late == late[hit.id]
        assert hit.parts.words == words.get(hit.id, 0.0)


@pytest.mark.parametrize("mode", MODES)
def test_vectors_may_be_computed_by_the_caller(index, encoder, mode):
    """A text with its own vectors is answered and explained as the text alone."""
    queries = ["a date", "read the file"]
    expected = index.search_many(queries, mode=mode)
    found = index.search_many(queries, mode=mode, vectors=encoder.encode_queries(queries))
    assert found == expected
    assert str(found[0][0].explain()) == str(expected[0][0].explain())


@pytest.mark.parametrize("mode", MODES)
def test_filters_and_groups_work_in_every_mode(index, mode):
    """where, ids and group_by choose the same documents in every mode."""
    assert {hit.id for hit in index.search("a date", mode=mode, where={"n": {"$lt": 3}}, ids=["t0", "t3"])} == {"t0"}
    groups = index.search("a date file", mode=mode, group_by="of")
    assert [hit.rank for hit in groups] == [1, 2]
    assert {hit.metadata["of"] for hit in groups} == {"g0", "g1"}


def test_where_and_ids_must_both_match(index):
    """A document that only one of where and ids lets through is not returned."""
    assert [hit.id for hit in index.search("date", where={"of": "g0"}, ids=["t0", "t1"])] == ["t0"]


def test_similarity_is_maxsim_per_query_vector(tmp_path):
    """The similarity divides MaxSim by the query vectors that are not zero."""
    made = Index.create(tmp_path / "v", dim=2)
    made.add([{"id": "east"}], vectors=[[[1, 0]]])
    (hit,) = made.search([[1, 0], [0.6, 0.8], [0, 0]])
    assert hit.similarity == pytest.approx(0.8)
    assert hit.parts.words is None


def test_min_score_leaves_out_less_similar_hits(index):
    """Hits below min_score are left out, and the others keep their order with new ranks."""
    for mode in ("late", "hybrid"):
        hits = index.search("a date", k=4, mode=mode)
        least = sorted(hit.similarity for hit in hits)[2]
        kept = index.search("a date", k=4, mode=mode, min_score=least)
        assert scored(kept) == [(hit.id, hit.score) for hit in hits if hit.similarity >= least]
        assert [hit.rank for hit in kept] == [1, 2]
    assert index.search("a date", min_score=1.5) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "fuzzy"}, "mode must be one of late, words, hybrid, found 'fuzzy'"),
        ({"min_score": float("nan")}, "min_score must be a finite number"),
        ({"min_score": 10**400}, "min_score must be a finite number"),
        ({"min_score": "high"}, "min_score must be a finite number"),
        ({"min_score": True}, "min_score must be a finite number"),
        ({"min_score": 0.5, "mode": "words"}, "use 'hybrid'"),
        ({"vectors": [[0.0] * 3]}, "expected vectors of dim 16, found 3"),
    ],
)
def test_options_that_cannot_be_used_are_refused(index, options, message):
    """Each wrong option raises InvalidInput, which says what was expected."""
    with pytest.raises(InvalidInput, match=message):
        index.search("a date", **options)


def test_modes_with_words_say_what_they_miss(tmp_path, index):
    """A search by words says so when there is no text in the query, no words in the index, or no text at all."""
    with pytest.raises(InvalidInput, match="requires a query with a text, found vectors"):
        index.search(np.ones((1, 16)), mode="hybrid")
    with pytest.raises(InvalidInput, match="expected vectors for 2 queries, found 1"):
        index.search_many(["a", "b"], vectors=[np.ones((1, 16))])
    plain = Index.create(tmp_path / "plain", dim=2)
    plain.add([{"id": "a", "text": "some text"}], vectors=[[[1, 0]]])
    with pytest.raises(InvalidInput, match=r"found one without; compact\(words='porter'\)"):
        plain.search("text", mode="words")
    plain.compact(words="porter")
    assert [hit.id for hit in plain.search("texts", mode="words")] == ["a"]
    silent = Index.create(tmp_path / "silent", dim=2, words="porter")
    assert silent.search("text", mode="words") == []
    silent.add([{"id": "a"}], vectors=[[[1, 0]]])
    with pytest.raises(InvalidInput, match="found 1 without a text"):
        silent.search("text", mode="words")


def test_shared_words_add_up_to_the_word_score(index):
    """The explanation of a hit names the words that it shares with the query; their scores add up to BM25."""
    hit = index.search("Reading dates, reading files", mode="hybrid")[0]
    shared = hit.explain().shared_words
    assert sum(word.score for word in shared) == pytest.approx(hit.parts.words)
    assert [(word.text, [hit.text[slice(*span)] for span in word.spans]) for word in shared] == [
        ("reading", ["read"]),
        ("files", ["file"]),
    ]
    (alone,) = index.search("strptime", mode="words")
    assert alone.explain().matches == ()
    assert [word.text for word in alone.explain().shared_words] == ["strptime"]


def id_and_text(hit):
    """Run in another process."""
    return hit.id, hit.text


def test_a_hit_travels(index):
    """Hits can be pickled, sent to a process, copied, hashed and taken apart; a pickled one does not explain itself."""
    hits = index.search("a date", mode="hybrid")
    again = pickle.loads(pickle.dumps(hits))  # noqa: S301 - our own bytes
    assert again == hits
    assert {hits[0], again[0]} == {hits[0]}
    assert copy.deepcopy(hits)[0].explain().score == hits[0].parts.late
    assert dataclasses.asdict(hits[0])["parts"] == {"late": hits[0].parts.late, "words": hits[0].parts.words}
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        assert list(pool.map(id_and_text, hits)) == [(hit.id, hit.text) for hit in hits]
    with pytest.raises(InvalidInput, match="search again"):
        again[0].explain()


def test_hits_are_a_list_that_shows_itself(index):
    """Hits print one line each, are rows for a data frame, and are HTML for a notebook."""
    hits = index.search("a date", k=2)
    lines = repr(hits).splitlines()
    assert [line.split()[:3] for line in lines] == [[str(h.rank), f"{h.score:.4f}", h.id] for h in hits]
    assert repr(index.search("zebra", mode="words")) == "no hits"
    assert hits.to_dicts()[0] == {
        "rank": 1,
        "score": hits[0].score,
        "id": hits[0].id,
        "text": hits[0].text,
        "metadata": hits[0].metadata,
        "parts": {"late": hits[0].score, "words": None},
        "similarity": hits[0].similarity,
    }
    assert hits._repr_html_().count("<b>1.</b>") == 1


def test_reranked_hits_have_a_similarity(encoder):
    """rerank returns the same kind of hits."""
    hits = rerank("a date", TEXTS, encoder, k=2)
    (q,) = encoder.encode_queries(["a date"])
    assert [hit.similarity for hit in hits] == [hit.score / len(q) for hit in hits]
    assert hits.to_dicts()[0]["parts"] == {"late": hits[0].score, "words": None}


def test_min_score_keeps_a_group_by_another_member(tmp_path):
    """A group whose best hit is not similar enough is shown by its best hit that is."""
    made = Index.create(tmp_path / "v", dim=2, words="unicode61")
    made.add(
        [
            {"id": "p1", "text": "zebra zebra", "metadata": {"of": "x"}},
            {"id": "p2", "text": "other", "metadata": {"of": "x"}},
            *({"id": f"d{i}", "text": "other"} for i in range(20)),
        ],
        vectors=[[[0.28, 0.96]], [[1, 0]], *([[[0, 1]]] * 20)],
    )
    options = {"mode": "hybrid", "vectors": [[1, 0]], "group_by": "of"}
    assert [hit.id for hit in made.search("zebra", 1, **options)] == ["p1"]
    hits = made.search("zebra", 3, **options, min_score=0.5)
    assert [(hit.id, hit.rank) for hit in hits] == [("p2", 1)]

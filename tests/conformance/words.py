"""Cases of words: BM25, the documents that a search by words returns, and the fusion with MaxSim.

The tolerance is derived for float32. idf is ln(1 + x) with x >= .5 / (N + .5), so rounding 1 + x changes it by at most
2 N + 2 units, relatively. Fewer than 14 more roundings make a score of it. All terms of a sum are positive, so their
relative error is that of the sum.
"""

import numpy as np
from hypothesis import strategies as st

from .goldens import arrays_of
from .oracle import definition
from .pairs import g
from .registry import case

WORDS = ("ant", "bee", "cat", "dog", "elk")
TEXTS = st.lists(st.sampled_from(WORDS), max_size=9)
COLLECTIONS = st.lists(TEXTS, max_size=11).map(lambda texts: [["ant", "fox"], *texts])
QUERIES = st.lists(st.sampled_from((*WORDS, "yak")), min_size=1, max_size=6)


def tolerance(n_docs):
    """The largest relative error of a score of words."""
    return g(2 * n_docs + 16)


def same_hits(hits, expected, model, k, absolute):
    """Assert that hits are the first k of the expected ones, {id: score}, in the order of the model's documents."""
    hits = [(name, float(score)) for name, score in hits]
    best = sorted(expected.values(), reverse=True)[:k]
    assert len({name for name, _ in hits}) == len(hits) == len(best), f"{hits}, expected the first {k} of {expected}"
    for (name, score), value in zip(hits, best, strict=True):
        assert name in expected, f"{name} is not one of {list(expected)}"
        assert max(abs(score - expected[name]), abs(score - value)) <= absolute, f"{name}: {score}, expected {value}"
    places = {name: place for place, name in enumerate(model.documents)}
    assert hits == sorted(hits, key=lambda hit: (-hit[1], places[hit[0]]))


def filled(impl, parts):
    """An index and its model with the same documents, one addition per part; ids descend, so they are not positions."""
    index, model, number = impl.Index(2), definition.Index(2), 100
    for texts in parts:
        names, vectors = [f"d{number - i}" for i in range(len(texts))], [np.ones((1, 2), np.float32)] * len(texts)
        for target in (index, model):
            target.add(names, vectors, texts)
        number -= len(texts)
    return index, model


@case("58", "word_scores", query=QUERIES, documents=COLLECTIONS)
def a_word_score_is_the_definition(impl, query, documents):
    """The sum of each distinct term's idf, its count in the query and its saturated count in the document."""
    scores, expected = (
        np.array(impl.word_scores(query, documents), np.float64),
        definition.word_scores(query, documents),
    )
    assert scores.shape == (len(documents),)
    assert (np.abs(scores - expected) <= tolerance(len(documents)) * np.array(expected)).all(), f"{scores}, {expected}"


@case("58", "word_scores")
def word_scores_are_those_of_bm25s(impl):
    """20 queries and 60 documents have the scores of bm25s with the method "lucene", times K1 + 1 (golden/words)."""
    golden = arrays_of("words", "bm25s")
    documents = [str(text).split() for text in golden["documents"]]
    for query, expected in zip(golden["queries"], golden["scores"], strict=True):
        scores = np.array(impl.word_scores(str(query).split(), documents), np.float64)
        assert (np.abs(scores - expected) <= tolerance(len(documents)) * expected).all()


@case("58", "word_scores", n=st.integers(1, 8), others=st.integers(0, 8))
def a_word_of_every_document_still_counts(impl, n, others):
    """A document with the term scores more than 0, and more than one without it, however many have the term."""
    scores = impl.word_scores(["ant"], [["ant", "bee"]] * n + [["cat"]] * others)
    assert all(score > 0 for score in scores[:n])
    assert not any(scores[n:])


@case(
    "59",
    "Index.search_words",
    "Index.delete",
    equation="8.5",
    heavy=True,
    parts=st.lists(st.lists(TEXTS, min_size=1, max_size=4), min_size=1, max_size=3),
    gone=st.sets(st.integers(0, 11)),
    chosen=st.none() | st.sets(st.integers(0, 11)),
    query=QUERIES,
    k=st.integers(1, 12),
    examples=[
        {
            "parts": [[["ant", "bee"], ["bee"]], [["bee", "cat", "dog"], ["elk"]]],
            "gone": {2},
            "chosen": chosen,
            "query": ["ant", "bee"],
            "k": 5,
        }
        for chosen in (None, {0, 1})
    ],
)
def word_statistics_are_those_of_all_documents(impl, parts, gone, chosen, query, k):
    """Deleted documents count nothing; documents of other additions, and those that `ids` excludes, count."""
    index, model = filled(impl, [[["ant", "fox"]], *parts])
    names = list(model.documents)[1:]
    dead = [name for i, name in enumerate(names) if i in gone]
    index.delete(dead)
    model.delete(dead)
    ids = None if chosen is None else [name for i, name in enumerate(names) if i in chosen]
    expected = dict(model.search_words(query, 20, ids))
    absolute = tolerance(len(names)) * max(expected.values(), default=0)
    same_hits(index.search_words(query, k, ids), expected, model, k, absolute)


@case(
    "60",
    "Index.search_words",
    equation="8.5",
    heavy=True,
    texts=st.lists(st.sampled_from("ab"), min_size=1),
    k=st.integers(1, 9),
)
def a_search_by_words_returns_documents_with_a_word(impl, texts, k):
    """Only documents with a word of the query are returned. Equal ones come in the order of their addition."""
    words = {"a": ["ant", "fox"], "b": ["bee", "fox"]}
    index, model = filled(impl, [[["fox"]], [words[text] for text in texts[:20]]])
    matching = [name for name, terms in model.terms.items() if "ant" in terms]
    assert [name for name, _ in index.search_words(["ant"], k)] == matching[:k]


@case("61", "similarity", score=st.integers(-16, 16), n=st.integers(1, 8), zeros=st.integers(0, 4))
def a_similarity_is_the_score_per_query_vector(impl, score, n, zeros):
    """S / n for n query vectors and any number of zero vectors, which add nothing to S."""
    q = np.concatenate([np.full((n, 3), -0.5, np.float32), np.zeros((zeros, 3), np.float32)])
    assert impl.similarity(float(score), q) == score / n


@case("63", "Index.search_words", equation="10.8", heavy=True, seed=st.integers(0, 2**32 - 1), k=st.integers(1, 9))
def a_misspelt_word_counts_half(impl, seed, k):
    """A word that no document has stands for the most frequent one that is one letter apart, at half its weight."""
    rng = np.random.default_rng(seed)
    texts = [rng.choice(["shell", "shelf", "wing", "buckle", "shelly1"], 3).tolist() for _ in range(8)]
    index, model = filled(impl, [[["fox", "shell"]], texts])
    for query in (["shel"], ["shel", "wing"], ["buckel", "shell"], ["wings", "wings"], ["shely1", "fox"], ["yaks"]):
        expected = dict(model.search_words(query, 20))
        same_hits(index.search_words(query, k), expected, model, k, tolerance(9) * max(expected.values(), default=0))


@case("62", "fuse", n=st.integers(1, 9), n_terms=st.integers(0, 40), seed=st.integers(0, 2**32 - 1))
def fused_scores_are_the_definition(impl, n, n_terms, seed):
    """MaxSim, and BM25 divided by the root of the number of terms."""
    rng = np.random.default_rng(seed)
    late, words = rng.uniform(-32, 32, n), rng.uniform(0, 64, n) * rng.integers(0, 2, n)
    fused = np.array(impl.fuse(late, words, n_terms), np.float64)
    expected = np.array(definition.fuse(late.tolist(), words.tolist(), n_terms))
    assert (np.abs(fused - expected) <= g(8) * (np.abs(late) + words)).all()


@case(
    "62",
    "Index.search_hybrid",
    equation="8.6",
    heavy=True,
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 7),
    chosen=st.booleans(),
)
def a_hybrid_search_ranks_the_best_by_either(impl, seed, k, chosen):
    """Documents that only BM25 finds are ranked by both scores, and so are those that only MaxSim finds."""
    rng, n = np.random.default_rng(seed), 2 * 7 + 12 + 20
    lasts = rng.permutation(n)[:6]  # their MaxSim is the smallest, so that they are not in the pool of MaxSim
    vectors = [np.array([[7 if i in lasts else 8 + rng.integers(0, 3), 0]], np.float32) / 16 for i in range(n)]
    texts = [["ant", "fox"] if i in lasts[:4] else ["bee", "fox"] for i in range(n)]
    index, model, names = impl.Index(2), definition.Index(2), [f"d{2 * n - i}" for i in range(n)]
    for target in (index, model):
        target.add(names, vectors, texts)
    q, ids = np.array([[1, 0], [0.5, 0]], np.float32), names[:-2] if chosen else None
    expected = dict(model.search_hybrid(q, ["ant"], n, ids))
    same_hits(index.search_hybrid(q, ["ant"], k, ids), expected, model, k, 4 * tolerance(n))

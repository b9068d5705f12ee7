"""Tests of the definition: its examples, its numbers, its errors, and the engine's default search compared with it."""

import inspect
import math
import re
from pathlib import Path

import numpy as np
import pytest
from strategies import unit

from refcolbert import definition, maxsim
from refcolbert.engine import codec, ivf
from refcolbert.engine.ragged import offsets_of
from refcolbert.engine.search import SearchOptions, search
from refcolbert.engine.segments import Segment, SegmentedIndex

SOURCE = Path(definition.__file__).read_text()


def test_sections_and_equations_are_numbered_in_order():
    """Sections count from 1, equations from 1 in each section, and each public function states one equation."""
    _, *sections = re.split(r"^# ---- ", SOURCE, flags=re.M)
    assert [section.partition(".")[0] for section in sections] == [str(i) for i in range(1, len(sections) + 1)]
    for number, section in enumerate(sections, 1):
        stated = re.findall(r"^ +Equation (\S+):", section, re.M)
        assert stated == [f"{number}.{i}" for i in range(1, len(stated) + 1)]
    public = [getattr(definition, name) for name in definition.__all__] + list(vars(definition.Index).values())
    functions = [f for f in public if inspect.isfunction(f) and not f.__name__.startswith("_")]
    assert [f.__name__ for f in functions if f.__doc__.count("Equation ") != 1] == []


def test_the_page_has_the_sections():
    """docs/definition.md shows each public name below the heading of its section, in the order of the source."""
    page = (Path(__file__).parents[1] / "docs" / "definition.md").read_text()
    entry = re.compile(r"^(?:# ----|##|def|class|\.\. auto(?:function|class)::) (\d+\. .+|[A-Za-z]\w*)", re.M)
    assert entry.findall(page) == entry.findall(SOURCE)


def test_the_version_in_the_text_is_the_version():
    """The sentence that says how to cite the definition names DEFINITION_VERSION."""
    assert f'"refcolbert definition {definition.DEFINITION_VERSION}, equation' in definition.__doc__


@pytest.mark.parametrize("dim", [1, 3, 48, 128])
def test_the_canonical_score_is_the_definition_to_the_bit(dim):
    """Equation 2.6 with the additions of equation 2.1 has the bits of `refcolbert.maxsim` for one document."""
    rng = np.random.default_rng(dim)
    for n_q, n_d in ((1, 1), (5, 3), (32, 40)):
        q, d = unit(rng, n_q, dim), unit(rng, n_d, dim)
        assert maxsim(q, d) == definition.maxsim(q.tolist(), d.tolist())


def stored_tokens(seed, n_docs=80, dim=4, n_centroids=24):
    """A query and a collection whose similarities float32 holds exactly, and whose largest one is 1.

    Components are multiples of 1/32. 255 times a similarity is then exact too, so the engine's table of bytes is
    equation 7.4. Residuals are longer than centroids, so that each stage drops documents that another would keep.
    """
    rng = np.random.default_rng(seed)
    q = (rng.integers(-2, 3, (5, dim)) / 4).astype(np.float32)
    centroids = (rng.integers(-16, 17, (n_centroids, dim)) / 32).astype(np.float32)
    q[0] = centroids[0] = 0.5
    offsets = offsets_of(rng.integers(1, 14, n_docs).tolist())
    n_tokens = int(offsets[-1])
    model = codec.Codec(centroids, centroids[:1], offsets_of([n_centroids]), np.ones(dim, np.float32), 2)
    residuals = codec.pack(rng.integers(0, 4, (n_tokens, dim)).astype(np.uint8), 2)
    scales, spreads = np.ones(n_tokens, np.float16), np.full(n_tokens, 16, np.uint8)
    encoded = codec.Encoded(rng.integers(0, n_centroids, n_tokens).astype(np.uint16), residuals, scales, spreads)
    live, lists = np.ones(n_docs, np.bool_), ivf.build(encoded.codes, offsets)
    segment = Segment(np.arange(n_docs), offsets, live, 2.0, None, encoded, lists)
    return q, SegmentedIndex(dim, model, (segment,)), offsets


STAGES = [(1, 1, 5), (3, 2, 30), (1, 24, 79), (10, 1, 10), (2, 1, 2), (70, 1, 75), (6, 4, 3), (5, 1, 5)]


@pytest.mark.parametrize(("k", "nprobe", "keep"), STAGES)
def test_the_stages_of_search_are_those_of_the_definition(monkeypatch, k, nprobe, keep):
    """The engine returns the documents and the scores of equation 7.7, in its order, whatever each stage drops."""
    monkeypatch.setattr("refcolbert.engine.candidates.ROUND", 4)
    for seed in range(20):
        q, stored, offsets = stored_tokens(seed)
        result = search(q, stored, k, SearchOptions(nprobe=nprobe, candidates=keep))
        documents = [d.tolist() for d in stored.vectors(np.arange(len(offsets) - 1))]
        codes = [c.tolist() for c in np.split(stored.segments[0].encoded.codes, offsets[1:-1])]
        centroids = stored.codec.centroids.tolist()
        expected = definition.search(q.tolist(), documents, codes, centroids, k, nprobe, keep, first_round=4)
        assert list(zip(result.documents.tolist(), result.scores.tolist(), strict=True)) == expected


def test_softmax_does_not_overflow():
    """Equation 9.1 holds for scores whose exp alone would overflow."""
    assert definition.softmax([1000.0, 1000.0 + math.log(3)]) == pytest.approx([0.25, 0.75])


def test_a_centroid_without_vectors_stays():
    """Of two equal starting centroids the second gets no vector and stays as it is (equation 5.4)."""
    assert definition.kmeans([[1.0, 0.0], [1.0, 0.0]], 2, 3, 0) == [[1.0, 0.0], [1.0, 0.0]]


def test_input_without_an_answer_is_a_value_error():
    """No rows, rows of other lengths, NaN, k = 0, a known or unknown id: the error names the equation."""
    for q, d in (([], [[1.0]]), ([[1.0]], []), ([[1.0]], [[1.0, 2.0]]), ([[math.nan]], [[1.0]])):
        with pytest.raises(ValueError, match=r"expected .* found .*equation 2\.5"):
            definition.maxsim(q, d)
    with pytest.raises(ValueError, match=r"k must be .* found 0 \(equation 3\.1"):
        definition.top_k([1.0], 0)
    index = definition.Index(1)
    index.add(["a"], [[[1.0]]])
    for wrong in (
        lambda: index.add(["a"], [[[1.0]]]),
        lambda: index.add(["b"], []),
        lambda: index.add(["b"], [[[1.0]]], []),
        lambda: index.delete(["b"]),
        lambda: index.upsert(["b", "b"], [[[1.0]], [[1.0]]]),
    ):
        with pytest.raises(ValueError, match=r"expected .* found .*equation 8"):
            wrong()
    assert (list(index.documents), list(index.terms)) == (["a"], ["a"])


def test_words_by_hand():
    """Of 4 documents of 10 words one has "strptime" and three have "date": ln(1 + 3.5 / 1.5) + ln(1 + 1.5 / 3.5)."""
    texts = [[*words, *["filler"] * (10 - len(words))] for words in (["strptime", "date"], ["date"], ["date"], [])]
    expected = [math.log(10 / 3) + math.log(10 / 7), math.log(10 / 7), math.log(10 / 7), 0]
    assert definition.word_scores(["strptime", "date"], texts) == pytest.approx(expected, rel=1e-15)


def test_words_of_deleted_and_replaced_documents_do_not_count():
    """After a deletion and an upsert the answers are those of an index that never had the old documents."""
    one, two = [[1.0]], [[2.0]]
    changed, fresh = definition.Index(1), definition.Index(1)
    changed.add(["a", "b", "c"], [one, one, one], [["ant"], ["ant", "bee"], ["bee"]])
    changed.delete(["a"])
    changed.upsert(["b"], [two], [["ant", "cat", "cat"]])
    fresh.add(["c", "b"], [one, two], [["bee"], ["ant", "cat", "cat"]])
    for terms in (["ant"], ["bee", "cat"], ["yak"], []):
        assert changed.search_words(terms, 3) == fresh.search_words(terms, 3)
        assert changed.search_hybrid(one, terms, 3) == fresh.search_hybrid(one, terms, 3)
    assert [name for name, _ in changed.search_words(["ant"], 3)] == ["b"]

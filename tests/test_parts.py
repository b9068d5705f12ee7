"""ScatterGather: parts that answer on their own give the answers of one index."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shards import cut, in_memory
from strategies import topical, unit

from refcolbert import Index
from refcolbert.engine.search import SearchOptions, search
from refcolbert.errors import EncoderMismatch, InvalidInput, MissingPart, UnknownId
from refcolbert.parts import LocalPart, ScatterGather

WORDS = ["date", "time", "parse", "file", "zone", "clock", "text", "line", "word", "list", "month", "strptime"]
N, DIM = 90, 8
K = 7


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One index of ready-made vectors with words and a codec; every document has a twin with equal scores."""
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 7))) for _ in range(N // 2)]
    vectors = topical(rng, N // 2, DIM)
    made = Index.create(tmp_path_factory.mktemp("whole") / "i", dim=DIM, train_at=100, words="porter")
    for twin in "ab":
        batch = [{"id": f"{twin}{i}", "text": t, "metadata": {"n": i, "g": f"g{i // 3}"}} for i, t in enumerate(texts)]
        made.add(batch, vectors=vectors)
    made.compact()
    return made


def scattered(whole, folder, bounds):
    """The same documents as parts that know nothing of each other."""
    sharded = cut(whole, folder, bounds)
    return ScatterGather({shard.path.name: LocalPart(shard) for shard in sharded.shards})


def answers(hits):
    """What a caller sees of hits, the bits of scores included."""
    return [(h.rank, h.id, h.score, h.parts, h.similarity, h.text, h.metadata) for h in hits]


QUERIES = ["parse a date", "clock clock", "strptme", "tiem zone", "nothing of this"]
OPTIONS = [{}, {"where": {"n": {"$lt": 20}}}, {"ids": ["a1", "b1", "b40", "?"]}, {"group_by": "g"}, {"min_score": 0.1}]


@settings(max_examples=10)
@given(data=st.data())
def test_exact_answers_equal_those_of_one_index(data, whole):
    """For any split: hits, parts of scores and order are equal to the bit, in every mode, with every filter."""
    bounds = data.draw(st.lists(st.integers(1, N - 1), unique=True, max_size=5).map(sorted), label="bounds")
    vectors = [unit(np.random.default_rng(i), 4, DIM) for i in range(len(QUERIES))]
    with in_memory() as folder:
        parts = scattered(whole, folder, bounds)
        for mode, options in itertools.product(("late", "words", "hybrid"), OPTIONS):
            if mode == "words" and "min_score" in options:
                continue
            given = {"mode": mode, "exact": True, **options} | ({} if mode == "words" else {"vectors": vectors})
            one = whole.search_many(QUERIES, K, **given)
            assert list(map(answers, parts.search_many(QUERIES, K, **given))) == list(map(answers, one))


@settings(max_examples=10)
@given(data=st.data())
def test_recall_is_not_lower_than_that_of_one_index(data, whole):
    """Where the probed cells hold k documents, the i-th best score is at least that of one index that probes them."""
    bounds = data.draw(st.lists(st.integers(1, N - 1), unique=True, max_size=5).map(sorted), label="bounds")
    options = {
        "nprobe": data.draw(st.integers(1, 4), label="nprobe"),
        "candidates": data.draw(st.integers(1, 30), label="candidates"),
        "where": data.draw(st.sampled_from([None, {"n": {"$gte": 12}}, {"n": {"$lt": 9}}]), label="where"),
    }
    probed = SearchOptions(nprobe=options["nprobe"], candidates=options["candidates"], widen=False)
    allowed = whole.view.allowed(options["where"], None)
    with in_memory() as folder:
        parts = scattered(whole, folder, bounds)
        for seed in range(20):
            query = unit(np.random.default_rng(seed), 4, DIM)
            trace = search(query, whole.segmented, K, probed, allowed=allowed).trace
            if any(stage.name == "candidates" and stage.count < K for stage in trace):
                continue
            ours, one = ([hit.score for hit in index.search(query, K, **options)] for index in (parts, whole))
            assert len(ours) == len(one)
            assert all(mine >= theirs for mine, theirs in zip(ours, one, strict=True))


def test_a_hit_of_a_part_explains_itself(whole, tmp_path):
    """The explanation is that of one index: the words have their weights in the whole collection."""
    parts = scattered(whole, tmp_path / "s", [20, 60])
    query = {"mode": "hybrid", "vectors": unit(np.random.default_rng(0), 4, DIM), "exact": True}
    ours, one = (index.search("parse a date", **query)[0] for index in (parts, whole))
    assert ours.explain().to_dict() == one.explain().to_dict()
    assert sum(word.score for word in ours.explain().shared_words) == pytest.approx(ours.parts.words)


def test_get_asks_every_part(whole, tmp_path):
    """Documents come in the order of the ids; an id that no part has is named."""
    parts = scattered(whole, tmp_path / "s", [20, 60])
    assert parts.get(["b44", "a0"]) == whole.get(["b44", "a0"])
    with pytest.raises(UnknownId, match="'nobody'"):
        parts.get(["a0", "nobody"])


def test_a_part_that_fails_is_missing_from_the_answer(whole, tmp_path):
    """The other parts answer, the hits say what is missing, and statistics count the parts that answered."""
    sharded = cut(whole, tmp_path / "s", [20, 60])
    locals_ = {shard.path.name: LocalPart(shard) for shard in sharded.shards}

    def without_second(ask, parts):
        return [None if part is locals_["shard-0001"] else ask(part) for part in parts]

    partial, rest = (
        ScatterGather(locals_, map_parts=without_second),
        ScatterGather({name: part for name, part in locals_.items() if name != "shard-0001"}),
    )
    for mode in ("words", "late", "hybrid"):
        query = {"mode": mode} | ({} if mode == "words" else {"vectors": unit(np.random.default_rng(0), 4, DIM)})
        hits = partial.search("parse a date", **query)
        assert hits.missing == ("shard-0001",)
        assert answers(hits) == answers(rest.search("parse a date", **query))
        assert rest.search("parse a date", **query).missing == ()


def test_a_part_may_fail_at_any_time(whole, tmp_path):
    """Groups are looked for in several rounds; a part that fails in any of them is missing, and the others answer."""
    sharded = cut(whole, tmp_path / "s", [20, 60])
    locals_ = {shard.path.name: LocalPart(shard) for shard in sharded.shards}
    query = {"vectors": unit(np.random.default_rng(0), 4, DIM), "where": {"n": {"$lt": 20}}, "group_by": "g"}
    for last in (1, 2):
        rounds = iter(range(10))

        def until(ask, parts, rounds=rounds, last=last):
            now = next(rounds)
            return [None if now >= last and part is locals_["shard-0001"] else ask(part) for part in parts]

        assert ScatterGather(locals_, map_parts=until).search("date", **query).missing == ("shard-0001",)


def test_a_document_of_a_part_that_fails_is_not_unknown(whole, tmp_path):
    """It may exist, so the error says which part did not answer."""
    sharded = cut(whole, tmp_path / "s", [20, 60])
    locals_ = {shard.path.name: LocalPart(shard) for shard in sharded.shards}
    parts = ScatterGather(
        locals_, map_parts=lambda ask, parts: [None if i == 1 else ask(part) for i, part in enumerate(parts)]
    )
    assert parts.get(["a1"]) == whole.get(["a1"])
    with pytest.raises(MissingPart, match="shard-0001 did not answer"):
        parts.get(["a1", "a30"])


@pytest.mark.parametrize("options", [{"dim": 3}, {"words": None}, {"pool_factor": 2}])
def test_parts_that_differ_are_refused(tmp_path, options):
    """The first difference is named, with the part."""
    made = {}
    for name, more in (("a", {}), ("b", options)):
        made[name] = LocalPart(Index.create(tmp_path / name, **{"dim": 2, "words": "porter"} | more))
    with pytest.raises(InvalidInput, match=f"expected {next(iter(options))} .* in b, as in a"):
        ScatterGather(made)


def test_parts_of_different_models_are_refused(tmp_path, encoder):
    """Vectors of two models cannot be compared; a text needs the model of the parts."""
    made = {
        "a": LocalPart(Index.create(tmp_path / "a", dim=encoder.dim, words="unicode61")),
        "b": LocalPart(Index.create(tmp_path / "b", encoder, words="unicode61")),
    }
    with pytest.raises(InvalidInput, match="expected the model None in b, as in a"):
        ScatterGather(made)
    with pytest.raises(EncoderMismatch, match="ready-made vectors"):
        ScatterGather({"a": made["a"]}).search("text")


def test_no_parts_are_refused():
    """A collection has at least one part."""
    with pytest.raises(InvalidInput, match="at least one part"):
        ScatterGather({})

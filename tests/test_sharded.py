"""ShardedIndex: one index and any split of it give the same answers, and writes go to the shard that owns the id."""

import json
import pickle
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shards import cut, in_memory
from strategies import topical

from refcolbert import Index, ShardedIndex, open_index
from refcolbert.errors import (
    CorruptIndexError,
    DuplicateId,
    IndexExists,
    IndexLocked,
    IndexNotFound,
    IndexTooNewError,
    InvalidInput,
    UnknownId,
)
from refcolbert.storage.shards import SHARDS, write_shards, writing_shards
from refcolbert.storage.strict_json import seal

WORDS = ["date", "time", "parse", "file", "zone", "clock", "text", "line", "word", "list", "month"]
N = 60


def documents(n=N):
    """n documents of two to five words, with metadata and two passages per group."""
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(WORDS, rng.integers(2, 6))) for _ in range(n)]
    return [{"id": f"d{i}", "text": t, "metadata": {"n": i, "of": f"g{i // 2}"}} for i, t in enumerate(texts)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, encoder):
    """One index with a codec and words; equal scores included."""
    made = Index.create(tmp_path_factory.mktemp("whole") / "i", encoder, train_at=100)
    # The same documents under other ids: their scores are equal, so that positions decide.
    twins = [{**document, "id": f"twin-{document['id']}"} for document in documents()[:20]]
    made.add(documents())
    made.add(twins)
    made.delete(["d3", "d30"])
    # A filter and deleted documents widen the probing; the shards are cut without the deleted ones.
    made.compact()
    return made


@pytest.fixture
def sharded(whole, tmp_path):
    """The same documents in three shards."""
    return cut(whole, tmp_path / "s", [11, 47])


def answers(hits):
    """What a caller sees of hits, the bits of scores included."""
    return [(hit.rank, hit.id, hit.score, hit.parts, hit.text, hit.metadata) for hit in hits]


QUERIES = ["parse a date", "clock", "tiem zone", "month of the list"]
OPTIONS = [
    {},
    {"exact": True},
    {"k": 3},
    {"k": 100},
    {"nprobe": 1, "candidates": 5, "k": 4},
    {"where": {"n": {"$lt": 25}}},
    {"ids": ["d2", "d40", "twin-d2", "unknown"]},
    {"group_by": "of", "k": 5},
    {"min_score": 0.3},
]


@pytest.mark.parametrize("mode", ["late", "words", "hybrid"])
@pytest.mark.parametrize("options", OPTIONS)
def test_answers_equal_those_of_one_index(whole, sharded, mode, options):
    """Hits, scores, parts and order are equal to the bit, by every mode and with every filter."""
    if mode == "words" and "min_score" in options:
        options = {}
    for query in QUERIES:
        assert answers(sharded.search(query, mode=mode, **options)) == answers(
            whole.search(query, mode=mode, **options)
        )


@settings(max_examples=10)
@given(data=st.data())
def test_any_split_gives_the_answers_of_one_index(data, whole):
    """The number of shards and the documents in each change no bit of any answer, exact or not."""
    bounds = data.draw(st.lists(st.integers(1, len(whole) - 1), unique=True, max_size=4).map(sorted), label="bounds")
    with in_memory() as folder:
        split = cut(whole, folder, bounds)
        assert split.ids() == whole.ids()
        for exact in (True, False):
            options = {"mode": "hybrid", "exact": exact, "candidates": 8, "nprobe": 2}
            ours, one = (index.search_many(QUERIES, 7, **options) for index in (split, whole))
            assert list(map(answers, ours)) == list(map(answers, one))


def test_reading_is_that_of_one_index(whole, sharded):
    """ids, get, vectors, len, in and the facts of info are the same."""
    assert (sharded.ids(), len(sharded)) == (whole.ids(), len(whole))
    assert sharded.get(["d50", "d1"]) == whole.get(["d50", "d1"])
    assert np.array_equal(sharded.vectors(["d50", "d1"]).vectors, whole.vectors(["d50", "d1"]).vectors)
    assert "twin-d2" in sharded
    assert "d3" not in sharded
    facts = ("documents", "tokens", "dim", "nbits", "words", "centroids", "encoder")
    assert {fact: sharded.info()[fact] for fact in facts} == {fact: whole.info()[fact] for fact in facts}
    assert sharded.info()["shards"] == 3
    assert sharded.info()["bytes"] == sum(shard.info()["bytes"] for shard in sharded.shards)
    explained = sharded.search("parse a date", 1, mode="hybrid")[0].explain()
    assert str(explained) == str(whole.search("parse a date", 1, mode="hybrid")[0].explain())


def test_open_index_opens_either(whole, sharded):
    """What the folder holds decides the class; Index.open of shards says what to do."""
    assert isinstance(open_index(whole.path), Index)
    assert isinstance(open_index(sharded.path), ShardedIndex)
    with pytest.raises(IndexNotFound, match="open_index"):
        Index.open(sharded.path)
    with pytest.raises(IndexNotFound, match="no sharded index"):
        ShardedIndex.open(whole.path)


def test_pickling_opens_the_folder_again(sharded):
    """Another process gets the path, not the content."""
    assert answers(pickle.loads(pickle.dumps(sharded)).search("clock")) == answers(sharded.search("clock"))  # noqa: S301


def test_a_snapshot_is_a_sharded_index(sharded, tmp_path):
    """It has the same answers and is not overwritten."""
    sharded.snapshot(tmp_path / "copy")
    copy = ShardedIndex.open(tmp_path / "copy", verify="full")
    assert answers(copy.search("clock", mode="hybrid")) == answers(sharded.search("clock", mode="hybrid"))
    assert copy.check()["documents"] == len(sharded)
    with pytest.raises(IndexExists):
        sharded.snapshot(tmp_path / "copy")


def test_add_writes_to_the_last_shard(sharded):
    """New documents come last; a known id of any shard is refused, and nothing is written."""
    before = [shard.generation for shard in sharded.shards]
    assert sharded.add([{"id": "new", "text": "parse a date"}, "no id"]) == ["new", sharded.ids()[-1]]
    assert sharded.ids()[-2] == "new"
    assert [shard.generation for shard in sharded.shards] == [*before[:2], before[2] + 1]
    with pytest.raises(DuplicateId, match="'d0'"):
        sharded.add([{"id": "other", "text": "x"}, {"id": "d0", "text": "y"}])
    assert "other" not in sharded


def test_upsert_writes_to_the_shard_that_owns_the_id(sharded):
    """The replaced document is gone, the new one is found, and unknown ids go to the last shard."""
    sharded.upsert([{"id": "d0", "text": "zone zone zone"}, {"id": "brand new", "text": "clock"}])
    assert [("d0" in shard, "brand new" in shard) for shard in sharded.shards] == [
        (True, False),
        (False, False),
        (False, True),
    ]
    assert sharded.get(["d0"])[0].text == "zone zone zone"
    assert sharded.check()["documents"] == len(sharded.ids())


def test_wrong_vectors_change_no_shard(sharded):
    """Vectors for two shards are checked before the first one is written."""
    vectors = sharded.vectors(["d0", "d50"])
    vectors.vectors[-1] = np.nan
    before = [shard.generation for shard in sharded.shards]
    with pytest.raises(InvalidInput, match="vectors"):
        sharded.upsert([{"id": "d0", "text": "x"}, {"id": "d50", "text": "y"}], vectors=vectors)
    assert [shard.generation for shard in sharded.shards] == before


def test_upsert_of_a_group_replaces_its_members(sharded):
    """With group_by, a document replaces its group in the shard that has it, and is refused for two shards."""
    sharded.upsert([{"id": "new", "text": "zone", "metadata": {"of": "g12"}}], group_by="of")
    assert [name for name in ("d24", "d25", "new") if name in sharded.shards[1]] == ["new"]
    with pytest.raises(InvalidInput, match="shard-0000 and shard-0002"):
        # g4 and its twins are in the first and the last shard.
        sharded.upsert([{"id": "x", "text": "zone", "metadata": {"of": "g4"}}], group_by="of")


def test_wrong_metadata_change_no_shard(sharded):
    """update_metadata with wrong metadata for a later shard leaves the earlier ones as they are."""
    before = sharded.get(["d0"])
    with pytest.raises(InvalidInput, match="plain JSON"):
        sharded.update_metadata({"d0": {"a": 1}, "d40": {"a": object()}})
    assert sharded.get(["d0"]) == before


def test_new_passages_go_to_the_shard_of_their_text(sharded):
    """A text that gets longer keeps its passages in one shard, so that they can be replaced together later."""
    passages = [{"id": f"t@{i}", "text": f"zone {i}", "metadata": {"passage_of": "t"}} for i in range(4)]
    sharded.shards[0].add(passages[:2])
    sharded.upsert(passages[:3])
    assert [name for name in ("t@0", "t@1", "t@2") if name in sharded.shards[0]] == ["t@0", "t@1", "t@2"]
    sharded.upsert(passages[3:], group_by="passage_of")
    assert [name for name in sharded.ids() if name.startswith("t@")] == ["t@3"]


def test_a_new_group_is_in_one_shard(sharded):
    """A document that joins a group brings new members of it to its own shard."""
    group = [
        {"id": "d0", "text": "zone", "metadata": {"of": "K"}},
        {"id": "k2", "text": "clock", "metadata": {"of": "K"}},
    ]
    sharded.upsert(group, group_by="of")
    assert ("d0" in sharded.shards[0], "k2" in sharded.shards[0]) == (True, True)


def test_upsert_replaces_an_id_in_every_shard(sharded):
    """An id that was added to a second shard itself has one document afterwards, the new one."""
    sharded.shards[-1].add([{"id": "d0", "text": "an earlier text"}])
    sharded.upsert([{"id": "d0", "text": "zone"}])
    assert [document.text for document in sharded.documents() if document.id == "d0"] == ["zone"]


def test_delete_reaches_every_shard_or_none(sharded):
    """Ids of several shards are deleted; an unknown one leaves all as they are."""
    with pytest.raises(UnknownId):
        sharded.delete(["d0", "nobody"])
    assert "d0" in sharded
    sharded.delete(["d0", "d59", "twin-d5"])
    assert not {"d0", "d59", "twin-d5"} & set(sharded.ids())
    sharded.delete(["g1"], group_by="of")
    assert not {"d2", "twin-d2", "twin-d3"} & set(sharded.ids())


def test_other_objects_see_writes_after_refresh(sharded):
    """An object keeps its generation until it is refreshed; newest returns another object."""
    other = ShardedIndex.open(sharded.path)
    sharded.delete(["d0"])
    assert "d0" in other
    newest = other.newest()
    assert ("d0" in newest, "d0" in other) == (False, True)
    assert (other.refresh(), other.refresh(), "d0" in other) == (True, False, False)
    assert newest.newest() is newest


@pytest.mark.parametrize("bounds", [[20], [11, 47, 60]])
def test_refresh_follows_another_index_to_the_same_path(sharded, whole, tmp_path, bounds):
    """refresh, newest and a pickle see the index that was moved there, if it has fewer shards or more."""
    reader, pickled = open_index(sharded.path), pickle.dumps(sharded)
    cut(whole, tmp_path / "other", bounds)
    sharded.path.rename(tmp_path / "away")
    (tmp_path / "other").rename(sharded.path)
    assert len(reader.newest().shards) == len(bounds) + 1
    assert reader.refresh()
    assert not reader.refresh()
    assert len(reader.shards) == len(bounds) + 1
    assert len(pickle.loads(pickled).shards) == len(bounds) + 1  # noqa: S301 - our own
    assert answers(reader.search("clock")) == answers(open_index(sharded.path).search("clock"))


def test_check_names_an_id_of_two_shards(sharded):
    """An id that a writer of one shard added is found, also by an object that was opened before."""
    with Index.open(sharded.shards[0].path) as shard:
        shard.add([{"id": "d40", "text": "clock"}])
    with pytest.raises(CorruptIndexError, match="'d40' twice"):
        sharded.check()


def test_compact_keeps_the_answers(sharded, whole):
    """Segments of each shard merge, deleted documents go, and the shared codec stays."""
    sharded.delete(["d0"])
    sharded.compact()
    assert sharded.info()["deleted"] == 0
    assert sharded.info()["segments"] == 3
    with pytest.raises(InvalidInput, match="refit"):
        sharded.compact(refit=True)


def test_one_writer_at_a_time(sharded):
    """A second writer of the folder is refused without waiting."""
    with writing_shards(sharded.path), pytest.raises(IndexLocked):
        sharded.delete(["d0"])


def test_some_shards_are_not_written(sharded):
    """A write through a part of the shards is refused: it would not see an id that another shard has."""
    some = ShardedIndex.open(sharded.path, shards=["shard-0000"])
    with pytest.raises(InvalidInput, match="all shards"):
        some.add([{"id": "d40", "text": "clock"}])
    assert len(sharded.newest()) == len(sharded)


def test_a_damaged_shard_is_named(sharded):
    """Opening names the shard; the others can be opened."""
    entry = sharded.shards[1].view.manifest.segments[0].files["residuals"]
    file = sharded.path / "shard-0001" / "data" / entry.name
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptIndexError, match=r"shard shard-0001: .*residuals"):
        ShardedIndex.open(sharded.path)
    assert len(Index.open(sharded.path / "shard-0000")) == 11
    shutil.rmtree(sharded.path)


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        ({"dim": 5}, "dim"),
        ({"nbits": 4}, "codec"),
        ({"nbits": "float32"}, "nbits"),
        ({"pool_factor": 2}, "pool_factor"),
    ],
)
def test_shards_that_differ_are_refused(tmp_path, options, fact):
    """The first difference is named, with the shard."""
    for name, more in (("a", {}), ("b", options)):
        Index.create(tmp_path / name, **{"dim": 4, "nbits": "float16"} | more)
    write_shards(tmp_path, ["a", "b"])
    with pytest.raises(CorruptIndexError, match=f"b: {fact}"):
        ShardedIndex.open(tmp_path)


def test_codecs_that_differ_are_refused(tmp_path):
    """Two indexes that fitted their own codecs cannot be shards of one: a code would mean two things."""
    for name in ("a", "b"):
        vectors = topical(np.random.default_rng(ord(name)), 20, 8)
        Index.create(tmp_path / name, dim=8, train_at=10).add(
            [{"id": f"{name}{i}"} for i in range(20)], vectors=vectors
        )
    write_shards(tmp_path, ["a", "b"])
    with pytest.raises(CorruptIndexError, match="b: codec"):
        ShardedIndex.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", CorruptIndexError),
        (seal({"format_version": 1, "shards": []}), CorruptIndexError),
        (seal({"format_version": 1, "shards": ["a", "a"]}), CorruptIndexError),
        (seal({"format_version": 1, "shards": ["../a"]}), CorruptIndexError),
        (seal({"format_version": 1, "shards": [1]}), CorruptIndexError),
        (seal({"format_version": 1, "shards": [["a"], "a"]}), CorruptIndexError),
        (seal({"format_version": 1, "shards": ["a"], "more": 1}), CorruptIndexError),
        (seal({"format_version": 1, "shards": ["gone"]}), CorruptIndexError),
        (seal({"format_version": 2, "shards": {}}), IndexTooNewError),
        (json.dumps({"format_version": 1, "shards": ["a"]}).encode(), CorruptIndexError),
    ],
)
def test_shards_json_is_read_strictly(tmp_path, content, error):
    """Anything but a list of distinct plain names with its hash is refused."""
    Index.create(tmp_path / "a", dim=2, nbits="float16")
    (tmp_path / SHARDS).write_bytes(content)
    with pytest.raises(error, match=SHARDS):
        ShardedIndex.open(tmp_path)


def test_a_list_that_no_reader_accepts_is_not_written(tmp_path):
    """Names are checked before anything is written."""
    with pytest.raises(InvalidInput, match="no reader"):
        write_shards(tmp_path, ["A B"])
    assert not list(tmp_path.iterdir())

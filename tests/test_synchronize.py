"""sync: an index holds exactly the documents of a source, and encodes no text twice."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shards import cut, in_memory
from strategies import topical

from refcolbert import Encoder, Index
from refcolbert.errors import DuplicateId, InvalidInput, UnknownId
from refcolbert.synchronize import Synced

TEXTS = ["the cat sat", "a dog ran", "stocks fell", "rain is expected"]


def content(index):
    """id -> text and metadata."""
    return {document.id: (document.text, document.metadata) for document in index.documents()}


@pytest.fixture
def encoded(monkeypatch):
    """The texts that are encoded as documents."""
    texts, encode = [], Encoder.encode_documents

    def noting(self, batch, *args):
        texts.extend(batch)
        return encode(self, batch, *args)

    monkeypatch.setattr(Encoder, "encode_documents", noting)
    return texts


def test_only_new_and_changed_texts_are_encoded(tmp_path, encoder, encoded):
    """Unchanged texts are left alone, new metadata need no encoding, missing documents are deleted."""
    index = Index.create(tmp_path / "i", encoder)
    first = [{"id": str(i), "text": text, "metadata": {"n": i}} for i, text in enumerate(TEXTS)]
    assert index.sync(first) == Synced(added=4, changed=0, removed=0, unchanged=0)
    generation = index.generation
    assert index.sync(first) == Synced(added=0, changed=0, removed=0, unchanged=4)
    assert index.generation == generation
    encoded.clear()
    second = [
        first[0],
        first[1] | {"text": "a dog slept"},
        first[2] | {"metadata": {"n": True}},
        {"text": "new", "id": "x"},
    ]
    assert index.sync(second) == Synced(added=1, changed=2, removed=1, unchanged=1)
    assert encoded == ["a dog slept", "new"]
    assert content(index) == {d["id"]: (d["text"], d.get("metadata", {})) for d in second}


ids = st.sampled_from("abcdefgh")
sources = st.dictionaries(ids, st.tuples(st.sampled_from(TEXTS), st.integers(0, 2)), min_size=1)


@settings(max_examples=10)
@given(states=st.lists(sources, min_size=2, max_size=4))
def test_an_index_mirrors_its_source(encoder, states):
    """After each sync, whatever was there before, the index holds the documents of the source, and is sound."""
    with in_memory() as folder:
        index = Index.create(folder, encoder, train_at=20)
        for state in states:
            before = content(index)
            documents = [{"id": i, "text": text, "metadata": {"n": n}} for i, (text, n) in state.items()]
            synced = index.sync(documents)
            after = {d["id"]: (d["text"], d["metadata"]) for d in documents}
            assert content(index) == after
            assert synced == Synced(
                added=len(after.keys() - before.keys()),
                changed=sum(before[i] != after[i] for i in after.keys() & before.keys()),
                removed=len(before.keys() - after.keys()),
                unchanged=sum(before[i] == after[i] for i in after.keys() & before.keys()),
            )
            index.check()


def test_an_empty_source_is_refused(tmp_path, encoder):
    """It is more often a wrong path than a wish to delete everything."""
    index = Index.create(tmp_path / "i", encoder)
    assert index.sync([]) == Synced(0, 0, 0, 0)
    index.add(TEXTS)
    with pytest.raises(InvalidInput, match="found none, but 4"):
        index.sync([])
    assert len(index) == 4


def test_a_repeated_id_is_refused_across_batches(tmp_path, encoder, monkeypatch):
    """Two documents of one id would replace each other at every sync."""
    monkeypatch.setattr("refcolbert.synchronize.BATCH", 2)
    index = Index.create(tmp_path / "i", encoder)
    with pytest.raises(DuplicateId, match="'a'"):
        index.sync([{"id": i, "text": "x"} for i in "abcda"])


@pytest.mark.parametrize("nbits", [4, "float16", "float32"])
def test_new_metadata_change_no_bit_of_a_vector(tmp_path, nbits):
    """Vectors are copied as they are stored, raw or encoded, from several segments."""
    index = Index.create(tmp_path / "i", dim=8, nbits=nbits, train_at=100)
    vectors = topical(np.random.default_rng(0), 40, 8)
    for first, last in itertools.pairwise([0, 30, 38, 40]):
        index.add([{"id": f"d{i}"} for i in range(first, last)], vectors=[vectors[i] for i in range(first, last)])
    names = ["d39", "d3", "d31"]
    before, scores = index.vectors(names), [hit.score for hit in index.search(vectors[3], 40)]
    index.update_metadata({name: {"new": name} for name in names})
    assert np.array_equal(index.vectors(names).vectors, before.vectors)
    assert [document.metadata for document in index.get(names)] == [{"new": name} for name in names]
    assert index.ids()[-3:] == ["d3", "d31", "d39"]
    assert [hit.score for hit in index.search(vectors[3], 40)] == scores
    assert index.check()["documents"] == 40


def test_metadata_of_unknown_ids_change_nothing(tmp_path, encoder):
    """One unknown id, or metadata that JSON cannot hold, and no document is changed."""
    index = Index.create(tmp_path / "i", encoder)
    index.add(TEXTS)
    before = content(index)
    with pytest.raises(UnknownId):
        index.update_metadata({"0": {"a": 1}, "nobody": {}})
    with pytest.raises(InvalidInput, match="metadata"):
        index.update_metadata({"0": {"a": object()}})
    index.update_metadata({})
    assert content(index) == before
    assert index.generation == 2


def test_a_sharded_index_is_synchronized(tmp_path, encoder):
    """Changes go to the shards that own the ids."""
    whole = Index.create(tmp_path / "i", encoder, train_at=10)
    whole.add([{"id": f"d{i}", "text": text} for i, text in enumerate(TEXTS)])
    sharded = cut(whole, tmp_path / "s", [2])
    source = [
        {"id": "d0", "text": "new text"},
        {"id": "d2", "text": TEXTS[2], "metadata": {"n": 1}},
        {"id": "x", "text": "y"},
    ]
    assert sharded.sync(source) == Synced(added=1, changed=2, removed=2, unchanged=0)
    assert [shard.ids() for shard in sharded.shards] == [["d0"], ["x", "d2"]]
    assert sharded.sync(source) == Synced(added=0, changed=0, removed=0, unchanged=3)
    sharded.check()


def test_sync_removes_what_is_in_two_shards(tmp_path, encoder):
    """Documents that were added to a shard itself: one copy of a known id stays, none of one that is gone."""
    whole = Index.create(tmp_path / "i", encoder, train_at=10)
    source = [{"id": f"d{i}", "text": text} for i, text in enumerate(TEXTS)]
    whole.add(source)
    sharded = cut(whole, tmp_path / "s", [2])
    sharded.shards[1].add([source[0], {"id": "d1", "text": "another text"}])
    assert sharded.sync([source[0], *source[2:]]) == Synced(added=0, changed=0, removed=3, unchanged=3)
    assert sorted(sharded.ids()) == ["d0", "d2", "d3"]
    sharded.shards[0].add([source[0]])
    changed = [{"id": "d0", "text": "a changed text"}, *source[2:]]
    assert sharded.sync(changed) == Synced(added=0, changed=1, removed=1, unchanged=2)
    sharded.check()


def test_open_or_create(tmp_path, encoder):
    """The first call makes an index, the second one opens it."""
    Index.open_or_create(tmp_path / "i", encoder, nbits=2).add(["one"])
    again = Index.open_or_create(tmp_path / "i", encoder)
    assert (len(again), again.info()["nbits"]) == (1, 2)


def test_reprs_name_the_thing(tmp_path, encoder):
    """An index shows its path, size and generation, an encoder its model."""
    index = Index.create(tmp_path / "i", encoder)
    index.add(["one"])
    assert repr(index) == f"<Index {tmp_path / 'i'}, 1 document, generation 2>"
    index.close()
    assert repr(index) == f"<Index {tmp_path / 'i'}, closed>"
    assert repr(encoder) == f"<Encoder {encoder.source}, dim 16, {encoder.hash[:12]}>"

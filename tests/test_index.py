"""Index: the whole surface, against a dictionary of arrays."""

import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from strategies import topical, unit

from refcolbert import Encoder, Index, Ragged
from refcolbert.engine.maxsim import score
from refcolbert.errors import (
    CorruptIndexError,
    DuplicateId,
    EncoderMismatch,
    IndexExists,
    IndexLocked,
    IndexNotFound,
    InvalidInput,
)
from refcolbert.storage.format import Manifest
from refcolbert.storage.store import Store

DIM = 8
TEXTS = ["the cat sat on the mat", "a dog ran in the park", "stocks fell on monday", "rain is expected at noon"]


def answers(hits):
    """(id, score) pairs."""
    return [(hit.id, hit.score) for hit in hits]


@pytest.fixture
def index(tmp_path, encoder):
    """Four texts under the tiny model."""
    made = Index.create(tmp_path / "i", encoder)
    made.add(TEXTS)
    return made


@pytest.fixture
def vectors_index(tmp_path):
    """60 documents of ready-made vectors, encoded with a 4-bit codec."""
    made = Index.create(tmp_path / "v", dim=DIM, nbits=4, train_at=100)
    documents = topical(np.random.default_rng(2), 60, DIM)
    made.add([{"id": f"d{i}", "metadata": {"n": i, "even": i % 2 == 0}} for i in range(60)], vectors=documents)
    return made, documents


def test_search_ranks_by_exact_maxsim(index, encoder):
    """A text query returns ids, texts and scores that equal MaxSim of the stored (float16) vectors."""
    (q,) = encoder.encode_queries(["cat on a mat"])
    stored = [d.astype(np.float16).astype(np.float32) for d in encoder.encode_documents(TEXTS)]
    expected = sorted(((score(q, d), -i) for i, d in enumerate(stored)), reverse=True)
    hits = index.search("cat on a mat", k=4)
    assert [(h.score, -int(h.id)) for h in hits] == expected
    assert [h.rank for h in hits] == [1, 2, 3, 4]
    assert [h.text for h in hits] == [TEXTS[int(h.id)] for h in hits]


def test_text_and_vector_queries_agree(index, encoder):
    """Passing the query's vectors instead of its text gives the same answer."""
    (q,) = encoder.encode_queries(["a dog"])
    assert answers(index.search("a dog")) == answers(index.search(q))


def test_another_process_opens_it(index):
    """Reopening gives the same answers, and the index finds its encoder by itself (33)."""
    again = Index.open(index.path)
    assert answers(again.search("rain at noon")) == answers(index.search("rain at noon"))
    assert again.ids() == ["0", "1", "2", "3"]


def test_default_ids_are_positions_and_never_reused(index):
    """Strings get their decimal position as id, also after a delete."""
    index.delete(["3"])
    assert index.add(["new text"]) == ["4"]
    assert index.ids() == ["0", "1", "2", "4"]


def test_get_contains_len(index):
    """Documents come back by id, in the order asked for."""
    index.add([{"id": "x", "text": "last", "metadata": {"a": [1, {"b": None}]}}])
    assert [d.text for d in index.get(["x", "0"])] == ["last", TEXTS[0]]
    assert index.get(["x"])[0].metadata == {"a": [1, {"b": None}]}
    assert (len(index), "x" in index, "y" in index, 3 in index) == (5, True, False, False)


def test_delete_equals_never_added(vectors_index, tmp_path):
    """Deleting equals an index that never held the documents, at a frozen codec (32)."""
    index, _ = vectors_index
    q = unit(np.random.default_rng(0), 4, DIM)
    kept = [h for h in answers(index.search(q, 60, exact=True)) if h[0] not in {"d5", "d50"}]
    index.delete(["d5", "d50"])
    assert answers(index.search(q, 60, exact=True)) == kept
    index.compact()
    assert answers(index.search(q, 60, exact=True)) == kept
    assert index.info()["deleted"] == 0


def test_upsert_replaces_at_a_new_position(vectors_index):
    """The old vectors and text are gone and ties now go after the others."""
    index, documents = vectors_index
    index.upsert([{"id": "d3"}], vectors=[documents[7]])
    assert len(index) == 60
    assert index.ids()[-1] == "d3"
    tied = answers(index.search(documents[7], 2))
    assert [name for name, _ in tied] == ["d7", "d3"]
    assert tied[0][1] == tied[1][1]


def test_adding_in_parts_equals_adding_together(vectors_index, tmp_path):
    """At a frozen codec add(A); add(B) answers like add(A + B) to the bit, however many segments there are (31)."""
    index, _ = vectors_index
    more = topical(np.random.default_rng(5), 30, DIM)
    names = [{"id": f"m{i}"} for i in range(30)]
    index.snapshot(tmp_path / "copy")
    whole = Index.open(tmp_path / "copy")
    whole.add(names, vectors=more)
    for i in range(30):
        index.add([names[i]], vectors=[more[i]])
    assert 1 < index.info()["segments"] <= 7
    for seed in range(5):
        q = unit(np.random.default_rng(seed), 5, DIM)
        for options in ({"exact": True}, {"nprobe": 2, "candidates": 9}):
            assert answers(index.search(q, 9, **options)) == answers(whole.search(q, 9, **options))


@pytest.mark.parametrize("options", [{}, {"nprobe": 1}, {"exact": True}])
def test_filters_apply_before_candidates(vectors_index, options):
    """A filter's answer is the best of what matches; an empty match is an empty answer."""
    index, _ = vectors_index
    q = unit(np.random.default_rng(1), 4, DIM)
    everything = answers(index.search(q, 60, exact=True))
    found = answers(index.search(q, 5, where={"n": {"$lt": 20}, "even": True}, **options))
    assert found == [h for h in everything if int(h[0][1:]) < 20 and int(h[0][1:]) % 2 == 0][:5]
    assert answers(index.search(q, 3, ids=["d9", "nobody"], **options)) == [h for h in everything if h[0] == "d9"]
    assert index.search(q, 3, where={"n": 1000}, **options) == []
    assert index.search(q, 3, ids=[], **options) == []


def test_crossing_train_at_fits_the_codec(tmp_path):
    """The add that crosses it converts everything into one encoded segment; nbits="float16" never does."""
    documents = topical(np.random.default_rng(0), 20, DIM)
    names = [{"id": str(i)} for i in range(20)]
    index = Index.create(tmp_path / "a", dim=DIM, train_at=len(documents.vectors))
    index.add(names[:19], vectors=documents.take(np.arange(19)))
    assert index.info()["centroids"] is None
    index.add(names[19:], vectors=[documents[19]])
    assert index.info()["centroids"] > 1
    assert index.info()["segments"] == 1
    raw = Index.create(tmp_path / "b", dim=DIM, train_at=1, nbits="float16")
    raw.add(names, vectors=documents)
    raw.compact(refit=True)
    assert raw.info()["centroids"] is None


def test_build_publishes_once_and_resumes(tmp_path, encoder, monkeypatch):
    """An interrupted build leaves nothing at its target and goes on where it stopped."""
    monkeypatch.setattr("refcolbert.index.BUILD_BATCH", 3)
    documents = [f"text number {i}" for i in range(10)]

    def failing():
        yield from documents[:7]
        raise OSError("the source broke")

    with pytest.raises(OSError, match="source broke"):
        Index.build(tmp_path / "b", failing(), encoder, train_at=10_000)
    assert not (tmp_path / "b").exists()
    seen = []
    encode = Encoder.encode_documents
    monkeypatch.setattr(
        Encoder, "encode_documents", lambda self, texts, progress=False: (seen.extend(texts), encode(self, texts))[1]
    )
    built = Index.build(tmp_path / "b", documents, encoder, train_at=10_000)
    assert seen == documents[6:]
    assert [d.text for d in built.get(built.ids())] == documents
    assert not (tmp_path / "b.building").exists()
    assert built.info()["segments"] == 1


def test_build_takes_vectors_and_fits_one_codec_in_the_end(tmp_path, monkeypatch):
    """Staged batches stay raw, however many there are, and the codec is fitted to a sample of all of them."""
    rng = np.random.default_rng(0)
    vectors = [unit(rng, int(n), 8) for n in rng.integers(2, 9, 60)]
    names = [{"id": f"d{i}"} for i in range(60)]
    with Index.create(tmp_path / "at once", dim=8, train_at=100) as index:
        index.add(names, vectors=vectors)
        expected = index.vectors(index.ids()).vectors
    monkeypatch.setattr("refcolbert.index.BUILD_BATCH", 4)
    for staged in (1000, 3):
        monkeypatch.setattr("refcolbert.storage.publish.MAX_STAGED_SEGMENTS", staged)
        built = Index.build(tmp_path / f"{staged}", iter(names), dim=8, train_at=100, vectors=iter(vectors))
        assert built.ids() == [f"d{i}" for i in range(60)]
        assert built.info()["segments"] == 1
        # Staged vectors are rounded to float16 first, so a few fall into the next bucket.
        assert np.abs(built.vectors(built.ids()).vectors - expected).mean() < 1e-2
        built.check()
        named = {file.name for file in Manifest.from_bytes((built.path / "manifest.json").read_bytes()).files()}
        left = {path.name for path in (built.path / "data").iterdir() if not path.name.endswith("manifest.json")}
        assert left == named  # none of the staged vectors


@pytest.mark.parametrize("n_vectors", [3, 5])
def test_build_wants_as_many_vectors_as_documents(tmp_path, n_vectors):
    """Too few arrays and too many are errors, and nothing stands at the target."""
    vectors = [np.ones((2, 4), np.float32)] * n_vectors
    with pytest.raises(InvalidInput, match="vectors"):
        Index.build(tmp_path / "b", ["a", "b", "c", "d"], dim=4, vectors=vectors)
    assert not (tmp_path / "b").exists()


def test_a_build_does_not_follow_a_link(tmp_path):
    """A link that leads nowhere is in the way of a build as of a create."""
    (tmp_path / "b").symlink_to(tmp_path / "nowhere")
    with pytest.raises(IndexExists):
        Index.build(tmp_path / "b", [], dim=4)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_build_refuses_an_id_that_comes_again(tmp_path, encoder, monkeypatch):
    """An id of an earlier batch is refused, in a resumed build too."""
    monkeypatch.setattr("refcolbert.index.BUILD_BATCH", 2)
    documents = [{"id": name, "text": "t"} for name in ("a", "b", "c", "a")]
    for _ in range(2):
        with pytest.raises(DuplicateId, match="'a'"):
            Index.build(tmp_path / "b", documents, encoder)
    assert not (tmp_path / "b").exists()


def test_build_resumes_when_all_was_done_but_the_move(tmp_path, encoder, monkeypatch):
    """A build that is killed before its folder gets its name is completed by the same call, words included."""
    documents = [f"{text} {i}" for i in range(20) for text in TEXTS]
    options = {"encoder": encoder, "train_at": 100, "words": "porter"}
    Index.build(tmp_path / "whole", documents, **options)

    def killed(store, target):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Store, "move", killed)
        with pytest.raises(KeyboardInterrupt):
            Index.build(tmp_path / "b", documents, **options)
    resumed = Index.build(tmp_path / "b", documents, **options)
    query = {"query": "the cat", "mode": "hybrid"}
    assert answers(resumed.search(**query)) == answers(Index.open(tmp_path / "whole").search(**query))


@pytest.mark.parametrize("change", ["other documents", "other options"])
def test_build_does_not_resume_something_else(tmp_path, encoder, monkeypatch, change):
    """A staging folder of other documents or options is an error that names it."""
    monkeypatch.setattr("refcolbert.index.BUILD_BATCH", 2)

    def failing():
        yield from ({"id": f"a{i}", "text": "t"} for i in range(4))
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - our own
        Index.build(tmp_path / "b", failing(), encoder)
    documents = [{"id": f"{'x' if change == 'other documents' else 'a'}{i}", "text": "t"} for i in range(4)]
    options = {"nbits": 2} if change == "other options" else {}
    with pytest.raises(InvalidInput, match=r"b\.building"):
        Index.build(tmp_path / "b", documents, encoder, **options)


def interrupted(path, documents, n_read, **options):
    """Build an index until the source breaks, after `n_read` documents."""

    def failing():
        yield from documents[:n_read]
        raise OSError("the source broke")

    with pytest.raises(OSError, match="source broke"):
        Index.build(path, failing(), **options)


@pytest.mark.parametrize(
    "change",
    [
        {"text": "corrected"},
        {"metadata": {"n": 2, "tags": ["a"]}},
        {"metadata": {"n": True, "tags": ["a"]}},
        {"metadata": {"tags": ["a"]}},
        None,
    ],
    ids=repr,
)
def test_build_does_not_keep_a_document_that_has_changed(tmp_path, encoder, monkeypatch, change):
    """Another text or other metadata of a staged document, or none, is an error that names the folder."""
    monkeypatch.setattr("refcolbert.index.BUILD_BATCH", 2)
    documents = [{"id": f"a{i}", "text": "t", "metadata": {"n": 1, "tags": ("a",)}} for i in range(4)]
    interrupted(tmp_path / "b", documents, 4, encoder=encoder)
    changed = documents[:3] if change is None else [*documents[:3], documents[3] | change]
    with pytest.raises(InvalidInput, match=r"expected the documents of the interrupted build in .*b\.building"):
        Index.build(tmp_path / "b", changed, encoder)
    assert len(Index.build(tmp_path / "b", documents, encoder)) == 4


def contents(folder):
    """Name -> bytes of every file of an index."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_build_of_few_documents_goes_on_where_it_stopped(tmp_path, encoder, caplog):
    """Of 150 documents 128 are kept, which is logged, and the index has the bytes of one without an interruption."""
    documents = [{"id": f"d{i}", "text": f"text number {i}", "metadata": {"n": i}} for i in range(200)]
    Index.build(tmp_path / "whole", documents, encoder, train_at=100)
    interrupted(tmp_path / "parts", documents, 150, encoder=encoder, train_at=100)
    with caplog.at_level("INFO", "refcolbert"):
        Index.build(tmp_path / "parts", documents, encoder, train_at=100)
    (record,) = caplog.records
    assert "128 documents of an interrupted build are kept" in record.getMessage()
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_build_goes_on_with_more_documents(tmp_path, encoder, monkeypatch):
    """Documents that come after the staged ones are indexed, wherever the borders of batches are."""
    monkeypatch.setattr("refcolbert.index.BUILD_BATCH", 2)
    interrupted(tmp_path / "b", TEXTS, 3, encoder=encoder)
    monkeypatch.setattr("refcolbert.index.BUILD_BATCH", 3)
    built = Index.build(tmp_path / "b", TEXTS, encoder)
    assert [document.text for document in built.get(built.ids())] == TEXTS


def test_the_borders_of_batches_change_no_byte_of_the_files(tmp_path, monkeypatch):
    """Staged in batches of any size, vectors, codec, words and texts are the same files."""
    vectors = list(topical(np.random.default_rng(0), 60, DIM))
    documents = [{"id": f"d{i}", "text": f"text number {i}", "metadata": {"n": i}} for i in range(60)]
    found = []
    for largest, smallest in ((2048, 64), (2048, 2048), (7, 2), (1, 1)):
        monkeypatch.setattr("refcolbert.index.BUILD_BATCH", largest)
        monkeypatch.setattr("refcolbert.index.FIRST_BATCH", smallest)
        built = Index.build(
            tmp_path / f"{largest}-{smallest}", documents, vectors=vectors, dim=DIM, words="porter", train_at=100
        )
        # A name begins with the number of a generation, and a manifest has such names.
        files = contents(built.path / "data")
        found.append({name.partition("-")[2]: data for name, data in files.items() if "manifest" not in name})
    assert len(found[0]) > 10
    assert all(files == found[0] for files in found)


def test_reencode_moves_to_another_model(index, tmp_path, encoder):
    """After reencode the index answers with the other model and refuses the old one."""
    other = other_model(tmp_path)
    with pytest.raises(EncoderMismatch, match="reencode"):
        Index.open(index.path, other).search("cat")
    before = index.ids()
    index.reencode(other)
    assert index.ids() == before
    assert index.info()["encoder"]["hash"] == other.hash
    assert answers(Index.open(index.path).search("cat"))
    with pytest.raises(EncoderMismatch):
        Index.open(index.path, encoder).search("cat")


def other_model(tmp_path):
    """The tiny model with shorter queries: another content hash."""
    source = Path(__file__).parent / "models" / "tiny"
    folder = tmp_path / "other"
    folder.mkdir()
    for name in ("model.onnx", "tokenizer.json", "encoding.json"):
        (folder / name).write_bytes((source / name).read_bytes())
    spec = (folder / "encoding.json").read_text()
    (folder / "encoding.json").write_text(spec.replace('"query_length": 32', '"query_length": 16'))
    assert spec != (folder / "encoding.json").read_text()
    return Encoder.load(folder)


def test_text_query_on_vectors_only_index(vectors_index):
    """An index without an encoder takes arrays only, and says so."""
    index, _ = vectors_index
    with pytest.raises(EncoderMismatch, match="pass vectors"):
        index.search("a text")
    with pytest.raises(EncoderMismatch, match="pass vectors"):
        index.add(["a text"])


BAD_ADDS = {
    "not a list": ("one text", None),
    "number": ([1], None),
    "no text": ([{"id": "a"}], None),
    "unknown key": ([{"id": "a", "txt": "b"}], None),
    "empty id": ([{"id": "", "text": "b"}], None),
    "lone surrogate": (["\ud800"], None),
    "twice": ([{"id": "a", "text": "b"}, {"id": "a", "text": "c"}], None),
    "there already": ([{"id": "0", "text": "b"}], None),
    "nan metadata": ([{"text": "b", "metadata": {"x": float("nan")}}], None),
    "object metadata": ([{"text": "b", "metadata": {"x": object()}}], None),
    "too few vectors": (["a", "b"], [np.ones((1, 16))]),
    "other dim": (["a"], [np.ones((1, 3))]),
    "nan vectors": (["a"], [np.full((1, 16), np.nan)]),
    "no vectors": (["a"], [np.ones((0, 16))]),
    "beyond float16": (["a"], [np.full((1, 16), 1e6)]),
}


@pytest.mark.parametrize("name", BAD_ADDS)
def test_bad_documents_leave_the_index_as_it_was(index, name):
    """Each is a typed error, and neither the object nor the disk has changed (16, 35)."""
    documents, vectors = BAD_ADDS[name]
    before = {p: p.read_bytes() for p in index.path.rglob("*") if p.is_file()}
    with pytest.raises(InvalidInput):
        index.add(documents, vectors=vectors)
    assert {p: p.read_bytes() for p in index.path.rglob("*") if p.is_file()} == before
    assert len(index) == 4


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("x", {"k": 0}),
        ("x", {"k": True}),
        ("\ud800", {}),
        (7, {}),
        (np.ones((2, 5)), {}),
        (np.full((2, 16), np.nan), {}),
        (np.ones((0, 16)), {}),
        ("x", {"where": {"$bad": 1}}),
        ("x", {"where": [1]}),
        ("x", {"ids": "abc"}),
    ],
)
def test_bad_queries_are_refused(index, query, options):
    """Each is InvalidInput."""
    with pytest.raises(InvalidInput):
        index.search(query, **options)


def test_blank_nul_and_empty_texts_are_documents(index):
    """They encode as the model does and can be found and fetched."""
    names = index.add(["", " ", "\0", "a\0b"])
    assert [d.text for d in index.get(names)] == ["", " ", "\0", "a\0b"]
    assert len(index.search("anything", 20)) == 8


def test_creating_where_something_is(tmp_path, index):
    """An existing index or foreign folder is never overwritten."""
    with pytest.raises(IndexExists):
        Index.create(index.path, dim=3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file.txt").write_text("precious")
    with pytest.raises(IndexExists):
        Index.create(tmp_path / "mine", dim=3)
    with pytest.raises(IndexNotFound):
        Index.open(tmp_path / "nothing")


@pytest.mark.parametrize(
    "options",
    [
        {"nbits": 3},
        {"nbits": "int8"},
        {"nbits": True},
        {"nbits": 4.0},
        {"dim": 0},
        {"train_at": 0},
        {"seed": -1},
        {"seed": "x"},
        {"seed": True},
        {"pool_factor": 65},
    ],
    ids=str,
)
def test_bad_options_make_no_index(tmp_path, options):
    """create refuses them by name before anything is on disk."""
    with pytest.raises(InvalidInput, match=f"{next(iter(options))} must be"):
        Index.create(tmp_path / "i", **{"dim": 4, **options})
    assert not (tmp_path / "i").exists()


def test_a_second_writer_is_refused_without_waiting(index):
    """While one object writes, another gets IndexLocked, and the first one's write goes through."""
    other = Index.open(index.path)
    with Store(index.path).writing(), pytest.raises(IndexLocked):
        other.add(["blocked"])
    assert other.add(["now"]) == ["4"]


def test_a_writer_continues_from_the_newest_generation(index):
    """Two objects that write in turn lose nothing of each other's."""
    other = Index.open(index.path)
    other.add(["from the other"])
    index.add(["from the first"])
    assert len(index) == 6
    assert len(other) == 5
    assert other.refresh()
    assert not other.refresh()
    assert len(other) == 6


def test_a_deletion_costs_a_reader_the_list_of_deleted_documents_alone(tmp_path):
    """A segment whose documents are deleted is not read again: not by the writer, and not by a reader that refreshes.

    Damage in its other files is therefore not seen then. `check` and the next `open` see it.
    """
    documents = topical(np.random.default_rng(0), 60, DIM)
    writer = Index.create(tmp_path / "i", dim=DIM, train_at=1)
    writer.add([{"id": str(i)} for i in range(60)], vectors=documents)
    reader = Index.open(tmp_path / "i")
    (codes,) = (tmp_path / "i" / "data").glob("*-codes.npy")
    whole = codes.read_bytes()
    codes.write_bytes(whole[:-1] + b"\xff")
    writer.delete(["3", "5"])
    writer.upsert([{"id": "7"}], vectors=[documents[7]])
    assert reader.refresh()
    assert reader.ids() == writer.ids() == [str(i) for i in range(60) if i not in (3, 5, 7)] + ["7"]
    with pytest.raises(CorruptIndexError, match="codes"):
        reader.check()
    codes.write_bytes(whole)


def test_the_newest_leaves_its_origin_where_it_is(vectors_index):
    """`newest` is the object itself until a write, then one more that sees the write and shares what did not change."""
    index, documents = vectors_index
    reader = Index.open(index.path)
    q = unit(np.random.default_rng(3), 4, DIM)
    before = answers(reader.search(q, 8))
    assert reader.newest() is reader
    index.add([{"id": "new"}], vectors=[documents[0]])
    newest = reader.newest()
    assert (newest.generation, len(newest)) == (reader.generation + 1, len(reader) + 1)
    assert newest.segmented.segments[0] is reader.segmented.segments[0]
    assert answers(reader.search(q, 8)) == before
    newest.delete(["new"])
    assert (len(newest), newest.generation) == (len(reader), reader.generation + 2)


def _child(index, q, queue):
    queue.put(answers(index.search(q, 5)))


def test_threads_and_forks_share_an_index(vectors_index):
    """16 threads and a forked child get the answer of the main thread."""
    index, _ = vectors_index
    q = unit(np.random.default_rng(3), 4, DIM)
    expected = answers(index.search(q, 5))
    found = [None] * 16
    threads = [
        threading.Thread(target=lambda i=i: found.__setitem__(i, answers(index.search(q, 5)))) for i in range(16)
    ]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert found == [expected] * 16
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(index, q, queue))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join()


def test_pickled_index_opens_again(index):
    """Pickling keeps the place of the index: another process opens it."""
    again = pickle.loads(pickle.dumps(index))  # noqa: S301 - our own bytes
    assert answers(again.search("cat")) == answers(index.search("cat"))


class IndexMachine(RuleBasedStateMachine):
    """add, upsert, delete, compact, refit and reopen in any order, against a dictionary of decoded vectors."""

    @initialize(seed=st.integers(0, 1000), nbits=st.sampled_from([1, 2, 4, 8, "float16", "float32"]))
    def start(self, seed, nbits):
        """An empty index that trains early."""
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.rng = np.random.default_rng(seed)
        self.index = Index.create(Path(self.folder.name) / "i", dim=DIM, nbits=nbits, train_at=60)
        self.order = []  # live ids by position
        self.metadata = {}

    def put(self, names, how):
        """Hand over fresh vectors under these names."""
        documents = topical(self.rng, len(names), DIM)
        records = [{"id": n, "metadata": {"v": int(self.rng.integers(0, 3))}} for n in names]
        how(records, vectors=documents)
        self.metadata |= {r["id"]: r["metadata"]["v"] for r in records}

    @rule(n=st.integers(1, 8))
    def add(self, n):
        """New ids go to the end."""
        names = [f"{len(self.metadata)}-{i}" for i in range(n)]
        self.put(names, self.index.add)
        self.order += names

    @rule(data=st.data())
    def upsert(self, data):
        """Known ids move to the end."""
        if self.order:
            names = sorted(data.draw(st.sets(st.sampled_from(self.order), min_size=1, max_size=3)))
            self.put(names, self.index.upsert)
            self.order = [n for n in self.order if n not in names] + names

    @rule(data=st.data())
    def delete(self, data):
        """Deleted ids are gone."""
        if self.order:
            names = data.draw(st.sets(st.sampled_from(self.order), min_size=1, max_size=4))
            self.index.delete(names)
            self.order = [n for n in self.order if n not in names]

    @rule(refit=st.booleans())
    def compact(self, refit):
        """Compaction changes no document."""
        self.index.compact(refit)

    @rule()
    def reopen(self):
        """A new object sees the same."""
        self.index = Index.open(self.index.path, verify="full")

    @rule(data=st.data())
    def failing_add(self, data):
        """An add that fails changes nothing."""
        if self.order:
            with pytest.raises(DuplicateId):
                self.index.add([{"id": "fresh"}, {"id": self.order[0]}], vectors=topical(self.rng, 2, DIM))

    @invariant()
    def agrees(self):
        """Ids, order, filters and every score agree with the model; the number of segments stays logarithmic."""
        if not hasattr(self, "index"):
            return
        index = self.index
        assert index.ids() == self.order
        assert index.info()["segments"] <= 2 + np.log2(len(self.order) + 1)
        if self.order:
            q = unit(self.rng, 3, DIM)
            hits = answers(index.search(q, len(self.order) + 3, exact=True))
            assert sorted(n for n, _ in hits) == sorted(self.order)
            rank = {n: i for i, n in enumerate(self.order)}
            assert hits == sorted(hits, key=lambda h: (-h[1], rank[h[0]]))
            assert answers(index.search(q, 4, candidates=len(self.order))) == hits[:4]
            wanted = [h for h in hits if self.metadata[h[0]] == 1]
            assert answers(index.search(q, 5, where={"v": 1})) == wanted[:5]

    def teardown(self):
        """Every index must be sound."""
        if hasattr(self, "index"):
            self.index.check()
            self.folder.cleanup()


TestIndexMachine = IndexMachine.TestCase
TestIndexMachine.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)


def test_ragged_of_another_length(vectors_index):
    """Vectors for another number of documents are refused."""
    index, documents = vectors_index
    with pytest.raises(InvalidInput, match="1 documents, found 2"):
        index.add([{"id": "a"}], vectors=Ragged.from_list([documents[0], documents[1]]))


def test_drifted_documents_are_reported_with_the_remedy(tmp_path, caplog):
    """Documents unlike those the codec was fitted to raise the error in info() and a warning; refitting lowers it."""
    rng = np.random.default_rng(0)
    index = Index.create(tmp_path / "i", dim=DIM, nbits=2, train_at=1000)
    index.add([{"id": f"a{i}"} for i in range(150)], vectors=topical(rng, 150, DIM, topics=3))
    fitted = index.info()["quantization_error"]
    assert fitted["now"] == fitted["fitted"]
    assert fitted["remedy"] is None
    caplog.clear()
    strange = [unit(rng, 20, DIM) for _ in range(200)]
    index.add([{"id": f"c{i}"} for i in range(200)], vectors=strange)
    assert "compact(refit=True)" in caplog.text
    drifted = index.info()["quantization_error"]
    assert drifted["now"] > 1.25 * drifted["fitted"]
    assert "compact(refit=True)" in drifted["remedy"]
    index.compact(refit=True)
    assert index.info()["quantization_error"]["now"] < drifted["now"]
    assert index.info()["quantization_error"]["remedy"] is None


def test_quantization_error_is_the_mean_over_all_tokens(vectors_index):
    """Merging weighs the errors of its parts by their tokens; a raw index has none."""
    index, documents = vectors_index
    for i in range(3):
        index.add([{"id": f"x{i}"}], vectors=[documents[i]])
    before = index.info()["quantization_error"]["now"]
    index.compact()
    assert index.info()["quantization_error"]["now"] == pytest.approx(before, rel=1e-12)
    assert Index.create(index.path.with_name("raw"), dim=3).info()["quantization_error"] is None


@pytest.mark.parametrize("nbits", [1, 4, "float16", "float32"])
def test_check_finds_a_wrong_largest_norm(tmp_path, nbits):
    """A manifest whose largest_norm is below a stored vector's norm is found by check, after merges and refits too."""
    index, rng = Index.create(tmp_path / "i", dim=DIM, nbits=nbits, train_at=60), np.random.default_rng(1)
    for i in range(6):
        index.add([{"id": f"d{i}"}], vectors=[rng.standard_normal((25, DIM)) * 10.0**-i])
    for step in (lambda: None, index.compact, lambda: index.compact(refit=True), lambda: index.delete(["d0"])):
        step()
        index.check()
    index.compact(refit=True)  # the longest vector is gone
    file, copies = index.path / "manifest.json", sorted((index.path / "data").glob("*manifest.json"))
    good = Manifest.from_bytes(file.read_bytes())
    longest = np.linalg.norm(np.concatenate(list(index.vectors(index.ids()))), axis=1).max()
    for factor, sound in ((0.99, False), (0.5, False), (1.01, True)):
        entries = tuple(replace(entry, largest_norm=float(longest) * factor) for entry in good.segments)
        for path in (file, copies[-1]):
            path.write_bytes(replace(good, segments=entries).to_bytes())
        if sound:
            Index.open(tmp_path / "i").check()
        else:
            with pytest.raises(CorruptIndexError, match="segment 0: expected no vector longer than largest_norm"):
                Index.open(tmp_path / "i").check()


@pytest.mark.parametrize("nbits", [2, "float16"])
def test_merging_in_runs_equals_merging_together(tmp_path, monkeypatch, nbits):
    """However few tokens are merged at a time, the files are the same."""
    contents = []
    for run in (1 << 17, 40):
        monkeypatch.setattr("refcolbert.storage.segment_files.RUN_TOKENS", run)
        index = Index.create(tmp_path / str(run), dim=DIM, nbits=nbits, train_at=300)
        documents = topical(np.random.default_rng(4), 60, DIM)
        for first, last in ((0, 30), (30, 40), (40, 41), (41, 60)):
            names = [{"id": f"d{i}"} for i in range(first, last)]
            index.add(names, vectors=documents.take(np.arange(first, last)))
        index.delete(["d3", "d33", "d59"])
        index.compact()
        index.check()
        named = sorted(file.name for file in index.view.manifest.files())
        contents.append([(index.path / "data" / name).read_bytes() for name in named])
    assert contents[0] == contents[1]


BUILD = """
import sys
import numpy as np
from refcolbert import Index
rng = np.random.default_rng(0)
index = Index.create(sys.argv[1], dim=8, train_at=50)
for first in (0, 20):
    names = [{"id": f"d{i}", "text": f"t{i}", "metadata": {"i": i}} for i in range(first, first + 20)]
    index.add(names, vectors=[rng.standard_normal((5, 8)) for _ in names])
index.delete(["d7"])
index.compact(refit=True)
"""


def test_another_process_makes_the_same_bytes(tmp_path):
    """Two processes that do the same write the same files, though hashes of texts differ between them."""
    contents = []
    for name, seed in (("a", "1"), ("b", "2")):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", BUILD, tmp_path / name], check=True, env=environment, timeout=120)
        files = [p for p in (tmp_path / name).rglob("*") if p.is_file() and p.name != "writer.lock"]
        contents.append({p.relative_to(tmp_path / name): p.read_bytes() for p in files})
    assert contents[0] == contents[1]


def test_a_model_is_compared_before_any_of_it_is_run(tmp_path, encoder, monkeypatch):
    """The first text query refuses another model at the recorded place before a session of ONNX Runtime starts."""
    folder = tmp_path / "model"
    shutil.copytree(encoder.folder, folder)
    made = Index.create(tmp_path / "i", Encoder.load(folder))
    made.add(TEXTS)
    (folder / "model.onnx").write_bytes(b"not a model")
    monkeypatch.setattr(Encoder, "_start", lambda self, files: pytest.fail("a session was started"))
    with pytest.raises(EncoderMismatch, match=r"needs the model .*: expected the model \w{12}, found \w{12} in"):
        Index.open(made.path).search("a dog")

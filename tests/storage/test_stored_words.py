"""Words of an index: they depend on its live texts alone, not on how these came, and every write keeps them."""

import logging
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refcolbert import Index
from refcolbert.encoding import words
from refcolbert.errors import InvalidInput, MissingDependency
from refcolbert.storage import segment_files
from tools import ROOT

QUERIES = ("cat", "dogs naïve", "the cat AND the date", "文 cat cat")
TEXTS = (
    st.none()
    | st.sampled_from(["", "cat " * 300])
    | st.lists(st.sampled_from(["cat", "cats", "dog", "naïve", "文", "the", "date"]), max_size=6).map(" ".join)
)
RECORDS = st.lists(st.tuples(st.integers(0, 9), TEXTS), min_size=1, max_size=8, unique_by=lambda record: record[0])
WRITES = st.lists(st.tuples(st.sampled_from(["add", "upsert", "delete"]), RECORDS), max_size=5)


def put(index, texts, write="add"):
    """Add or replace documents: id -> text."""
    records = [{"id": name, "text": text} for name, text in texts.items()]
    getattr(index, write)(records, vectors=[np.eye(2)] * len(records))


def files(index):
    """Hashes of the files of words, by role, of each segment."""
    segments = index.view.manifest.segments
    return [{role: file.sha256 for role, file in s.files.items() if role.startswith("term_")} for s in segments]


def answers(index):
    """Ids and scores of each query, every bit."""
    if not index.segmented.total_words:
        return None
    return [[(h.id, h.score.hex()) for h in index.search(query, 50, mode="words")] for query in QUERIES]


@pytest.fixture
def three(tmp_path):
    """Three segments with deleted documents, and the texts of the others."""
    texts = {str(i): f"the cat {'naïve ' * (i % 3)} date{i}" for i in range(14)}
    index = Index.create(tmp_path / "three", dim=2, words="porter")
    for first, last in ((0, 9), (9, 13), (13, 14)):
        put(index, {str(i): texts[str(i)] for i in range(first, last)})
    index.delete(["2", "10"])
    assert len(index.view.manifest.segments) == 3
    return index, {name: text for name, text in texts.items() if name not in ("2", "10")}


@given(WRITES)
@settings(max_examples=20)
def test_words_do_not_depend_on_how_documents_came(tmp_path, writes):
    """After adds, upserts and deletes, files equal those of one add of what is left once compacted.

    Scores are the same bits before compact, after it, and in that index.
    """
    folder, texts = tempfile.mkdtemp(dir=tmp_path), {}
    index = Index.create(f"{folder}/i", dim=2, words="porter")
    for write, records in writes:
        names = {str(number): text for number, text in records}
        if write == "delete":
            index.delete([name for name in names if name in texts])
            texts = {name: text for name, text in texts.items() if name not in names}
            continue
        names = {name: text for name, text in names.items() if write == "upsert" or name not in texts}
        put(index, names, write)
        texts = {name: text for name, text in texts.items() if name not in names} | names
    before = answers(index)
    index.compact()
    whole = Index.create(f"{folder}/whole", dim=2, words="porter")
    put(whole, texts)
    assert files(index) == files(whole)
    assert before == answers(index) == answers(whole)


def test_segments_and_deleted_documents_change_no_score(three, tmp_path):
    """Three segments with deleted documents score as one without, bit for bit, and compact to the same files."""
    index, texts = three
    before = answers(index)
    whole = Index.create(tmp_path / "whole", dim=2, words="porter")
    put(whole, texts)
    assert before == answers(whole)
    index.compact()
    assert files(index) == files(whole)


def test_the_size_of_runs_changes_nothing(three, tmp_path, monkeypatch):
    """Texts are cut into words a few at a time; whether two or all, the files are the same."""
    monkeypatch.setattr(segment_files, "RUN_TEXTS", 2)
    index, texts = three
    index.compact()
    whole = Index.create(tmp_path / "whole", dim=2, words="porter")
    put(whole, texts)
    assert files(whole) == files(index)


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_build_has_the_words_of_an_add(three, tmp_path, monkeypatch, interrupted):
    """Staged in batches, and resumed after an interruption, the words are those of create, add and compact."""
    monkeypatch.setattr("refcolbert.index.BUILD_BATCH", 5)
    index, texts = three
    index.compact()

    def records(stop=None):
        for i, (name, text) in enumerate(texts.items()):
            if i == stop:
                raise KeyboardInterrupt
            yield {"id": name, "text": text}

    def build(stop=None):
        vectors = (np.eye(2) for _ in texts)
        return Index.build(tmp_path / "built", records(stop), vectors=vectors, dim=2, words="porter")

    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            build(stop=7)
    built = build()
    assert files(built) == files(index)
    assert answers(built) == answers(index)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the open files of a process")
def test_a_build_of_many_batches_keeps_few_files_open(scratch, monkeypatch):
    """A build with words has fewer than 5 files open per batch: below the usual limit of 1,024 with 200 batches."""
    monkeypatch.setattr("refcolbert.index.BUILD_BATCH", 1)
    opened = []

    def records():
        for i in range(50):
            opened.append(len(list(Path("/proc/self/fd").iterdir())))
            yield {"id": str(i), "text": f"the cat {i % 7}"}

    index = Index.build(scratch, records(), vectors=[np.eye(2)] * 50, dim=2, words="porter")
    assert opened[-1] - opened[0] < 5 * 50
    assert len(index.search("cat", 300, mode="words")) == 50


def test_reencode_and_snapshot_keep_the_words(tmp_path, encoder):
    """With other vectors, and in a copy, words and their scores are the same."""
    index = Index.create(tmp_path / "i", encoder)
    assert index.info()["words"] == "unicode61"
    index.add(["the cat", "dogs and the naïve cat", "文"])
    before, scores = files(index), answers(index)
    index.snapshot(tmp_path / "copy")
    index.reencode(encoder)
    copy = Index.open(tmp_path / "copy", encoder)
    assert before == files(index) == files(copy)
    assert scores == answers(index) == answers(copy)


@pytest.mark.parametrize("name", words.TOKENIZERS)
def test_compact_cuts_the_texts_again(three, tmp_path, name):
    """Another tokenizer gives the words of an index that was made with it; None keeps the index's own."""
    index, texts = three
    index.compact(words=name)
    whole = Index.create(tmp_path / "whole", dim=2, words=name)
    put(whole, texts)
    assert files(index) == files(whole)
    index.compact(refit=True)
    assert index.info()["words"] == name
    assert files(index) == files(whole)


def test_words_are_kept_until_they_are_asked_for_again(three, tmp_path, monkeypatch):
    """With an SQLite that cuts otherwise, compact keeps the words as they are, and compact(words=...) replaces them."""
    index, texts = three
    index.compact()
    before = files(index)
    monkeypatch.setitem(words.TOKENIZERS, "porter", "unicode61")
    index.compact()
    assert files(index) == before
    index.compact(words="porter")
    whole = Index.create(tmp_path / "whole", dim=2, words="unicode61")
    put(whole, texts)
    assert files(index) == files(whole) != before


def test_documents_without_words_are_sound(tmp_path):
    """No text, an empty text and lone signs have no words: nothing to search, and files that check accepts."""
    index = Index.create(tmp_path / "i", dim=2, words="porter")
    put(index, {"a": None, "b": "", "c": "?!"})
    index.check()
    with pytest.raises(InvalidInput, match="without a text"):
        index.search("cat", mode="words")
    put(index, {"d": "cat"})
    assert [hit.id for hit in index.search("cat", mode="words")] == ["d"]
    index.delete(["d"])
    index.compact()
    index.check()


@pytest.mark.parametrize("kind", ["raw", "encoded"])
def test_an_index_of_format_1_gets_words_from_compact(kind, tmp_path):
    """It is searched by vectors and written as before; compact(words=...) makes it one of format 2."""
    shutil.copytree(ROOT / "golden" / "index" / "v1" / kind, tmp_path / "i")
    index = Index.open(tmp_path / "i")
    assert len(index.search(np.eye(8), 3)) == 3
    with pytest.raises(InvalidInput, match=r"compact\(words="):
        index.search("text", mode="words")
    index.add([{"id": "new", "text": "changed"}], vectors=[np.eye(8)])
    index.compact()
    index.delete(["d4"])
    assert (index.info()["format_version"], index.info()["words"]) == (1, None)
    assert b'"words"' not in (tmp_path / "i" / "manifest.json").read_bytes()
    index.compact(words="porter")
    assert (index.info()["format_version"], index.info()["words"]) == (2, "porter")
    assert [hit.id for hit in index.search("changed", mode="words")] == ["d3", "new"]
    index.check()


def test_an_empty_index_of_format_1_gets_words(tmp_path):
    """Without any document, compact still decides what the next one gets."""
    shutil.copytree(ROOT / "golden" / "index" / "v1" / "raw", tmp_path / "i")
    index = Index.open(tmp_path / "i")
    index.delete(index.ids())
    index.compact(words="unicode61")
    index.add([{"id": "new", "text": "changed"}], vectors=[np.eye(8)])
    assert [hit.id for hit in index.search("changed", mode="words")] == ["new"]


def test_without_full_text_search_auto_is_no_words(tmp_path, encoder, monkeypatch, caplog):
    """SQLite without the tokenizer: "auto" warns and makes an index without words, a name raises."""
    monkeypatch.setitem(words.TOKENIZERS, "unicode61", "unheard_of")
    with caplog.at_level(logging.WARNING, "refcolbert"):
        index = Index.create(tmp_path / "auto", encoder)
    assert "the index gets no words" in caplog.text
    assert index.info()["words"] is None
    index.add(["a cat"])
    for make in (Index.create, lambda path, **options: Index.build(path, [], **options)):
        with pytest.raises(MissingDependency):
            make(tmp_path / "named", dim=2, words="unicode61")
    with pytest.raises(MissingDependency):
        index.compact(words="unicode61")
    assert index.info()["words"] is None
    assert not (tmp_path / "named").exists()


def test_without_full_text_search_an_index_with_words_is_read_only(three, monkeypatch):
    """Adding raises and changes nothing; vectors are still searched, documents deleted and segments merged."""
    index, _ = three
    monkeypatch.setitem(words.TOKENIZERS, "porter", "unheard_of")
    before, generation = index.ids(), index.generation
    for write in ("add", "upsert"):
        with pytest.raises(MissingDependency, match="FTS5"):
            put(index, {"new": "a cat"}, write)
    with pytest.raises(MissingDependency):
        index.search("cat", mode="words")
    assert (index.ids(), index.generation, Index.open(index.path).generation) == (before, generation, generation)
    assert len(index.search(np.eye(2), 3)) == 3
    index.delete(["3"])
    index.compact()
    assert len(index) == len(before) - 1
    monkeypatch.undo()
    assert len(index.search("cat", 50, mode="words")) == len(index)

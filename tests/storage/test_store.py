"""The store: commit order, locks, pins, garbage collection, and files that are not what was committed."""

import json
import multiprocessing
import os
import re
import shutil
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby
from pathlib import PurePath

import numpy as np
import pytest

from refcolbert import Index
from refcolbert.errors import (
    CorruptIndexError,
    IndexExists,
    IndexFileError,
    IndexLocked,
    IndexNotFound,
    IndexTooNewError,
    IndexWriteError,
    InvalidInput,
)
from refcolbert.storage.durable import FileSystem
from refcolbert.storage.format import EncoderEntry, FileEntry, Manifest
from refcolbert.storage.locks import Pin, create_new, open_regular_file
from refcolbert.storage.store import DATA, Store
from tools.faults.crash import Recorder

FORK = multiprocessing.get_context("fork")
EMPTY = Manifest(generation=1, dim=2, nbits="float16", train_at=10, seed=0)
I8 = np.dtype("<i8")


def recorded(recorder):
    """(kind, file names) of each operation so far; appends to one file count once."""
    named = [(o.kind, *(PurePath(name).name for name in (o.source, o.name) if name)) for o in recorder.operations]
    return [operation for operation, _ in groupby(named)]


@pytest.fixture
def store(tmp_path):
    """An index folder at its first generation, without documents."""
    made = Store(tmp_path / "i")
    made.create()
    with made.writing(new=True) as writer:
        writer.commit(EMPTY)
    return made


@pytest.fixture
def index(tmp_path):
    """Three raw documents in one segment, at generation 2."""
    made = Index.create(tmp_path / "v", dim=2, nbits="float16")
    made.add([{"id": str(i)} for i in range(3)], vectors=[np.eye(2)] * 3)
    return made


def step(store):
    """Commit the next generation."""
    with store.writing() as writer:
        writer.commit(replace(writer.manifest, generation=writer.generation))


def names(store):
    """The names of the files in data/ of a store or an index."""
    return sorted(p.name for p in (store.path / DATA).iterdir())


def test_everything_is_durable_before_it_is_named(store):
    """A commit writes and syncs its files, then their folder, then the manifest; only then it removes."""
    store.file_system = Recorder(store.path.parent)
    for _ in range(2):
        with store.writing() as writer:
            writer.array("positions", np.arange(3))
            writer.commit(replace(writer.manifest, generation=writer.generation))

    def written(name):
        return [(kind, name) for kind in ("create", "append", "sync")]

    assert recorded(store.file_system)[-14:] == [
        *written("00000003-000-positions.npy"),
        *written("00000003-manifest.json"),
        ("sync_folder", "data"),
        *written("manifest.json.tmp"),
        ("replace", "manifest.json.tmp", "manifest.json"),
        ("sync_folder", "i"),
        ("remove", "00000001-manifest.json"),
        ("remove", "00000003-000-positions.npy"),
    ]


def test_making_a_folder_makes_its_parents_durable(tmp_path):
    """Each new folder is synced into the one above it, which may be new as well."""
    store = Store(tmp_path / "a" / "b" / "i", Recorder(tmp_path.parent))
    store.create()
    syncs = [name for kind, name in recorded(store.file_system) if kind == "sync_folder"]
    assert syncs == [tmp_path.name, "a", "b", "i"]


@pytest.mark.parametrize("left", [[], ["data"], ["data", "writer.lock"], ["manifest.json.tmp"]])
def test_what_a_crashed_create_left_is_nothing(tmp_path, left):
    """An empty folder, or one with only our own first files, can become an index."""
    folder = tmp_path / "i"
    folder.mkdir()
    for name in left:
        (folder / name).mkdir() if name == "data" else (folder / name).write_bytes(b"half")
    assert len(Index.create(folder, dim=3)) == 0


def test_a_foreign_folder_is_not_made_an_index(tmp_path, store):
    """Another file, a plain file, a dangling link or an index in the way is IndexExists, and stays."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    (tmp_path / "plain").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("full", "plain", "link", "i"):
        with pytest.raises(IndexExists):
            Store(tmp_path / name).create()
    with pytest.raises(IndexExists), store.writing(new=True):
        pass


def test_a_missing_index_is_not_found(tmp_path):
    """Reading, pinning and writing all say so, and make nothing."""
    store = Store(tmp_path / "none")
    for use in (store.read, store.pin, lambda: store.writing().__enter__()):
        with pytest.raises(IndexNotFound, match=r"Index\.create"):
            use()
    assert not store.path.exists()


def test_orphans_are_removed_by_the_next_writer(store):
    """Files of generations that never came to be go, foreign ones stay; a reader removes nothing."""
    data = store.path / DATA
    orphans = ["00000002-000-codes.npy", "00000009-manifest.json", "123456789-001-documents.sqlite"]
    for name in [*orphans, "notes.txt", "00000002-X.npy"]:
        (data / name).write_bytes(b"half")
    (store.path / "manifest.json.tmp").write_bytes(b"half")
    store.pin()[1].release()
    assert set(orphans) < set(names(store))
    step(store)
    assert names(store) == ["00000001-manifest.json", "00000002-X.npy", "00000002-manifest.json", "notes.txt"]
    assert not (store.path / "manifest.json.tmp").exists()


def test_only_two_generations_stay(store):
    """A commit removes the files that neither its generation nor the previous one names."""
    for generation in range(2, 6):
        step(store)
        assert names(store) == [f"{g:08d}-manifest.json" for g in (generation - 1, generation)]


def test_a_pinned_generation_stays(index):
    """A reader's files outlive any number of commits, and go once it is gone, with the next commit."""
    reader = Index.open(index.path)
    pinned = {f.name for f in reader.view.manifest.files()} | {"00000002-manifest.json"}
    index.upsert([{"id": str(i)} for i in range(3)], vectors=[np.eye(2)] * 3)
    for _ in range(4):
        index.compact()
        assert pinned <= set(names(index))
    thread = threading.Thread(target=lambda: results.append(reader.ids()))  # opens the database only now
    results = []
    thread.start()
    thread.join()
    assert results == [["0", "1", "2"]]
    reader.close()
    index.compact()
    assert not pinned & set(names(index))


def test_hits_keep_their_generation(index):
    """A hit can be explained after its index was refreshed, closed and collected."""
    reader = Index.open(index.path)
    hit = reader.search(np.eye(2), 1)[0]
    reader.close()
    index.delete(["0", "1", "2"])
    for _ in range(3):
        index.compact()
    with pytest.raises(InvalidInput, match="closed"):
        reader.search(np.eye(2))
    assert hit.explain().similarities.shape == (2, 2)


def test_refresh_moves_the_pin(index):
    """After a refresh the earlier generation is no longer held."""
    reader = Index.open(index.path)
    index.compact()
    assert reader.refresh()
    index.compact()
    index.compact()
    assert "00000002-manifest.json" not in names(index)
    assert "00000003-manifest.json" in names(index)


def hold(reader, ready, go):
    """A forked child that keeps its parent's reader."""
    ready.send(True)
    go.recv()
    ready.send(reader.ids())


def test_a_forked_child_keeps_the_pin(index):
    """The pin outlives the parent's object as long as a child has it."""
    reader = Index.open(index.path)
    (ready, child_ready), (child_go, go) = FORK.Pipe(False), FORK.Pipe(False)
    child = FORK.Process(target=hold, args=(reader, child_ready, child_go))
    child.start()
    assert ready.recv()
    reader.close()
    index.upsert([{"id": str(i)} for i in range(3)], vectors=[np.eye(2)] * 3)
    for _ in range(3):
        index.compact()
    go.send(True)
    assert ready.recv() == ["0", "1", "2"]
    child.join()
    index.compact()
    assert "00000002-manifest.json" not in names(index)


def test_a_killed_reader_leaves_nothing_to_clean_up(index):
    """The kernel ends the pin of a process that is killed."""
    receive, send = FORK.Pipe(False)
    child = FORK.Process(target=lambda: (setattr(signal, "kept", Index.open(index.path)), send.send(1), signal.pause()))
    child.start()
    receive.recv()
    for _ in range(3):
        index.compact()
    assert "00000002-manifest.json" in names(index)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    index.compact()
    assert "00000002-manifest.json" not in names(index)


def test_opening_retries_when_collection_wins(store, monkeypatch):
    """A generation that two commits overtook between reading its manifest and pinning it is given up for the newest."""
    take, races = Pin.take, [0]

    def losing(path):
        if races[0] < 5:
            races[0] += 1
            step(store)
            step(store)
        return take(path)

    monkeypatch.setattr(Pin, "take", losing)
    manifest, pin = store.pin()
    assert manifest.generation == 11
    pin.release()
    races[0] = -100
    with pytest.raises(CorruptIndexError, match="missing"):
        store.pin()


def test_a_copy_that_was_removed_while_it_was_opened_is_no_pin(tmp_path, monkeypatch):
    """A lock on a file without a name protects nothing."""
    path = tmp_path / "00000001-manifest.json"
    path.write_bytes(b"x")
    monkeypatch.setattr("refcolbert.storage.locks.open_regular_file", lambda p: (open_regular_file(p), p.unlink())[0])
    assert Pin.take(path) is None
    assert Pin.take(path) is None


def test_a_damaged_copy_stops_collection_and_opening(store):
    """Nothing is removed while a pinned generation cannot tell what it needs; a wrong current copy is damage."""
    _, pin = store.pin()
    path = store.path / DATA / "00000001-manifest.json"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CorruptIndexError, match="00000001-manifest"):
        store.pin()
    for _ in range(3):
        step(store)
    assert names(store) == [f"{g:08d}-manifest.json" for g in (1, 2, 3, 4)]
    pin.release()
    step(store)
    assert names(store) == [f"{g:08d}-manifest.json" for g in (4, 5)]


def test_the_second_writer_learns_who_is_writing(store):
    """IndexLocked comes without waiting and names process, host and time; afterwards the lock file is empty."""
    lock = store.path / "writer.lock"
    with store.writing():
        with pytest.raises(IndexLocked, match=rf"process {os.getpid()} on \S+ since \d{{4}}-\d\d-\d\dT"):
            step(store)
        lock.write_bytes(b"\0nonsense")
        with pytest.raises(IndexLocked, match="another process or thread"):
            step(store)
        lock.write_bytes(b"\0" + json.dumps({"pid": 1, "host": "h" * 5000, "since": "s"}).encode())
        with pytest.raises(IndexLocked, match="another process or thread"):
            step(store)
    assert lock.read_bytes() == b"\0"
    step(store)


def test_a_lock_is_not_held_between_operations(store):
    """A child forked between two writes holds nothing."""
    step(store)
    receive, send = FORK.Pipe(False)
    child = FORK.Process(target=lambda: (send.send(1), signal.pause()))
    child.start()
    receive.recv()
    before = store.read().generation
    step(store)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert store.read().generation == before + 1


DAMAGE = {
    "missing": (lambda p: p.unlink(), "missing"),
    "short": (lambda p: p.write_bytes(p.read_bytes()[:-1]), "expected .* bytes"),
    "long": (lambda p: p.write_bytes(p.read_bytes() + b"\0"), "expected .* bytes"),
    "empty": (lambda p: p.write_bytes(b""), "expected .* bytes"),
    "changed": (lambda p: p.write_bytes(p.read_bytes()[:-1] + b"\x7f"), "SHA-256"),
    "zeroed": (lambda p: p.write_bytes(bytes(p.stat().st_size)), "SHA-256"),
    "link": (lambda p: p.symlink_to(p.rename(p.with_name("elsewhere"))), "plain file"),
    "dangling": (lambda p: (p.unlink(), p.symlink_to("nowhere")), "plain file"),
    "folder": (lambda p: (p.unlink(), p.mkdir()), "plain file"),
    "pipe": (lambda p: (p.unlink(), os.mkfifo(p)), "plain file"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("role", ["vectors", "positions", "documents"])
def test_a_file_that_is_not_what_was_committed(index, damage, role):
    """Each damage to each kind of file is a CorruptIndexError that names the file and what is wrong."""
    entry = index.view.manifest.segments[0].files[role]
    path = index.path / DATA / entry.name
    change, message = DAMAGE[damage]
    change(path)
    with pytest.raises(CorruptIndexError, match=message) as caught:
        Index.open(index.path, verify="full")
    assert entry.name in str(caught.value)
    (index.path / "manifest.json").unlink()


def test_a_file_of_another_index(index, tmp_path):
    """The same name, size and header do not help: the hash tells."""
    other = Index.create(tmp_path / "other", dim=2, nbits="float16")
    other.add([{"id": str(i)} for i in range(3)], vectors=[np.eye(2)[::-1]] * 3)
    name = index.view.manifest.segments[0].files["vectors"].name
    (index.path / DATA / name).write_bytes((other.path / DATA / name).read_bytes())
    with pytest.raises(CorruptIndexError, match="SHA-256"):
        Index.open(index.path, verify="full")
    (index.path / "manifest.json").unlink()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda p: p.symlink_to("elsewhere")])
@pytest.mark.parametrize("name", ["manifest.json", "data"])
def test_a_manifest_or_data_folder_of_another_kind(store, make, name):
    """A pipe, a folder or a link in place of the manifest, a pipe or a link in place of data/, is refused."""
    (store.path / name).rename(store.path / "elsewhere")
    make(store.path / name)
    with pytest.raises((CorruptIndexError, IndexNotFound)):
        store.pin()


def test_a_header_of_another_dtype_or_shape(store):
    """Header bytes are compared, not parsed."""
    with store.writing() as writer:
        entry = writer.array("positions", np.arange(4))
    assert store.array(entry, (I8, (4,)), verify=True).tolist() == [0, 1, 2, 3]
    for wrong in ((np.dtype("<f8"), (4,)), (I8, (2, 2)), (np.dtype(">i8"), (4,))):
        with pytest.raises(CorruptIndexError, match="header"):
            store.array(entry, wrong, verify=True)


def test_arrays_are_read_only_and_little_endian(store):
    """A big-endian or strided array is stored as what the format says; what comes back cannot be written to."""
    with store.writing() as writer:
        entry = writer.array("positions", np.arange(8, dtype=">i8")[::2])
    found = store.array(entry, (I8, (4,)), verify=True)
    assert found.tolist() == [0, 2, 4, 6]
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


def test_an_array_in_chunks_equals_an_array(store):
    """Chunks of rows give the file that the whole array gives."""
    rows = np.arange(30).reshape(10, 3)
    with store.writing() as writer:
        whole = writer.array("positions", rows)
        with writer.arrays({"positions": (I8, (10, 3))}) as arrays:
            for i in range(0, 10, 4):
                arrays.append({"positions": rows[i : i + 4]})
            parts = arrays.finish()["positions"]
    assert (whole.bytes, whole.sha256) == (parts.bytes, parts.sha256)


def test_nothing_is_written_over_or_through_what_is_there(tmp_path):
    """A new file never replaces one, follows a link or fills a pipe."""
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "link", "pipe"):
        with pytest.raises(FileExistsError):
            create_new(tmp_path / name)
    assert not (tmp_path / "target").exists()


def test_a_manifest_that_no_reader_would_take_is_not_published(store):
    """The writer reads its own manifest first."""
    wrong = replace(EMPTY, generation=2, encoder=EncoderEntry("e" * 64, "s" * 5000))
    with store.writing() as writer, pytest.raises(InvalidInput, match="no reader would accept"):
        writer.commit(wrong)
    assert store.read() == EMPTY


def test_an_unknown_feature_of_writers_lets_read_and_not_write(index):
    """Such an index answers and can be copied; every write is IndexTooNewError naming the feature."""
    manifest = Store(index.path).read()
    newer = replace(manifest, generation=3, writer_features=("journal",))
    with Store(index.path).writing() as writer:
        writer.commit(newer)
    reader = Index.open(index.path, verify="full")
    assert reader.search(np.eye(2), 1)[0].id == "0"
    for write in (reader.compact, lambda: reader.delete(["0"])):
        with pytest.raises(IndexTooNewError, match="journal"):
            write()
    reader.snapshot(index.path.with_name("copy"))
    with pytest.raises(IndexTooNewError, match="journal"):
        Index.open(index.path.with_name("copy")).compact()


def test_a_process_may_change_its_folder(index, monkeypatch, tmp_path):
    """An index that was opened by a relative path is still that one after chdir, in new threads and after refresh."""
    monkeypatch.chdir(index.path.parent)
    reader = Index.open("v")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(reader.get, ["1"]).result()[0].id == "1"
    index.delete(["1"])
    assert reader.refresh()
    assert reader.ids() == ["0", "2"]


def test_another_index_at_the_same_path_is_not_mistaken_for_this_one(index, tmp_path):
    """After the folder was exchanged, what was open answers as before or says so, and refresh moves to the new one."""
    reader = Index.open(index.path)
    before = [hit.id for hit in reader.search(np.eye(2), 3)]
    other = Index.create(tmp_path / "other", dim=2, nbits="float16")
    other.add([{"id": f"other {i}"} for i in range(3)], vectors=[np.eye(2)] * 3)
    index.path.rename(tmp_path / "away")
    other.path.rename(index.path)
    assert [hit.id for hit in reader.search(np.eye(2), 3)] == before
    with ThreadPoolExecutor(1) as pool, pytest.raises(IndexFileError, match="replaced"):  # a new thread opens files
        pool.submit(reader.search, np.eye(2)).result()
    assert reader.refresh()
    assert reader.ids() == ["other 0", "other 1", "other 2"]


def test_a_copy_at_the_same_path_goes_on_after_refresh(index, tmp_path):
    """A restored copy with one more commit: refresh loads it, in new threads too, although its files are equal."""
    reader = Index.open(index.path)
    shutil.copytree(index.path, tmp_path / "copy")
    shutil.rmtree(index.path)
    (tmp_path / "copy").rename(index.path)
    Index.open(index.path).add([{"id": "3"}], vectors=[np.eye(2)])
    assert reader.refresh()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(reader.ids).result() == ["0", "1", "2", "3"]


def test_a_folder_of_any_name(tmp_path):
    """A path may hold bytes that are not UTF-8, quotes and percent signs."""
    path = tmp_path / os.fsdecode(b"\xff 100% a?b #c'")
    index = Index.create(path, dim=2)
    index.add([{"id": "0"}], vectors=[np.eye(2)])
    assert Index.open(path).ids() == ["0"]


def test_moving_is_durable(index, tmp_path):
    """An index made beside its place is renamed, and the folder above is synced."""
    index.close()
    moved = Store(index.path, Recorder(tmp_path.parent)).move(tmp_path / "m")
    assert recorded(moved.file_system) == [("replace", "v", "m"), ("sync_folder", tmp_path.name)]
    assert Index.open(tmp_path / "m").ids() == ["0", "1", "2"]


class Refusing(FileSystem):
    """A disk that is full."""

    def append(self, file, data):
        """No room."""
        raise OSError(28, "No space left on device", "somewhere")


def test_a_full_disk_is_a_typed_error(store):
    """The message names what failed, why, and that nothing changed."""
    store.file_system = Refusing()
    with pytest.raises(IndexWriteError, match=r"No space left on device.*as it was"):
        step(store)
    assert store.read() == EMPTY


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_can_be_read(store):
    """Reading and pinning need no write access; writing is a typed error."""
    for path in (store.path / DATA, store.path):
        path.chmod(0o500)
    try:
        store.pin()
        with pytest.raises(IndexFileError):
            step(store)
    finally:
        for path in (store.path, store.path / DATA):
            path.chmod(0o700)


def test_a_file_entry_of_another_index(store):
    """Copying checks the hash on the way."""
    with store.writing() as writer:
        entry = writer.array("positions", np.arange(3))
        wrong = FileEntry(entry.name, entry.bytes, "0" * 64)
        with pytest.raises(CorruptIndexError, match=re.escape(entry.name)):
            writer.copy(wrong, store)


def test_a_file_that_cannot_be_mapped_is_a_typed_error(store, monkeypatch):
    """Too little address space is an error that names the file and what to do."""
    with store.writing() as writer:
        entry = writer.array("positions", np.arange(3))

    def full(*_, **__):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("refcolbert.storage.store.mmap.mmap", full)
    with pytest.raises(CorruptIndexError, match=f"{entry.name}: expected to map .*Cannot allocate.*address space"):
        store.array(entry, (I8, (3,)), verify=False)


def test_a_discarded_store_leaves_nothing(tmp_path):
    """The whole folder goes."""
    made = Store(tmp_path / "gone")
    made.create()
    made.discard()
    assert not (tmp_path / "gone").exists()

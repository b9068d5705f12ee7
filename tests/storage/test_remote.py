"""Indexes at URLs: what a reader sees of a publisher, whenever either is interrupted, and that a cache is exact.

Everything runs on fsspec's memory and on files. `make remote` has the packages for a real S3 server as well.
"""

import errno
import pickle
import shutil
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from itertools import count

import fsspec
import numpy as np
import pytest
from stores import KINDS

from refcolbert import Index, ShardedIndex, open_index
from refcolbert.errors import (
    CorruptIndexError,
    IndexExists,
    IndexFileError,
    IndexLocked,
    IndexNotFound,
    IndexWriteError,
    InvalidInput,
    MissingDependency,
)
from refcolbert.storage.durable import FileSystem
from refcolbert.storage.format import Manifest
from refcolbert.storage.objects import Objects
from refcolbert.storage.remote import cache_folder, download, local_path, prune, upload
from refcolbert.storage.shards import SHARDS, write_shards
from refcolbert.storage.store import DATA, MANIFEST, Store
from tools.faults.crash import Recorder

QUERY = np.eye(4, dtype=np.float32)[:2]


class Stopped(BaseException):
    """The end of a process, which nothing catches."""


@pytest.fixture(params=KINDS)
def url(request, tmp_path, monkeypatch):
    """A URL without an index, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if request.param == "s3":
        root = request.getfixturevalue("s3")
    else:
        root = {"memory": "memory://", "file": f"file://{tmp_path}/objects"}[request.param]
    return f"{root}/{uuid.uuid4().hex}"


def add(index, *names):
    """Add documents whose vectors depend on their names alone."""
    vectors = [np.random.default_rng([ord(c) for c in name]).standard_normal((3, 4)) for name in names]
    index.add([{"id": name, "text": f"text of {name}"} for name in names], vectors=vectors)


def made(folder, *batches):
    """An index of documents whose names are the letters of batches."""
    index = Index.create(folder, dim=4, nbits="float16", words=None)
    for names in batches:
        add(index, *names)
    return index


def answer(index):
    """What a search returns, and every text."""
    return [(hit.id, hit.score, hit.text) for hit in index.search(QUERY, k=100)]


def seen(url):
    """What somebody who opens a URL sees: an answer or None. A mixture would raise another error."""
    try:
        with open_index(url, verify="full") as index:
            index.check()
            return answer(index)
    except IndexNotFound:
        return None


@pytest.fixture
def index(tmp_path):
    """Two segments: one stays when a document is added."""
    return made(tmp_path / "i", "abdefghi", "j")


@pytest.fixture
def sharded(tmp_path):
    """Two shards with one document each."""
    for name in ("a", "b"):
        made(tmp_path / "s" / f"shard-{name}", name)
    write_shards(tmp_path / "s", ["shard-a", "shard-b"])
    return ShardedIndex.open(tmp_path / "s")


class Steps:
    """Calls `at` with its number before each object that is sent, written or fetched."""

    def __init__(self, monkeypatch, at=lambda number: None, names=("send", "write")) -> None:
        self.at, self.done, self.lock, self.paused = at, [], threading.Lock(), False
        for name in names:
            monkeypatch.setattr(Objects, name, self.counted(name, getattr(Objects, name)))

    def counted(self, name, do):
        """The method, one at a time."""

        def step(place, what, content):
            if self.paused:
                do(place, what, content)
                return
            with self.lock:
                self.at(len(self.done))
                self.done.append((name, getattr(what, "name", what)))
                do(place, what, content)

        return step


def stop_at(last):
    """Stop at step `last`, and at all later ones: nothing goes on in other threads."""

    def at(number):
        if number >= last:
            raise Stopped

    return at


def overtaken(monkeypatch, last, other):
    """Before step `last`, do something else, whose own steps are not counted."""

    def at(number):
        if number == last:
            steps.paused = True
            other()
            steps.paused = False

    steps = Steps(monkeypatch, at)


def states(url, folder, monkeypatch, first=None):
    """What is seen after an interruption at each step of publishing `folder`, after `first`, and once it is complete.

    Each time, repeating the call completes it.
    """
    for last in count():
        place, complete = f"{url}/{last}", False
        if first is not None:
            upload(first, place)
        with monkeypatch.context() as patch, suppress(Stopped):
            Steps(patch, stop_at(last))
            upload(folder, place, replace=True)
            complete = True
        yield seen(place)
        upload(folder, place, replace=True)
        assert seen(place) == answer(open_index(folder))
        if complete:
            return


def fetched(monkeypatch):
    """The names of the files that are fetched from now on."""
    steps = Steps(monkeypatch, names=["fetch"])
    return lambda: sorted(name for _, name in steps.done)


# ---- Publishing and opening


def test_a_published_index_answers_like_the_original(index, url):
    """A snapshot at a URL, opened there, gives the same hits."""
    index.snapshot(url)
    assert answer(Index.open(url)) == answer(index)


def test_a_compressed_index_with_words_is_published(tmp_path, encoder, url):
    """Codec, inverted lists and words are fetched too."""
    index = Index.create(tmp_path / "i", encoder, train_at=20)
    index.add([f"text number {i} about dates" for i in range(20)])
    index.snapshot(url)
    with Index.open(url, verify="full") as there:
        for mode in ("late", "words", "hybrid"):
            here = [(hit.id, hit.score) for hit in index.search("dates", mode=mode)]
            assert [(hit.id, hit.score) for hit in there.search("dates", mode=mode)] == here


def test_an_index_is_not_overwritten(index, url):
    """Without replace, publishing where an index is raises IndexExists, and nothing changes."""
    index.snapshot(url)
    before = seen(url)
    add(index, "c")
    with pytest.raises(IndexExists, match="there is an index at"):
        index.snapshot(url)
    with pytest.raises(IndexExists):
        upload(index.path, url)
    assert seen(url) == before


def test_a_copied_folder_is_read(index, url):
    """A prefix to which another program copied an index folder, names and all, is an index."""
    fs, root = fsspec.core.url_to_fs(url)
    fs.makedirs(f"{root}/data", exist_ok=True)
    for path in [index.path / MANIFEST, *(index.path / DATA).iterdir()]:
        fs.put_file(str(path), f"{root}/{path.relative_to(index.path)}")
    assert seen(url) == answer(index)
    add(index, "c")
    upload(index.path, url, replace=True)
    assert seen(url) == answer(index)


def test_nothing_is_fetched_twice(index, url, monkeypatch):
    """A second open fetches the manifest alone."""
    index.snapshot(url)
    Index.open(url)
    names = fetched(monkeypatch)
    Index.open(url)
    assert names() == []


def test_a_reader_moves_to_what_is_published_later(index, url, monkeypatch):
    """refresh fetches the files of the new segment alone, and the answer is the new one."""
    index.snapshot(url)
    reader = Index.open(url)
    assert not reader.refresh()
    old = {file.name for file in index.view.manifest.files()}
    add(index, "c")
    upload(index.path, url, replace=True)
    names = fetched(monkeypatch)
    assert reader.refresh()
    assert answer(reader) == answer(index)
    assert names() == sorted({file.name for file in index.view.manifest.files()} - old)


def test_an_open_generation_stays_in_the_cache(index, url):
    """A reader keeps its generation while others fetch the next two over it."""
    index.snapshot(url)
    reader, before = Index.open(url), answer(index)
    for name in "yz":
        add(index, name)
        index.compact()
        upload(index.path, url, replace=True)
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(seen, url).result() == answer(index)
    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(answer, reader).result() == before


@pytest.mark.parametrize("other", ["older", "same number", "same names"])
def test_only_a_later_generation_replaces(index, url, tmp_path, other):
    """An earlier generation, or another index, is refused; what is there stays."""
    index.snapshot(url)
    batches = {"older": ["a"], "same number": ["k", "l"], "same names": ["klmnopqr", "s", "t"]}[other]
    with pytest.raises(InvalidInput, match="expected a later generation"):
        upload(made(tmp_path / "o", *batches).path, url, replace=True)
    assert seen(url) == answer(index)


def test_the_same_generation_is_published_again(index, url, monkeypatch):
    """A repeated upload with replace sends nothing."""
    index.snapshot(url)
    steps = Steps(monkeypatch)
    upload(index.path, url, replace=True)
    assert steps.done == []


def test_a_remote_index_is_only_read(index, url):
    """Writes to it, and an index or a build at a URL, are refused."""
    index.snapshot(url)
    reader = Index.open(url)
    for write in (lambda: add(reader, "c"), lambda: reader.delete(["a"]), lambda: made(url), lambda: local_path(url)):
        with pytest.raises(InvalidInput, match="folder"):
            write()
    assert seen(url) == answer(index)


def test_a_remote_index_is_pickled_by_its_url(index, url):
    """Another machine, which has no cache, opens the same index."""
    index.snapshot(url)
    content = pickle.dumps(Index.open(url))
    shutil.rmtree(cache_folder(url))
    assert answer(pickle.loads(content)) == answer(index)  # noqa: S301 - our own


def test_a_remote_index_is_copied(index, url, tmp_path):
    """The snapshot of a remote index is one to write to, at another URL or in a folder."""
    index.snapshot(url)
    Index.open(url).snapshot(f"{url}/copy")
    Index.open(f"{url}/copy").snapshot(tmp_path / "copy")
    add(index, "c")
    copy = Index.open(tmp_path / "copy")
    add(copy, "c")
    assert answer(copy) == answer(index)


# ---- Interruptions


def test_an_interrupted_publisher_leaves_nothing_or_all(index, url, monkeypatch):
    """At whatever object it ends, there is no index, until the manifest makes it complete."""
    found = list(states(url, index.path, monkeypatch))
    assert found == [None] * (len(found) - 1) + [answer(index)]
    assert len(found) > len({file.sha256 for file in index.view.manifest.files()})


def test_an_interrupted_replacement_leaves_the_old_or_the_new(index, url, tmp_path, monkeypatch):
    """At whatever object it ends, the old generation is there, until the manifest makes the new one."""
    index.snapshot(tmp_path / "old")
    before = answer(index)
    add(index, "c")
    found = list(states(url, index.path, monkeypatch, first=tmp_path / "old"))
    assert found == [before] * (len(found) - 1) + [answer(index)]


def test_an_interrupted_publisher_of_shards_leaves_nothing_or_all(sharded, url, monkeypatch):
    """The list of shards comes last, after the manifests of all."""
    found = list(states(url, sharded.path, monkeypatch))
    assert found == [None] * (len(found) - 1) + [answer(sharded)]
    steps = Steps(monkeypatch)
    upload(sharded.path, f"{url}/all")
    assert [name for _, name in steps.done[-3:]] == [MANIFEST, MANIFEST, SHARDS]


def test_what_was_sent_is_not_sent_again(index, url, monkeypatch):
    """A repeated upload sends only what is missing, and what an interrupted copy to a file left incomplete."""
    with monkeypatch.context() as patch:
        Steps(patch, stop_at(3))
        with pytest.raises(Stopped):
            upload(index.path, url)
    fs, root = fsspec.core.url_to_fs(url)
    cut = sorted(fs.find(f"{root}/data"))[0]
    fs.pipe_file(cut, fs.cat_file(cut)[:-1])
    steps = Steps(monkeypatch)
    upload(index.path, url)
    n_files = len({file.sha256 for file in index.view.manifest.files()})
    assert len(steps.done) == n_files - 2 + 1
    assert seen(url) == answer(index)


def test_an_interrupted_reader_continues(index, url, monkeypatch):
    """At whatever file it ends, nothing is opened, and the next one fetches only the files that are missing."""
    index.snapshot(url)
    n_files = len(index.view.manifest.files())
    total = 0
    for last in (0, 1, 2, 3):
        with monkeypatch.context() as patch:
            steps = Steps(patch, stop_at(last), names=["fetch"])
            with pytest.raises(Stopped):
                Index.open(url)
        total += len(steps.done)
        assert not (cache_folder(url) / MANIFEST).exists()
    names = fetched(monkeypatch)
    assert seen(url) == answer(index)
    assert total + len(names()) == n_files


def test_a_full_disk_leaves_the_cache_as_it_was(index, url, monkeypatch):
    """A failing write raises, and the generation in the cache can still be opened."""
    index.snapshot(url)
    seen(url)
    before = answer(index)
    add(index, "c")
    upload(index.path, url, replace=True)

    def full(self, file):
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(FileSystem, "sync", full)
        with pytest.raises(IndexWriteError, match="no space left"):
            Index.open(url)
    assert answer(Index.open(cache_folder(url))) == before
    assert seen(url) == answer(index)


def test_a_received_file_is_durable_before_it_has_its_name(index, tmp_path):
    """Each file is written, synced and renamed; the manifest comes after all of them."""
    store, manifest = Store(tmp_path / "copy"), index.view.manifest
    store.create()
    store.file_system = recorder = Recorder(tmp_path)
    with store.receiving(manifest) as writer:
        for file in manifest.files():
            path = index.path / DATA / file.name
            writer.receive(file, lambda new, path=path: shutil.copyfile(path, new))
        writer.commit(manifest)
    done = [(o.kind, o.name.rpartition("/")[2]) for o in recorder.operations]
    last_steps = [("sync_folder", DATA), ("replace", MANIFEST)]
    for file in manifest.files():
        steps = [done.index(step) for step in [("sync", f"{file.name}.part"), ("replace", file.name), *last_steps]]
        assert steps == sorted(steps)


# ---- Damage


def damaged(url, change):
    """The name of one data object, after `change` of it."""
    fs, root = fsspec.core.url_to_fs(url)
    path = sorted(fs.find(f"{root}/data"))[0]
    change(fs, path)
    return path.rpartition("/")[2]


def test_a_damaged_object_is_named(index, url):
    """Other bytes of the same size are refused, and the generation in the cache stays."""
    index.snapshot(url)
    name = damaged(url, lambda fs, path: fs.pipe_file(path, bytes(fs.info(path)["size"])))
    with pytest.raises(CorruptIndexError, match=rf"{url}: data/.*expected .* bytes with SHA-256 {name}, found"):
        Index.open(url)
    assert not (cache_folder(url) / MANIFEST).exists()


def test_a_missing_object_is_named(index, url):
    """An object that a manifest names and that is not there is an error, not a reason to wait."""
    index.snapshot(url)
    name = damaged(url, lambda fs, path: fs.rm_file(path))
    with pytest.raises(CorruptIndexError, match=f"{url}: data/{name}: expected"):
        Index.open(url)


def test_a_damaged_manifest_is_named(index, url):
    """A manifest that is cut is refused."""
    index.snapshot(url)
    fs, root = fsspec.core.url_to_fs(url)
    fs.pipe_file(f"{root}/{MANIFEST}", b"{}\n")
    with pytest.raises(CorruptIndexError, match=f"{url}: manifest.json"):
        Index.open(url)


def test_a_damaged_file_is_not_published(index, url):
    """A file is compared with its hash before it is sent."""
    manifest = index.view.manifest
    path = index.path / DATA / manifest.files()[0].name
    content = path.read_bytes()
    path.write_bytes(bytes(len(content)))
    with pytest.raises(CorruptIndexError, match=path.name):
        upload(index.path, url)
    assert seen(url) is None
    path.write_bytes(content)


def test_a_damaged_cache_is_fetched_again(index, url):
    """A manifest in the cache that cannot be read counts as none."""
    index.snapshot(url)
    seen(url)
    (cache_folder(url) / MANIFEST).write_bytes(b"")
    assert seen(url) == answer(index)


def test_another_index_at_the_same_url_replaces_the_copy(index, url, tmp_path):
    """Where an index was removed and another published, a reader has the other one, with the same names of files."""
    index.snapshot(url)
    reader = Index.open(url)
    fs, root = fsspec.core.url_to_fs(url)
    fs.rm(root, recursive=True)
    other = made(tmp_path / "o", "klmnopqr", "s")
    other.snapshot(url)
    assert seen(url) == answer(other)
    assert reader.refresh()
    assert answer(reader) == answer(other)


# ---- Several at a time


def test_two_publishers_leave_one_index(tmp_path, url, monkeypatch):
    """The one that is overtaken raises; if that happens after its last look, its own index is there, in full."""
    base = made(tmp_path / "base", "a")
    for name in ("one", "two"):
        base.snapshot(tmp_path / name)
        with Index.open(tmp_path / name) as index:
            add(index, name)
    n_new = len(Index.open(tmp_path / "one").view.manifest.segments[-1].files)
    for step in range(n_new + 1):
        place = f"{url}/{step}"
        base.snapshot(place)
        with monkeypatch.context() as patch:
            overtaken(patch, step, partial(upload, tmp_path / "two", place, replace=True))
            late = step == n_new
            with nullcontext() if late else pytest.raises(IndexLocked, match="by somebody else meanwhile"):
                upload(tmp_path / "one", place, replace=True)
        assert seen(place) == answer(Index.open(tmp_path / ("one" if late else "two")))


def test_a_reader_whose_generation_is_pruned_begins_again(index, url, monkeypatch):
    """A reader that fetches while the next generation is published and the old files are removed gets the next one."""
    index.snapshot(url)

    def overtake(number):
        if number == 0:
            add(index, "c")
            index.compact()
            upload(index.path, url, replace=True)
            assert prune(url) > 0

    Steps(monkeypatch, overtake, names=["fetch"])
    assert seen(url) == answer(index)


def test_prune_removes_only_what_is_not_needed(index, url):
    """It removes files of earlier generations, and nothing at the second call."""
    index.snapshot(url)
    assert prune(url) == 0
    add(index, "c")
    index.compact()
    upload(index.path, url, replace=True)
    fs, root = fsspec.core.url_to_fs(url)
    before = len(fs.find(f"{root}/data"))
    removed = prune(url)
    assert removed > 0
    assert len(fs.find(f"{root}/data")) == before - removed == len({f.sha256 for f in index.view.manifest.files()})
    assert prune(url) == 0
    assert seen(url) == answer(index)


def test_several_readers_share_a_cache(index, url, monkeypatch):
    """Threads that open a URL at a time fetch each file once."""
    index.snapshot(url)
    names = fetched(monkeypatch)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda _: seen(url), range(4))) == [answer(index)] * 4
    assert names() == sorted(file.name for file in index.view.manifest.files())


def test_a_copy_that_others_have_completed_is_used(index, url, monkeypatch):
    """A reader finds nothing; before it holds the lock, another one has fetched everything."""
    index.snapshot(url)
    create = Store.create

    def late(store):
        monkeypatch.setattr(Store, "create", create)
        download(url)
        create(store)

    monkeypatch.setattr(Store, "create", late)
    assert seen(url) == answer(index)


# ---- Shards


def test_a_sharded_index_is_published_and_opened(sharded, url):
    """It answers like the original, is pickled by its URL, and each shard opens by itself."""
    sharded.snapshot(url)
    with open_index(url) as there:
        assert isinstance(there, ShardedIndex)
        assert answer(there) == answer(sharded)
        assert answer(pickle.loads(pickle.dumps(there))) == answer(sharded)  # noqa: S301 - our own
    assert answer(Index.open(f"{url}/shard-b")) == answer(sharded.shards[1])


def test_a_reader_of_shards_moves_to_what_is_published_later(sharded, url, monkeypatch):
    """refresh fetches the files of the shard that changed, and writes to the copy are refused."""
    sharded.snapshot(url)
    there = ShardedIndex.open(url)
    add(sharded, "c")
    upload(sharded.path, url, replace=True)
    names = fetched(monkeypatch)
    assert there.refresh()
    assert answer(there) == answer(sharded)
    new = {f.name for f in sharded.shards[1].view.manifest.segments[-1].files.values()}
    assert set(names()) == new
    with pytest.raises(InvalidInput, match="found"):
        add(there, "d")


def test_other_shards_do_not_replace(sharded, url):
    """An index of other shards is another index: replace refuses it, and what is there stays."""
    sharded.snapshot(url)
    shutil.copytree(sharded.path / "shard-b", sharded.path / "shard-c")
    write_shards(sharded.path, ["shard-a", "shard-c"])
    with pytest.raises(InvalidInput, match="choose another URL"):
        upload(sharded.path, url, replace=True)
    assert answer(ShardedIndex.open(url)) == answer(sharded)


def test_only_some_shards_are_fetched(sharded, url):
    """By number or by name; the folder is a sharded index when all are there."""
    upload(sharded.path, url)
    folder = download(url, shards=[1])
    assert sorted(p.name for p in folder.iterdir()) == ["shard-b"]
    assert answer(Index.open(folder / "shard-b")) == answer(sharded.shards[1])
    assert download(url, shards=["shard-a"]) == folder
    assert not (folder / SHARDS).exists()
    assert answer(ShardedIndex.open(download(url))) == answer(sharded)
    for wrong in (2, "shard-c"):
        with pytest.raises(InvalidInput, match="one of 2 shards"):
            download(url, shards=[wrong])


def test_shards_of_one_index_are_refused(index, url):
    """The message says what is there."""
    index.snapshot(url)
    with pytest.raises(InvalidInput, match="expected a sharded index"):
        download(url, shards=[0])


def test_one_index_and_shards_do_not_replace_each_other(index, sharded, url):
    """Whichever is there stays."""
    upload(index.path, f"{url}/i")
    upload(sharded.path, f"{url}/s")
    for folder, place in ((sharded.path, "i"), (index.path, "s")):
        with pytest.raises(IndexExists):
            upload(folder, f"{url}/{place}", replace=True)


def test_prune_reaches_every_shard(sharded, url):
    """Files that no shard needs are removed."""
    upload(sharded.path, url)
    add(sharded, "c")
    sharded.compact()
    upload(sharded.path, url, replace=True)
    assert prune(url) > 0
    assert seen(url) == answer(sharded)


# ---- Errors


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("memory://nothing-here", IndexNotFound, "no index at memory://nothing-here"),
        ("nothing://x", InvalidInput, "expected a URL that fsspec knows, found nothing://x"),
        ("dropbox://x", MissingDependency, "dropbox://x needs one more package: .*dropbox"),
    ],
)
def test_a_url_that_cannot_be_opened(url, error, message):
    """The message names the URL and what is missing."""
    with pytest.raises(error, match=message):
        Index.open(url)


def test_fsspec_is_optional(monkeypatch):
    """Without it, the error names the extra."""
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingDependency, match=r"refcolbert\[remote\]"):
        Index.open("memory://x")


def test_a_refusal_of_the_store_is_reported(index, url, monkeypatch):
    """An operating system's error becomes one of the package, with the URL of the object."""
    monkeypatch.setattr(Objects, "_is_local", False, raising=False)
    fs, root = fsspec.core.url_to_fs(url)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Forbidden")

    for name in ("cat_file", "put_file"):
        monkeypatch.setattr(fs, name, refuse)
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda url, **options: (fs, root))
    with pytest.raises(IndexFileError, match=f"{url}/manifest.json could not be read .*Forbidden"):
        Index.open(url)


@pytest.mark.parametrize(("later", "follows"), [(3, True), (2, False), (1, False)])
def test_follows_compares_numbers(later, follows):
    """A generation follows only those with a smaller number."""
    manifests = [Manifest(generation=n, dim=2, nbits="float16", train_at=10, seed=0) for n in (2, later)]
    assert manifests[1].follows(manifests[0]) is follows

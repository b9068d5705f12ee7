"""An index that is built at a URL."""

import uuid

import fsspec
import pytest
from clusters import SETTINGS, parts
from stores import KINDS

from refcolbert import Encoder, cluster, open_index
from refcolbert.cluster.workers import local_cluster
from refcolbert.errors import DuplicateId, IndexExists, IndexNotFound, IndexWriteError
from refcolbert.storage.objects import Objects


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def url():
    """A URL of this process's memory, without an index."""
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture(params=KINDS[1:])
def shared(request, tmp_path):
    """A URL that other processes reach, without an index."""
    root = f"file://{tmp_path}" if request.param == "file" else request.getfixturevalue("s3")
    return f"{root}/{uuid.uuid4().hex}"


def objects(url):
    """The content of every object below a URL, by name."""
    files, root = fsspec.core.url_to_fs(url)
    files.invalidate_cache()
    return {path.removeprefix(root): files.cat_file(path) for path in files.find(root)}


@pytest.fixture(scope="module")
def published(encoder, tmp_path_factory):
    """The objects of a build in a folder that was published afterwards."""
    folder, url = tmp_path_factory.mktemp("published") / "x", f"memory://{uuid.uuid4().hex}"
    with cluster.build(folder, parts(), encoder=encoder, **SETTINGS) as index:
        index.snapshot(url)
    return objects(url)


def test_threads_publish_what_a_snapshot_does(encoder, threads, published, url):
    """A build at a URL writes the objects that a build in a folder and a snapshot of it write, and no others."""
    index = cluster.build(url, parts(), threads, encoder=encoder, **SETTINGS)
    assert objects(url) == published
    assert index.check()["documents"] == 240


def test_processes_publish_what_a_snapshot_does(encoder, shared, published):
    """Processes that share nothing but the object store write the same objects."""
    with local_cluster(2) as client:
        cluster.build(shared, parts(), client, encoder=encoder, **SETTINGS).close()
    assert objects(shared) == published


@pytest.mark.parametrize("stopped", [0, 9, 24, 39, 52, 59])
def test_an_interrupted_build_goes_on(encoder, published, url, monkeypatch, stopped):
    """Wherever writing stops, nobody finds an index, and the same call completes it."""
    done = []

    def stopping(do):
        def write(self, *rest):
            if len(done) == stopped:
                raise IndexWriteError("no access")
            done.append(rest[0])
            do(self, *rest)

        return write

    with monkeypatch.context() as patch:
        for method in ("send", "write", "clear"):
            patch.setattr(Objects, method, stopping(getattr(Objects, method)))
        with pytest.raises(IndexWriteError, match="no access"):
            cluster.build(url, parts(), encoder=encoder, **SETTINGS)
    assert len(done) == stopped
    with pytest.raises(IndexNotFound):
        open_index(url)
    cluster.build(url, parts(), encoder=encoder, **SETTINGS).close()
    assert objects(url) == published


def test_published_shards_are_not_built_again(encoder, url, monkeypatch):
    """When a repeated id is corrected, the documents of the other shards are not encoded again."""
    given = parts()
    given[3][0] = {**given[3][0], "id": "d3"}
    with pytest.raises(DuplicateId, match=r"'d3' occurs in shard-0000-\w+ and in shard-0003-"):
        cluster.build(url, given, encoder=encoder, nbits="float16")
    encoded, encode = [], Encoder.encode_documents

    def counted(self, texts, *rest):
        encoded.extend(texts)
        return encode(self, texts, *rest)

    monkeypatch.setattr(Encoder, "encode_documents", counted)
    index = cluster.build(url, parts(), encoder=encoder, nbits="float16")
    assert sorted(encoded) == sorted(document["text"] for document in parts()[3])
    assert len(index.shards) == 4


def test_other_objects_stay(encoder, url):
    """Objects that no build has written are not touched."""
    files = fsspec.filesystem("memory")
    files.pipe_file(f"{url}/photos/1.jpg", b"x")
    cluster.build(url, parts(2), encoder=encoder, nbits="float16").close()
    assert files.cat_file(f"{url}/photos/1.jpg") == b"x"


def test_an_existing_index_is_refused(encoder, url):
    """Nothing is built where an index is."""
    cluster.build(url, parts(2), encoder=encoder, nbits="float16").close()
    before = objects(url)
    with pytest.raises(IndexExists):
        cluster.build(url, parts(4), encoder=encoder, nbits="float16")
    assert objects(url) == before


def test_prepared_shards_are_published(encoder, url):
    """Other engines build at a URL, too."""
    shard = cluster.prepare(url, ["The cat sat.", "Stocks fell."], n_docs=2, encoder=encoder)
    names = [shard({"id": [text], "text": [text]})["name"][0] for text in ("The cat sat.", "Stocks fell.")]
    assert cluster.publish(url, names).info()["documents"] == 2


def test_an_index_at_a_url_is_built_again(encoder, tmp_path):
    """The shards of an index at a URL are partitions of another one, which workers read there."""
    url = f"file://{tmp_path}/objects"
    first = cluster.build(url, parts(2), encoder=encoder, nbits="float16")
    with local_cluster(1) as client:
        again = cluster.build(tmp_path / "x", first, client, encoder=encoder, nbits=8)
    assert again.get(again.ids()) == first.get(first.ids())

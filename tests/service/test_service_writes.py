"""Documents over HTTP: read by id, and in a writable service added, replaced, relabelled and deleted."""

import resource
import threading

import pytest
from servers import DOCUMENTS, make_index, running

from refcolbert import Index
from refcolbert.service import Live
from refcolbert.storage.store import Store


@pytest.fixture
def path(tmp_path, encoder):
    """An index of three documents."""
    make_index(tmp_path / "i", encoder)
    return tmp_path / "i"


@pytest.fixture
def client(path):
    """A writable service."""
    with running(Live(path, writable=True)) as client:
        yield client


NEW = {"id": "new", "text": "a new text about clocks", "metadata": {"year": 2025}}


def test_get_returns_documents(client):
    """POST /get answers in the order of the ids; an unknown one is 404."""
    assert client.post("/get", {"ids": ["wing", "date"]}).json["documents"] == [DOCUMENTS[2], DOCUMENTS[0]]
    assert client.post("/get", {"ids": ["wing", "nobody"]}).code == "unknown_id"


def test_a_service_is_not_writable_unless_told(path):
    """Without --writable the paths do not exist."""
    with running(path) as client:
        for target in ("/upsert", "/delete", "/metadata"):
            assert client.post(target, {}).code == "not_found"


def test_a_change_is_served_when_it_is_answered(client, path):
    """The generation of the answer is searched by the next request, and is on disk."""
    first = client.post("/upsert", {"documents": [NEW]}).json["generation"]
    assert client.post("/search", {"query": NEW["text"], "k": 1}).json["hits"][0]["id"] == "new"
    again = client.post("/upsert", {"documents": [NEW]}).json["generation"]
    assert again > first
    changed = client.post("/metadata", {"documents": [{"id": "new", "metadata": {"year": 1}}]}).json["generation"]
    assert client.post("/get", {"ids": ["new"]}).json["documents"] == [NEW | {"metadata": {"year": 1}}]
    deleted = client.post("/delete", {"ids": ["new", "nobody"]}).json["generation"]
    assert deleted > changed
    assert client.post("/delete", {"ids": ["new"]}).json["generation"] == deleted
    assert client.post("/get", {"ids": ["new"]}).code == "unknown_id"
    assert Index.open(path).generation == deleted


@pytest.mark.parametrize(
    ("target", "body", "code"),
    [
        ("/upsert", {"documents": []}, "invalid_input"),
        ("/upsert", {"documents": [{"text": "no id"}]}, "invalid_input"),
        ("/upsert", {"documents": [NEW, NEW]}, "duplicate_id"),
        ("/upsert", {"documents": [NEW | {"metadata": {"a": {"b": [[]] * 3}}, "more": 1}]}, "invalid_input"),
        ("/metadata", {"documents": [{"id": "nobody", "metadata": {}}]}, "unknown_id"),
        ("/delete", {}, "invalid_input"),
    ],
)
def test_wrong_changes_change_nothing(client, path, target, body, code):
    """Each is refused by name, and the generation stays."""
    before = Index.open(path).generation
    assert client.post(target, body).code == code
    assert Index.open(path).generation == before


def test_another_writer_gives_an_answer_to_try_again(client, path):
    """While another process holds the lock of writers, the answer is 503 and says nothing of this machine."""
    with Store(path).writing():
        reply = client.post("/upsert", {"documents": [NEW]})
    assert (reply.status, reply.code, reply.headers["retry-after"]) == (503, "locked", "1")
    assert str(path) not in reply.json["error"]["message"]
    assert client.post("/upsert", {"documents": [NEW]}).status == 200


def test_many_clients_lose_nothing(client, path):
    """Changes that arrive together are made one after the other; all of them are in the index."""

    def send(number):
        for i in range(5):
            reply = client.post("/upsert", {"documents": [{"id": f"{number}-{i}", "text": f"text {number} {i}"}]})
            assert reply.status == 200

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    index = Index.open(path, verify="full")
    assert {f"{number}-{i}" for number in range(4) for i in range(5)} <= set(index.ids())
    index.check()


def test_a_full_disk_loses_nothing(client, path):
    """A write that fails is an error, the index is as it was, and the next write succeeds."""
    before = Index.open(path).ids()
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        assert client.post("/upsert", {"documents": [NEW]}).code == "not_written"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert Index.open(path, verify="full").ids() == before
    assert client.post("/search", {"query": "a date", "k": 1}).status == 200
    assert client.post("/upsert", {"documents": [NEW]}).status == 200

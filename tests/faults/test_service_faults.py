"""Damaged requests and crowds at a service: the short form of `python -m tools.faults.service`."""

import asyncio
import mmap
import os

import pytest
from servers import make_index, running

from refcolbert.service import app, workers
from refcolbert.service.http_errors import Refusal
from tools.faults import service as faults

DOCUMENTS = [{"id": str(i), "text": f"the date of document {i}", "metadata": {"n": i}} for i in range(10)]


@pytest.fixture
def client(encoder, tmp_path):
    """A client of a service of ten documents, in this process."""
    folder = make_index(tmp_path / "index", encoder, DOCUMENTS)
    with running(folder, limits={"read_seconds": 0.5, "queue": 500}) as found:
        yield found


def url(client):
    """The address of the service."""
    return f"http://{client.host}:{client.port}"


def test_damaged_requests_are_refused(client):
    """Nothing but what a client can earn comes out, and some requests are answered, some refused."""
    found = faults.fuzz(url(client), os.getpid(), 150, seed=1)
    assert found.bad == []
    assert sum(found.statuses.values()) == 150
    assert found.statuses[200] > 10
    assert found.statuses[400] > 30


def test_a_crowd_is_answered(client):
    """Every request of a hundred connections at once is answered."""
    found = faults.crowd(url(client), os.getpid(), 100)
    assert (found.bad, found.statuses[200]) == ([], 100 * faults.ASKS)


def test_an_accident_is_found(client, monkeypatch):
    """A service that takes a client's mistake for its own fails the campaign."""
    monkeypatch.setattr(app, "refusal_of", lambda error: Refusal("internal"))
    assert any(bad.startswith("500") for bad in faults.fuzz(url(client), os.getpid(), 30).bad)


def test_a_hang_is_found(client, monkeypatch):
    """A service that never answers fails both parts."""

    async def never(*args):
        await asyncio.Event().wait()

    monkeypatch.setattr(faults, "PATIENCE", 0.3)
    monkeypatch.setattr(workers.Workers, "answer", never)
    assert any(bad.startswith("-1") for bad in faults.fuzz(url(client), os.getpid(), 20).bad)
    assert len(faults.crowd(url(client), os.getpid(), 3).bad) == 3 * faults.ASKS


def test_a_leak_is_found(client, monkeypatch):
    """A service that keeps something of each request grows by more than is allowed."""
    kept, size = [], faults.resident(os.getpid()) // 100
    read = app.from_json

    def leaking(body):
        kept.append(mmap.mmap(-1, size))  # pages of its own: memory that the process had freed would hide it
        kept[-1].write(b"x" * size)
        return read(body)

    monkeypatch.setattr(app, "from_json", leaking)
    assert faults.fuzz(url(client), os.getpid(), 60).growth > faults.GROWTH

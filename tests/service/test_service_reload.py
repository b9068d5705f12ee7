"""The running service: it follows writers without dropping a request, and shuts down gracefully."""

import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner
from servers import Client, make_index, running

from refcolbert import Encoder, Index
from refcolbert.cli import main
from refcolbert.errors import EncoderMismatch, InvalidInput
from refcolbert.service import Live
from refcolbert.service.server import bind

SOON = {"reload_seconds": 0.02}


@pytest.fixture
def folder(encoder, tmp_path):
    """An index of three documents."""
    return make_index(tmp_path / "index", encoder)


@pytest.fixture
def other_model(encoder, tmp_path):
    """The tiny model with another query length: another hash."""
    folder = tmp_path / "model"
    shutil.copytree(encoder.folder, folder)
    spec = json.loads((folder / "encoding.json").read_text())
    (folder / "encoding.json").write_text(json.dumps({**spec, "query_length": spec["query_length"] - 1}))
    return folder


def wait_for(condition, seconds=20):
    """Until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.01)


# ---- generations


def test_writers_and_requests_do_not_meet(folder, encoder):
    """While a writer adds, deletes and compacts, every request is answered from one whole generation."""
    stop = threading.Event()

    def ask(client):
        seen = []
        while not stop.is_set():
            reply = client.post("/search", {"query": "number", "k": 1000})
            seen.append((reply.status, reply.json["generation"], sorted(hit["id"] for hit in reply.json["hits"])))
        return seen

    with running(folder, limits=SOON) as client, ThreadPoolExecutor(4) as pool, Index.open(folder, encoder) as writer:
        truth = {writer.generation: sorted(writer.ids())}
        asking = [pool.submit(ask, client) for _ in range(4)]
        for number in range(30):
            writer.add([{"id": f"new{number}", "text": f"a document of the number {number}"}])
            truth[writer.generation] = sorted(writer.ids())
            if number % 5 == 4:
                writer.delete([f"new{number - 2}"])
                truth[writer.generation] = sorted(writer.ids())
            if number % 10 == 9:
                writer.compact()
                truth[writer.generation] = sorted(writer.ids())
            time.sleep(0.02)
        wait_for(lambda: client.get("/info").json["generation"] == writer.generation)
        stop.set()
        seen = [one for future in asking for one in future.result()]
    assert {status for status, _, _ in seen} == {200}
    assert len({generation for _, generation, _ in seen}) > 5
    assert all(ids == truth[generation] for _, generation, ids in seen)


def test_new_documents_are_found_and_explained(folder, encoder):
    """A document that a writer adds is soon served and counted."""
    with running(folder, limits=SOON) as client, Index.open(folder, encoder) as writer:
        writer.add([{"id": "zebra", "text": "a zebra crosses the road"}])
        wait_for(lambda: client.post("/explain", {"query": "zebra", "id": "zebra"}).status == 200)
        assert client.post("/search", {"query": "zebra", "ids": ["zebra"]}).json["hits"][0]["id"] == "zebra"
        metrics = client.get("/metrics").body.decode()
        assert 'refcolbert_reloads_total{result="loaded"} 1.0' in metrics
        assert "refcolbert_documents 4.0" in metrics


def test_an_index_encoded_anew_brings_its_model(folder, other_model):
    """After `reencode` with another model, queries are encoded with that one."""
    with running(folder, limits=SOON) as client, Index.open(folder) as writer:
        before = client.post("/encode", {"texts": ["a"], "kind": "query"}).json
        writer.reencode(Encoder.load(other_model))
        wait_for(lambda: client.get("/info").json["generation"] == writer.generation)
        after = client.post("/encode", {"texts": ["a"], "kind": "query"}).json
        assert len(after["vectors"][0]) == len(before["vectors"][0]) - 1
        hits = client.post("/search", {"query": "a wing"}).json["hits"]
        assert [hit["score"] for hit in hits] == [hit.score for hit in writer.search("a wing")]


def test_a_generation_that_cannot_be_loaded_is_not_served(folder, caplog):
    """The last good generation stays in use, the error is logged once, and the next good one is loaded."""
    with running(folder, limits=SOON) as client:
        manifest = (folder / "manifest.json").read_bytes()
        (folder / "manifest.json").write_bytes(manifest.replace(b'"generation"', b'"generatiom"'))
        with caplog.at_level(logging.ERROR, "refcolbert.service"):
            wait_for(lambda: "failed" in client.get("/metrics").body.decode())
            time.sleep(0.2)
        assert client.get("/search?q=a").status == 200
        assert len([r for r in caplog.records if "cannot be loaded" in r.message]) == 1
        (folder / "manifest.json").write_bytes(manifest)
        with Index.open(folder) as writer:
            writer.add(["one more"])
        wait_for(lambda: client.get("/info").json["documents"] == 4)


def test_another_index_in_its_place_is_served(folder, encoder, tmp_path):
    """A folder that is exchanged for another index is noticed."""
    with running(folder, limits=SOON) as client:
        make_index(tmp_path / "other", encoder, [{"id": "x", "text": "another"}, {"id": "y", "text": "index"}])
        folder.rename(tmp_path / "old")
        (tmp_path / "other").rename(folder)
        wait_for(lambda: client.get("/info").json["documents"] == 2)
        assert {hit["id"] for hit in client.get("/search?q=a").json["hits"]} == {"x", "y"}
        (tmp_path / "old").rename(tmp_path / "other")


def test_the_wrong_model_is_refused(folder, other_model):
    """A service never starts with a model that did not make the index."""
    with pytest.raises(EncoderMismatch, match=r"\(--model\): expected the model"):
        Live(folder, str(other_model))
    with pytest.raises(EncoderMismatch, match="needs the model"):
        Live(folder, str(other_model / "nowhere"))


def test_small_packets_do_not_wait(folder):
    """A connection has Nagle's algorithm off: no answer waits for the client's acknowledgement."""
    with running(folder) as client, client.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1)
        (protocol,) = client.server.server_state.connections
        accepted = protocol.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# ---- the process


@pytest.fixture
def process(folder):
    """`refcolbert serve` as a process, its client and its log."""
    log = folder.parent / "log"
    with log.open("wb") as stderr:
        program = [sys.executable, "-c", "from refcolbert.cli import main; main()"]
        command = [*program, "serve", str(folder), "--port", "0", "--log-requests"]
        process = subprocess.Popen(command, stderr=stderr, env={**os.environ, "REFCOLBERT_TOKEN": ""})
    try:
        wait_for(lambda: b"startup complete" in log.read_bytes() or process.poll() is not None, 60)
        url = re.search(rb"is served at (http://127\.0\.0\.1:\d+/)", log.read_bytes())
        yield process, Client(url[1].decode()), log
    finally:
        process.kill()
        process.wait()


def test_sigterm_finishes_what_runs(process):
    """A request that runs at SIGTERM is answered, new connections are not taken, the exit code is 0."""
    server, client, log = process
    assert client.get("/search?q=date").status == 200
    body = json.dumps({"texts": ["parse a date from a string " * 60] * 64}).encode()
    with ThreadPoolExecutor(1) as pool, client.connect() as idle:
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while b"ok" not in answer:
            answer += idle.recv(4096)
        running_request = pool.submit(client.ask, "POST", "/encode", body)
        wait_for(lambda: b"refcolbert_requests_running 2.0" in client.get("/metrics").body)
        server.send_signal(signal.SIGTERM)
        reply = running_request.result(30)
        assert (reply.status, len(reply.json["vectors"])) == (200, 64)
        assert idle.recv(4096) == b""  # an idle connection is closed
    assert server.wait(30) == 0
    with pytest.raises(ConnectionRefusedError), socket.create_connection((client.host, client.port)):
        pass
    assert b"Traceback" not in log.read_bytes()


def test_the_verb_says_what_is_wrong(folder, tmp_path, monkeypatch):
    """No index, a weak token, an open address without a token, a port that is taken: exit code 1 and a way out."""
    (tmp_path / "token").write_text("short\n")
    monkeypatch.delenv("REFCOLBERT_TOKEN", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cases = [
            ([tmp_path / "nothing"], "IndexNotFound"),
            ([folder, "--token-file", tmp_path / "token"], "expected a token of at least 16"),
            ([folder, "--host", "0.0.0.0"], "give a token"),  # noqa: S104 - it is refused
            ([folder, "--port", taken.getsockname()[1]], f"port {taken.getsockname()[1]}: Address already in use"),
            ([folder, "--host", "no.such.host.invalid"], "choose others with --host and --port"),
            ([folder, "--max-k", 0], "the limit k must be"),
        ]
        for arguments, message in cases:
            result = CliRunner().invoke(main, ["serve", *map(str, arguments)])
            assert (result.exit_code, result.stdout) == (1, ""), result.output
            assert message in result.stderr


@pytest.mark.parametrize("port", [-1, 65536, 99999])
def test_a_port_that_is_none_is_refused(folder, port):
    """A port outside 0 to 65535 is wrong usage for the verb and InvalidInput in Python: nothing else listens."""
    with pytest.raises(InvalidInput, match="a port from 0 to 65535"):
        bind(Live(folder), port=port)
    result = CliRunner().invoke(main, ["serve", str(folder), "--port", str(port)])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'--port'" in result.stderr


@pytest.mark.parametrize("package", ["uvicorn", "starlette", "h11", "prometheus_client", "threadpoolctl"])
def test_the_verb_names_the_extra(folder, package):
    """The error names the extra to install when one of its packages is missing."""
    program = f"import sys; sys.modules[{package!r}] = None; from refcolbert.cli import main; main()"
    command = [sys.executable, "-c", program, "serve", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1
    assert "pip install 'refcolbert[serve]'" in result.stderr


def test_the_log_has_requests_without_their_words(process):
    """The log has one line per request with id and route, and shows neither queries nor unknown paths."""
    _, client, log = process
    client.get("/search?q=secret", **{"X-Request-ID": "mine"})
    client.get("/%0aforged%20line")
    wait_for(lambda: b"404" in log.read_bytes())
    assert re.search(rb"refcolbert.service: mine GET /search 200 [\d.]+ ms\n", log.read_bytes())
    assert b"secret" not in log.read_bytes()
    assert b"forged" not in log.read_bytes()


def test_a_failure_is_logged_and_not_told(folder, monkeypatch, caplog):
    """An accident inside is 500 with the request id that the log's traceback has."""

    def broken(self, *args, **kwargs):
        raise RuntimeError("the secret cause")

    with running(folder) as client:
        monkeypatch.setattr(Index, "search", broken)
        with caplog.at_level(logging.ERROR, "refcolbert.service"):
            reply = client.get("/search?q=a")
        assert (reply.status, reply.code) == (500, "internal")
        assert "secret" not in reply.body.decode()
        (record,) = [r for r in caplog.records if r.exc_info]
        assert reply.headers["x-request-id"] in record.getMessage()
        assert "the secret cause" in str(record.exc_info[1])
        monkeypatch.undo()
        assert client.get("/search?q=a").status == 200

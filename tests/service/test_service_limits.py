"""Access rules and limits of the service."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields

import pytest
from servers import make_index, post_head, received, running, statuses

from refcolbert.errors import InvalidInput
from refcolbert.service import Live, ServiceLimits
from refcolbert.service.server import bind

TOKEN = "a-token-of-some-length"  # noqa: S105 - of this test
QUICK = {"idle_seconds": 0.5, "read_seconds": 0.5}  # a connection without a whole request is soon closed
FIELD_NAMES = [entry.name for entry in fields(ServiceLimits)]


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    """An index of three documents."""
    return make_index(tmp_path_factory.mktemp("limits") / "index", encoder)


class Slow:
    """Makes searches wait until `free` is set, as searches of a large index would."""

    def __init__(self, live, monkeypatch) -> None:
        self.free, self.begun = threading.Event(), threading.Semaphore(0)
        index = type(live.now.index)
        search = index.search

        def waiting(*args, **kwargs):
            self.begun.release()
            assert self.free.wait(30)
            return search(*args, **kwargs)

        monkeypatch.setattr(index, "search", waiting)


# ---- who may ask


def test_other_addresses_need_a_token(folder):
    """Without a token the service refuses addresses that other machines can reach, and says what to do."""
    for host in ("0.0.0.0", "::"):  # noqa: S104
        with pytest.raises(InvalidInput, match=r"--token-file or REFCOLBERT_TOKEN"):
            bind(Live(folder), host=host, port=0)


@pytest.mark.parametrize("token", ["", "short", "with a space in the token", "caf\u00e9" * 8, "line\nbreak" * 4])
def test_a_weak_token_is_refused(folder, token):
    """A token that is short or not printable ASCII is refused."""
    with pytest.raises(InvalidInput, match="expected a token of at least 16"):
        bind(Live(folder), port=0, token=token)


def test_a_token_is_asked_for(folder):
    """Every path but health, readiness and the page is 401 without the token, whatever it is asked; with it 200."""
    with running(folder, host="0.0.0.0", token=TOKEN) as client:  # noqa: S104
        for header in (
            {},
            {"Authorization": "Bearer wrong" * 3},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": TOKEN},
        ):
            for path in ("/search?q=a", "/metrics", "/info", "/openapi.json", "/nowhere"):
                reply = client.get(path, **header)
                assert (reply.status, reply.code, reply.headers["www-authenticate"]) == (401, "unauthorized", "Bearer")
                assert TOKEN not in reply.body.decode()
            assert [client.get(path, **header).status for path in ("/health", "/ready", "/")] == [200] * 3
        for scheme in ("Bearer", "bearer"):
            assert client.get("/search?q=a", Authorization=f"{scheme} {TOKEN}").status == 200
        assert client.get("/search?q=a", Authorization=f"Bearer {TOKEN}", Host="any.name").status == 200
        assert client.get("/openapi.json", Authorization=f"Bearer {TOKEN}").json["security"] == [{"token": []}]


def test_two_tokens_are_none(folder):
    """A request with two Authorization headers is refused, even if one is right."""
    request = f"GET /info HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nAuthorization: x\r\n\r\n"
    with running(folder, token=TOKEN, limits=QUICK) as client:
        assert statuses(client.raw(request.encode())[0]) == [401]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:8000", 200),
        ("LOCALHOST", 200),
        ("[::1]:80", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
        ("127.0.0.1.evil.example", 400),
        ("", 400),
        ("[::1", 400),
        ("search.internal", 200),
    ],
)
def test_a_foreign_host_is_refused(folder, host, status):
    """A Host header with a foreign name is refused, which stops DNS rebinding."""
    with running(folder, hosts=frozenset({"search.internal"})) as client:
        reply = client.get("/search?q=a", Host=host)
        assert reply.status == status
        assert status == 200 or reply.code == "wrong_host"


# ---- how much


@pytest.mark.parametrize("name", FIELD_NAMES)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "5", None, 2**31])
def test_a_limit_that_is_none_is_refused(name, value):
    """Every limit is a positive number."""
    with pytest.raises(InvalidInput, match=f"the limit {name} must be"):
        ServiceLimits(**{name: value})


def test_limits_of_a_request_hold(folder):
    """Each limit of a request is exact: 200 at the limit, 400 one above it."""
    limits = {"characters": 20, "batch": 2, "documents": 3, "k": 4, "nprobe": 5, "candidates": 6, "vectors": 7}
    cases = [
        ("/search", lambda n: {"query": "x" * n}, 20),
        ("/search_many", lambda n: {"queries": ["x"] * n}, 2),
        ("/encode", lambda n: {"texts": ["x"] * n}, 2),
        ("/rerank", lambda n: {"query": "x", "documents": ["y"] * n}, 3),
        ("/search", lambda n: {"query": "x", "ids": ["y"] * n}, 3),
        ("/search", lambda n: {"query": "x", "k": n}, 4),
        ("/search", lambda n: {"query": "x", "nprobe": n}, 5),
        ("/search", lambda n: {"query": "x", "candidates": n}, 6),
        ("/search", lambda n: {"query": [[0.25] * 16] * n}, 7),
    ]
    with running(folder, limits=limits) as client:
        for path, body, most in cases:
            assert client.post(path, body(most)).status == 200
            assert client.post(path, body(most + 1)).code == "invalid_input"


def test_the_body_is_bounded(folder):
    """A body one byte too long is 413 and not read; one as long as allowed is taken."""
    with running(folder, limits={"body_bytes": 100, **QUICK}) as client:
        body = json.dumps({"query": "a"}).encode()
        assert client.ask("POST", "/search", body.ljust(100)).status == 200
        assert client.ask("POST", "/search", body.ljust(101)).code == "too_large"
        assert statuses(client.raw(post_head("/search", 9_999_999_999))[0]) == [
            413
        ]  # at once: there is no body to read


def test_the_head_is_bounded(folder):
    """Headers longer than the limit are 431."""
    with running(folder, limits={"head_bytes": 2000}) as client:
        assert client.get("/health", **{"X-Long": "x" * 1000}).status == 200
        assert client.get("/health", **{"X-Long": "x" * 3000}).code == "head_too_large"


def test_a_full_queue_is_503_at_once(folder, monkeypatch):
    """The next request gets 503 when threads and queue are full; the requests before it are answered."""
    with running(folder, limits={"threads": 1, "queue": 2, "together": 1}) as client, ThreadPoolExecutor(3) as pool:
        slow = Slow(client.live, monkeypatch)
        first = pool.submit(client.get, "/search?q=a")
        assert slow.begun.acquire(timeout=10)
        others = [pool.submit(client.get, "/search?q=a") for _ in range(2)]
        while "refcolbert_requests_waiting 2.0" not in client.get("/metrics").body.decode():
            time.sleep(0.01)
        full = client.get("/search?q=a")
        assert (full.status, full.code, full.headers["retry-after"]) == (503, "busy", "1")
        assert client.get("/health").status == 200  # it is well, and says so
        slow.free.set()
        assert [future.result().status for future in (first, *others)] == [200] * 3


# ---- how long


def test_an_answer_that_takes_too_long_is_503(folder, monkeypatch):
    """The client gets 503 in time, and the service goes on."""
    with running(folder, limits={"threads": 1, "answer_seconds": 0.3}) as client:
        slow = Slow(client.live, monkeypatch)
        assert client.get("/search?q=a").code == "timeout"
        slow.free.set()
        assert client.get("/search?q=a").status == 200


def test_what_nobody_waits_for_is_not_computed(folder, monkeypatch):
    """A request whose client has gone before a thread took it is dropped."""
    with running(folder, limits={"threads": 1, "together": 1}) as client, ThreadPoolExecutor(1) as pool:
        slow = Slow(client.live, monkeypatch)
        first = pool.submit(client.get, "/search?q=a")
        assert slow.begun.acquire(timeout=10)
        with client.connect() as gone:
            gone.sendall(b"GET /search?q=b HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while "refcolbert_requests_waiting 1.0" not in client.get("/metrics").body.decode():
                time.sleep(0.01)
        while "refcolbert_requests_waiting 0.0" not in client.get("/metrics").body.decode():
            time.sleep(0.01)  # until it has left the queue: the count of running ones falls before that
        slow.free.set()
        assert first.result().status == 200
        assert client.get("/search?q=c").status == 200
        assert slow.begun.acquire(timeout=1)
        assert not slow.begun.acquire(timeout=0.2)  # twice in all: the second of three was not searched for


def test_an_idle_connection_is_closed(folder):
    """A connection that was used is closed after it was idle for too long."""
    with running(folder, limits={"idle_seconds": 0.3}) as client, client.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer, closed = received(connection)
        assert (statuses(answer), closed) == ([200], True)


def test_a_client_that_does_not_read_is_let_go(folder):
    """A connection is closed when the client does not read its answers."""
    with running(folder, limits={"answer_seconds": 3, "drain_seconds": 1}) as client:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect((client.host, client.port))
            body = json.dumps({"texts": ["parse a date from a string, " * 20] * 16}).encode()
            connection.sendall((post_head("/encode", len(body)) + body) * 16)  # far more than a kernel keeps for us
            deadline = time.monotonic() + 30
            state = client.server.server_state
            while (not state.total_requests or state.connections) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert state.total_requests > 0
            assert not state.connections
            assert statuses(received(connection)[0])[0] == 200
        assert client.get("/health").status == 200


def test_connections_are_bounded(folder):
    """One connection too many is closed; when another has ended there is room again."""
    with running(folder, limits={"connections": 3}) as client:
        open_ones = [client.connect() for _ in range(3)]
        for one in open_ones:
            one.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert statuses(one.recv(4096)) == [200]
        assert client.raw(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") == (b"", True)
        for one in open_ones:
            one.close()
        deadline = time.monotonic() + 10
        while client.server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.01)
        assert client.get("/health").status == 200

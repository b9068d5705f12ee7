"""Malformed and malicious requests: each gets an error or a closed connection, in time, and no traceback.

After every one the service answers an honest request.
"""

import json
import logging
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from servers import make_index, post_head, received, running, statuses

SOON, LATER = 0.6, 5.0  # seconds: for what is never finished, and for large requests on a busy machine
OK = json.dumps({"query": "a date"}).encode()
HOST = b"Host: localhost\r\n"
JSON, CHUNKED = b"Content-Type: application/json", b"Transfer-Encoding: chunked"
GET = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"


def post(body, path="/search"):
    """A POST of these bytes as JSON."""
    return post_head(path, len(body)) + body


def head(*lines):
    """A request from its lines."""
    return b"\r\n".join(lines) + b"\r\n\r\n"


def ask(line, *headers):
    """A request to this host."""
    return head(line + b" HTTP/1.1", b"Host: localhost", *headers)


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    """An index of three documents."""
    return make_index(tmp_path_factory.mktemp("raw") / "index", encoder)


@pytest.fixture(scope="module")
def client(folder):
    """A client of a service that soon closes an idle connection."""
    with running(folder, limits={"read_seconds": LATER, "idle_seconds": SOON}) as found:
        yield found


@pytest.fixture(scope="module")
def hasty(folder):
    """A client of one that waits for a request only shortly too."""
    with running(folder, limits={"read_seconds": SOON, "idle_seconds": SOON}) as found:
        yield found


@pytest.fixture(autouse=True)
def it_is_still_well(request, caplog):
    """After each attack an honest request is answered, and nothing failed inside."""
    with caplog.at_level(logging.WARNING):
        yield
    for name in {"client", "hasty"} & set(request.fixturenames):
        assert request.getfixturevalue(name).post("/search", {"query": "a date"}).status == 200
    assert not [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]


# name -> the bytes, the statuses that come back
REFUSED = {
    # heads
    "no request": (b"\x00\x01\x02\x03\r\n\r\n", [400]),
    "tls": (bytes.fromhex("16030100c8010000c40303") + b"\0" * 100 + b"\r\n\r\n", [400]),
    "http 0.9": (b"GET /health\r\n\r\n", [400]),
    "http 2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400]),
    "http 3.0": (head(b"GET /health HTTP/3.0", b"Host: localhost"), [400]),
    "no host": (b"GET /health HTTP/1.1\r\n\r\n", [400]),
    "two hosts": (ask(b"GET /health", b"Host: evil.example"), [400]),
    "another host": (head(b"GET /info HTTP/1.1", b"Host: evil.example"), [400]),
    "a host with NUL": (head(b"GET /info HTTP/1.1", b"Host: local\0host"), [400]),
    "NUL in the path": (ask(b"GET /hea\0lth"), [400]),
    "NUL in the path, escaped": (ask(b"GET /hea%00lth"), [404]),
    "a path of other bytes": (ask(b"GET /\xff\xfe"), [400]),
    "a path of other bytes, escaped": (ask(b"GET /%ff%fe"), [404]),
    "no path": (ask(b"GET "), [400]),
    "a space in the path": (ask(b"GET /hea lth"), [400]),
    "an asterisk": (ask(b"OPTIONS *"), [404]),
    "an absolute path": (ask(b"GET http://localhost/health"), [404]),
    "an absolute path elsewhere": (ask(b"GET http://evil.example/"), [404]),
    "connect": (ask(b"CONNECT evil.example:80"), [404]),
    "two slashes": (ask(b"GET //health"), [404]),
    "a slash behind": (ask(b"GET /health/"), [404]),
    "a way out": (ask(b"GET /static/../../service/app.py"), [404]),
    "a way out, escaped": (ask(b"GET /static/%2e%2e/%2e%2e/etc/passwd"), [404]),
    "a way out, escaped twice": (ask(b"GET /static/%252e%252e/passwd"), [404]),
    "a way out of another system": (ask(b"GET /static/..\\..\\x"), [404]),
    "a long path": (ask(b"GET /" + b"x" * 70_000), [431]),
    "a long header": (ask(b"GET /health", b"X: " + b"x" * 70_000), [431]),
    "12,000 headers": (ask(b"GET /health", *[b"X: y"] * 12_000), [431]),
    "an endless head": (b"GET /health HTTP/1.1\r\n" + b"X: y\r\n" * 50_000, [431]),
    "a header without a colon": (ask(b"GET /health", b"nothing"), [400]),
    "a space before the colon": (ask(b"GET /health", b"X : y"), [400]),
    "a header with a bare CR": (ask(b"GET /health", b"X: a\rb"), [400]),
    "no method": (ask(b" /health"), [400]),
    "another method": (ask(b"BREW /search"), [405]),
    "a long method": (ask(b"G" * 5000 + b" /search"), [405]),
    "trace": (ask(b"TRACE /", b"Cookie: secret"), [405]),
    # lengths
    "no length": (ask(b"POST /search", JSON), [411]),
    "a negative length": (post_head("/search", -1), [400]),
    "a length in words": (post_head("/search", "ten"), [400]),
    "a length in hexadecimals": (post_head("/search", "0x10"), [400]),
    "a length with a sign": (post_head("/search", "+5") + b"12345", [400]),
    "a fraction of a length": (post_head("/search", "5.0") + b"12345", [400]),
    "a length of other digits": (post_head("/search", "\u0665").replace(b"?", b""), [400]),
    "a huge length": (post_head("/search", 10**18), [413]),
    "a length past all numbers": (post_head("/search", "9" * 5000), [400]),
    "two lengths": (ask(b"POST /search", b"Content-Length: 5", b"Content-Length: 6"), [400]),
    "two lengths in one": (ask(b"POST /search", b"Content-Length: 5, 6"), [400]),
    "chunks": (ask(b"POST /search", JSON, CHUNKED) + b"5\r\nabcde\r\n0\r\n\r\n", [501]),
    "chunks and a length": (ask(b"POST /search", JSON, b"Content-Length: 4", CHUNKED) + b"0\r\n\r\n" + GET, [501]),
    "chunks, disguised": (ask(b"POST /search", b"Transfer-Encoding: xchunked"), [501]),
    "chunks twice": (ask(b"POST /search", b"Transfer-Encoding: chunked, chunked"), [501]),
    "chunks in HTTP 1.0": (head(b"POST /search HTTP/1.0", b"Host: localhost", JSON, CHUNKED), [501]),
    "a body with GET": (ask(b"GET /search?q=a", b"Content-Length: 2") + b"{}", [413]),
    # bodies
    "an empty body": (post(b""), [400]),
    "no JSON": (post(b"query=a"), [400]),
    "half of a JSON": (post(OK[:-1]), [400]),
    "two JSONs": (post(OK + OK), [400]),
    "a mark of byte order": (post(b"\xef\xbb\xbf" + OK), [400]),
    "UTF-16": (post(OK.decode().encode("utf-16")), [400]),
    "other bytes": (post(b'{"query": "\xff\xfe"}'), [400]),
    "an overlong encoding": (post(b'{"query": "\xc0\xaf"}'), [400]),
    "half of a pair": (post(b'{"query": "\\ud800"}'), [400]),
    "half of a pair in a filter": (post(b'{"query": "a", "where": {"\\udfff": 1}}'), [400]),
    "half of a pair as an id": (post(b'{"query": "a", "ids": ["\\ud800"]}'), [400]),
    "NUL": (post(b'{"query": "\0"}'), [400]),
    "NUL in a filter": (post(b'{"query": "a", "where": {"a": "\\u0000"}}'), [400]),
    "a repeated name": (post(b'{"query": "a", "query": "b"}'), [400]),
    "NaN": (post(b'{"query": "a", "k": NaN}'), [400]),
    "infinity": (post(b'{"query": "a", "where": {"a": -Infinity}}'), [400]),
    "too large a number": (post(b'{"query": "a", "where": {"a": 1e400}}'), [400]),
    "a number of 5,000 digits": (post(b'{"query": "a", "k": ' + b"9" * 5000 + b"}"), [400]),
    "NaN in vectors": (post(b'{"query": [[NaN, 1]]}'), [400]),
    "large vectors": (post(b'{"query": [[' + b",".join([b"1e300"] * 16) + b"]]}"), [400]),
    "deep lists": (post(b'{"query": "a", "where": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), [400]),
    "deep objects": (post(b'{"query": "a", "where": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}"), [400]),
    "a deep filter": (post(b'{"query": "a", "where": ' + b'{"$not":' * 60 + b"{}" + b"}" * 60 + b"}"), [400]),
    "a wide filter": (post(json.dumps({"query": "a", "where": {f"f{i}": i for i in range(5000)}}).encode()), [400]),
    "SQL in a filter": (post(b'{"query": "a", "where": {"a\'); DROP TABLE documents; --": 1}}'), [200]),
    "brackets in a text": (post(json.dumps({"query": '[{"' * 500}).encode()), [200]),
    "a query of 1e6 characters": (post(json.dumps({"query": "x" * 1_000_000}).encode()), [400]),
    "too long a body": (post(json.dumps({"query": "x" * 1_100_000}).encode()), [413]),
    "1e5 unknown fields": (post(json.dumps({f"f{i}": 1 for i in range(50_000)}).encode()), [400]),
    "another type": (ask(b"POST /search", b"Content-Type: text/plain", b"Content-Length: %d" % len(OK)) + OK, [415]),
    "two types": (post(OK).replace(b"\r\nContent-Length", b"\r\nContent-Type: text/html\r\nContent-Length"), [415]),
    "a compressed body": (
        post(OK).replace(b"\r\nContent-Length", b"\r\nContent-Encoding: gzip\r\nContent-Length").replace(OK, OK[::-1]),
        [400],
    ),
    # what comes ahead and behind
    "three at once": (GET * 3, [200, 200, 200]),
    "a bad one behind a good one": (GET + b"nonsense\r\n\r\n", [200, 400]),
    "a good one behind a refused one": (post(b"{}") + GET, [400, 200]),
    "a good one behind an unread body": (post(OK, "/nowhere") + GET, [404, 200]),
    "empty lines before": (b"\r\n\r\n" + GET, [400]),
    "an upgrade to websockets": (ask(b"GET /search?q=a", b"Connection: Upgrade", b"Upgrade: websocket"), [200]),
    "an upgrade to HTTP 2": (ask(b"GET /search?q=a", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"), [200]),
    "something unexpected": (ask(b"GET /health", b"Expect: 200-ok"), [200]),
    "a forged line in a header": (ask(b"GET /health", b"X-Request-ID: a%0d%0aSet-Cookie: b"), [200]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(client, name):
    """Each gets these statuses; errors have our JSON and show nothing of the inside."""
    sent, expected = REFUSED[name]
    answer, closed = client.raw(sent)
    assert statuses(answer) == expected
    assert b"Traceback" not in answer
    assert b"secret" not in answer
    assert b"Set-Cookie" not in answer
    assert answer.count(b'"error"') == len([status for status in expected if status != 200])
    assert closed  # at the latest when the time of an idle connection is over


# ---- what is never finished


SLOW = {
    "nothing at all": [b""],
    "half of a request line": [b"GET /hea"],
    "half of a head": [b"GET /health HTTP/1.1\r\nHost: local"],
    "a head without its end": [b"GET /health HTTP/1.1\r\n" + HOST],
    "a head byte by byte": [bytes([byte]) for byte in b"GET /health HTTP/1.1\r\nX: " + b"x" * 60],
    "a head without its end, behind a whole one": [GET, b"GET /hea", b"l"],
    "no body": [post_head("/search", 50)],
    "half of a body": [post(OK)[:-5]],
    "a body byte by byte": [post_head("/search", 60), *[b" "] * 60],
    "half of a body, behind a whole request": [GET + post(OK)[:-5]],
    "a refused body byte by byte": [post_head("/nowhere", 60), *[b" "] * 60],
}


@pytest.mark.parametrize("name", SLOW)
def test_a_slow_request_is_let_go(hasty, name):
    """A client that does not finish a request in time gets 408 or is disconnected, even if it sends byte by byte."""
    pieces = SLOW[name]
    with hasty.connect() as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:
                break
            time.sleep(0.05 if len(pieces) > 1 else 0)
        answer, closed = received(connection)
    assert closed
    assert set(statuses(answer)) <= {200, 404, 408}


@pytest.mark.parametrize("piece", [b"", GET[:20], post_head("/search", 100), post(OK)])
def test_a_connection_that_is_reset_is_forgotten(client, piece):
    """A client that resets the connection at any point leaves nothing behind."""
    for _ in range(20):
        connection = client.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(piece)
        connection.close()
    assert client.get("/health").status == 200  # it was accepted after all of them
    deadline = time.monotonic() + 10
    while client.server.server_state.connections and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not client.server.server_state.connections


def test_many_slow_clients_keep_nobody_out(hasty):
    """While two hundred connections draw out their heads, an honest client is answered."""
    slow = [hasty.connect() for _ in range(200)]
    for connection in slow:
        connection.sendall(b"GET /search?q=a HTTP/1.1\r\nX: ")
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: hasty.post("/search", {"query": "a date"}), range(20)))
    assert [reply.status for reply in replies] == [200] * 20
    for connection in slow:
        answer, closed = received(connection)
        assert (statuses(answer), closed) == ([408], True)
        connection.close()

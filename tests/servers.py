"""A real service on a real socket, and clients for it: one that speaks HTTP, one that sends any bytes."""

import json
import re
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from refcolbert import Index
from refcolbert.service import Live, ServiceLimits
from refcolbert.service.server import bind

DOCUMENTS = [
    {"id": "date", "text": "Dates: parse a date from a string", "metadata": {"year": 2019}},
    {"id": "file", "text": "read the file line by line", "metadata": {"year": 2021}},
    {"id": "wing", "text": "the boundary layer of a flow over a wing", "metadata": {"year": 2023, "lang": "en"}},
]


@dataclass(frozen=True)
class Reply:
    """One response."""

    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def code(self):
        """The code of an error."""
        return self.json["error"]["code"]


class Client:
    """Asks a service at an address."""

    def __init__(self, url, headers=None) -> None:
        self.host, self.port = urlsplit(url).hostname, urlsplit(url).port
        self.headers = headers or {}

    def ask(self, method, target, body=None, headers=None):
        """One request on a connection of its own; a body that is not bytes is sent as JSON."""
        connection = HTTPConnection(self.host, self.port, timeout=30)
        try:
            sent = {**self.headers, **(headers or {})}
            if body is not None and not isinstance(body, bytes):
                body = json.dumps(body).encode()
            if body is not None:
                sent.setdefault("Content-Type", "application/json")
            connection.request(method, target, body, sent)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def post(self, target, body, **headers):
        """POST JSON."""
        return self.ask("POST", target, body, headers)

    def get(self, target, **headers):
        """GET."""
        return self.ask("GET", target, headers=headers)

    def connect(self):
        """A socket."""
        return socket.create_connection((self.host, self.port), timeout=10)

    def raw(self, *pieces, pause=0.0):
        """Send bytes piece by piece; returns all received bytes, and whether the service closed the connection."""
        with self.connect() as connection:
            try:
                for piece in pieces:
                    connection.sendall(piece)
                    time.sleep(pause)
            except OSError:  # it closed while we sent
                pass
            return received(connection)


def received(connection, silence=20.0):
    """All bytes until the other side closes, and False if it was silent for too long instead."""
    connection.settimeout(silence)
    found = b""
    try:
        while piece := connection.recv(1 << 16):
            found += piece
    except TimeoutError:
        return found, False
    except ConnectionError:
        pass
    return found, True


def post_head(path, length):
    """The head of a POST of JSON."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    return head.encode()


def statuses(answer):
    """The status of each response."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]


@contextmanager
def running(path, *, limits=None, headers=None, port=0, **options):
    """A service of the index at `path`, or of a router, in a thread, and a client; it has ended when the block has."""
    live = Live(path) if isinstance(path, str | Path) else path
    bound = bind(live, port=port, limits=ServiceLimits(**(limits or {})), **options)
    thread = threading.Thread(target=bound.run)
    thread.start()
    client = Client(bound.url, headers)
    try:
        while not bound.server.started and thread.is_alive():
            time.sleep(0.01)
        client.live, client.url = live, bound.url.rstrip("/")
        client.server = bound.server
        yield client
    finally:
        bound.server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def make_index(path, encoder, documents=DOCUMENTS):
    """A small index on disk."""
    with Index.create(path, encoder) as index:
        index.add(documents)
    return path

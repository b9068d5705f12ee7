"""uvicorn's HTTP/1.1 protocol with the time limits that it lacks.

uvicorn has a limit only on the idle time after an answer. It has no setting, and gives ASGI middleware no chance, for
these cases, in which a client would keep a connection for ever:

- a new connection that sends nothing, or a request head that never ends: the application is called after the head;
- a body that never ends, after the application has refused the request without reading it;
- a client that does not read its answer: the answer waits in the transport, after the application has returned.

It also closes no connection above a number of them, and answers a malformed request with plain text.
"""

import asyncio
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .http_errors import CODES, error_body
from .limits import ServiceLimits

__all__ = ["TimedProtocol", "protocol_for"]

ARRIVING = (h11.IDLE, h11.SEND_BODY)  # the client's state while its request is not complete
UNANSWERED = (h11.IDLE, h11.SEND_RESPONSE)  # our state before an answer has begun
HINTS = {431: "head_too_large", 501: "not_implemented"}  # h11's statuses other than 400


class TimedProtocol(H11Protocol):
    """One connection. A head, a body and the reading of an answer each have a limited time."""

    limits: ServiceLimits
    _reading: asyncio.TimerHandle | None = None
    _writing: asyncio.TimerHandle | None = None
    _timed_state: Any = None  # the client's state that `_reading` limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Accept a connection, and limit the time until its first request."""
        super().connection_made(transport)
        # pause_writing is then called for every byte that the client has not taken.
        transport.set_write_buffer_limits(high=0)
        if len(self.connections) > self.limits.connections:
            transport.abort()
        else:
            self._limit_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop both timers."""
        _cancel(self._reading)
        _cancel(self._writing)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take some bytes of a request."""
        super().data_received(data)
        self._limit_reading()

    def on_response_complete(self) -> None:
        """Begin with a request that was sent before the answer to the one before it."""
        super().on_response_complete()
        # An idle connection has uvicorn's own limit.
        if self.conn.their_state is not h11.IDLE:
            self._unset_keepalive_if_required()
            self._limit_reading()

    def pause_writing(self) -> None:
        """Limit the time until the client has taken all that was written."""
        super().pause_writing()
        self._writing = self.loop.call_later(self.limits.answer_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken everything."""
        _cancel(self._writing)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer a malformed request. uvicorn calls this in its `except`: h11's error has the better status."""
        self._refuse(HINTS.get(getattr(sys.exc_info()[1], "error_status_hint", 400), "invalid_request"))

    def _limit_reading(self) -> None:
        """Start the timer anew when the client goes on to the head or the body of a request."""
        state = self.conn.their_state
        if state is not self._timed_state:
            self._timed_state = state
            _cancel(self._reading)
            if state in ARRIVING:
                self._reading = self.loop.call_later(self.limits.read_seconds, self._too_slow)

    def _too_slow(self) -> None:
        begun = self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]
        if begun and not self.transport.is_closing():
            self._refuse("too_slow")
        self.transport.close()

    def _refuse(self, code: str) -> None:
        """Send an error, unless an answer has begun, and close."""
        if self.conn.our_state in UNANSWERED:
            status, message = CODES[code]
            body = error_body(code, message)
            headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
            response: Any = h11.Response(status_code=status, headers=list(headers.items()))
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def protocol_for(limits: ServiceLimits) -> type[TimedProtocol]:
    """The protocol with these limits: uvicorn takes a class, and creates one object per connection."""
    return type("Protocol", (TimedProtocol,), {"limits": limits})


def _cancel(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()

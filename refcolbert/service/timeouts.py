"""HTTP/1.1 by uvicorn and h11, with a clock on everything that a client may draw out.

uvicorn alone waits for ever for the rest of a head or a body, and for a client that does not read its answer.
"""

import asyncio
import sys
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from .http_errors import CODES, error_body
from .limits import ServiceLimits

__all__ = ["ClockedProtocol", "protocol_for"]

ARRIVING = (h11.IDLE, h11.SEND_BODY)  # states of a client whose request is not here whole
SILENT = (h11.IDLE, h11.SEND_RESPONSE)  # states in which we have not begun an answer
HINTS = {431: "head_too_large", 501: "not_implemented"}


class ClockedProtocol(H11Protocol):
    """One connection. A request must arrive whole in time, and an answer must be taken in time."""

    limits = ServiceLimits()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn does so too
        """Begin; the first request is on the clock at once."""
        super().connection_made(transport)
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._awaited: Any = None  # the client's state for which the clock of reading runs
        transport.set_write_buffer_limits(high=0)  # so that every byte that is not taken stops the clock's wait
        if len(self.connections) > self.limits.connections:
            transport.abort()
        else:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; no clock runs on."""
        self._stop_reading()
        self._stop_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take some bytes. The clock of a request that is not whole runs on from its first byte."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Go on with what was sent ahead: the clock of idle connections is not that of a request."""
        super().on_response_complete()
        if self.conn.their_state is not h11.IDLE:
            self._unset_keepalive_if_required()
            self._watch()

    def pause_writing(self) -> None:
        """Some of the answer was not taken at once: give it its time."""
        super().pause_writing()
        self._writing = self.loop.call_later(self.limits.answer_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """All was taken."""
        self._stop_writing()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request. Called by uvicorn while it handles h11's error, which has the better status."""
        hint = getattr(sys.exc_info()[1], "error_status_hint", 400)
        self._refuse(HINTS.get(hint, "invalid_request"))

    def _watch(self) -> None:
        """Have a clock run while something is to arrive: one for a head, one for a body."""
        state = self.conn.their_state
        if self._reading is not None and (self.transport.is_closing() or state is not self._awaited):
            self._stop_reading()
        if self._reading is None and state in ARRIVING and not self.transport.is_closing():
            self._awaited = state
            self._reading = self.loop.call_later(self.limits.read_seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._reading = None
        if self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self.transport.close()  # nothing was begun
        elif not self.transport.is_closing():
            self._refuse("too_slow")

    def _refuse(self, code: str) -> None:
        """Say no, unless an answer has begun, and close."""
        if self.conn.our_state in SILENT:
            status, message = CODES[code]
            body = error_body(code, message)
            headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
            response: Any = h11.Response(status_code=status, headers=list(headers.items()))
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _stop_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None


def protocol_for(limits: ServiceLimits) -> type[ClockedProtocol]:
    """The protocol with these limits: uvicorn makes one object a connection."""
    return type("Protocol", (ClockedProtocol,), {"limits": limits})

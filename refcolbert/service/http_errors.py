"""How the service says no: a closed table of codes, one shape for all, and which error of the library is which."""

import json

from ..errors import EncoderMismatch, InvalidInput, RefColbertError, UnknownId

__all__ = ["CODES", "Refusal", "error_body", "refusal_of"]

# code -> (status, what it means)
CODES = {
    "invalid_input": (400, "A field, a parameter or the body is not what it must be."),
    "invalid_request": (400, "The request is no HTTP request that is understood."),
    "wrong_host": (400, "The Host header names another server."),
    "unauthorized": (401, "The bearer token is missing or wrong."),
    "not_found": (404, "There is nothing at this path."),
    "unknown_id": (404, "The index holds no such document."),
    "method_not_allowed": (405, "This path does not take this method."),
    "too_slow": (408, "The request did not arrive whole in time."),
    "length_required": (411, "A body must come with its Content-Length."),
    "too_large": (413, "The body is longer than the service takes."),
    "not_json": (415, "A body must be application/json."),
    "head_too_large": (431, "The request line and the headers are longer than the service takes."),
    "internal": (500, "The service failed; its log has the request id."),
    "not_implemented": (501, "Transfer-Encoding is not taken; send a Content-Length."),
    "busy": (503, "Too many requests wait; try again later."),
    "timeout": (503, "The answer took too long."),
    "not_ready": (503, "The service is ending."),
}

# After these nobody knows where the next request begins.
UNSURE = frozenset({"invalid_request", "not_implemented", "internal"})


class Refusal(Exception):  # noqa: N818 - an answer, not an accident
    """A request that is not answered: a code of the table, a message for the client, headers."""

    def __init__(self, code: str, message: str | None = None, headers: dict[str, str] | None = None) -> None:
        self.status, meaning = CODES[code]
        self.code, self.message, self.headers = code, message or meaning, headers or {}
        super().__init__(self.message)

    @property
    def closes(self) -> bool:
        """Whether the connection ends with this answer; else the server reads a body to its end and drops it."""
        return self.code in UNSURE


def error_body(code: str, message: str, request_id: str | None = None) -> bytes:
    """The JSON of an error."""
    error = {"code": code, "message": message, **({"request_id": request_id} if request_id else {})}
    return json.dumps({"error": error}, ensure_ascii=False).encode(errors="replace")


def refusal_of(error: RefColbertError) -> Refusal:
    """What a client is told about an error of the library: the message where it is about what was asked."""
    if isinstance(error, UnknownId):
        return Refusal("unknown_id", str(error))
    if isinstance(error, InvalidInput | EncoderMismatch):
        return Refusal("invalid_input", str(error))
    return Refusal("internal")

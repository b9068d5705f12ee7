"""Error answers: the closed table of codes, their JSON, and the code of each error that the library raises."""

import json

from ..errors import (
    DuplicateId,
    EncoderMismatch,
    IndexLocked,
    IndexWriteError,
    InvalidInput,
    MissingPart,
    RefColbertError,
    UnknownId,
)

__all__ = ["CODES", "Refusal", "error_body", "refusal_of"]

# code -> (status, meaning)
CODES = {
    "invalid_input": (400, "A field, a parameter or the body has a value that is not allowed."),
    "invalid_request": (400, "This is not a valid HTTP/1.1 request."),
    "wrong_host": (400, "The Host header names another server; start the service with --allow-host to allow it."),
    "unauthorized": (401, "The bearer token is missing or wrong."),
    "not_found": (404, "Nothing is served at this path."),
    "unknown_id": (404, "The index holds no document with this id."),
    "method_not_allowed": (405, "This path does not take this method; the header Allow lists those that it takes."),
    "too_slow": (408, "The request did not arrive completely in time."),
    "duplicate_id": (409, "Two documents of one request have the same id."),
    "other_settings": (409, "The index has another version, model or kind than the router expects."),
    "length_required": (411, "A request with a body needs a Content-Length."),
    "too_large": (413, "The body is longer than the service allows."),
    "not_json": (415, "The Content-Type of a body must be application/json."),
    "head_too_large": (431, "The request line and the headers are longer than the service allows."),
    "internal": (500, "The service failed; its log has the details beside the request id."),
    "not_implemented": (501, "Transfer-Encoding is not supported; send a Content-Length."),
    "busy": (503, "Too many requests are waiting; try again later."),
    "timeout": (503, "The answer took too long."),
    "incomplete": (503, "Parts of the collection did not answer the router."),
    "locked": (503, "Another process is writing the index; try again later."),
    "not_written": (503, "The change could not be written; the index is as it was, or has all of it."),
    "not_ready": (503, "The service is starting or shutting down."),
}

# After these errors it is unknown where the next request on the connection begins.
CLOSING = frozenset({"invalid_request", "not_implemented", "internal"})


class Refusal(Exception):  # noqa: N818 - an answer to the client, not a failure
    """An error answer: a code of the table, a message for the client, headers."""

    def __init__(self, code: str, message: str | None = None, headers: dict[str, str] | None = None) -> None:
        self.status, meaning = CODES[code]
        self.code, self.message, self.headers = code, message or meaning, headers or {}
        super().__init__(self.message)

    @property
    def closes(self) -> bool:
        """True if the connection ends with this answer; otherwise the server reads the body and drops it."""
        return self.code in CLOSING


def error_body(code: str, message: str, request_id: str | None = None) -> bytes:
    """The JSON of an error."""
    error = {"code": code, "message": message, **({"request_id": request_id} if request_id else {})}
    return json.dumps({"error": error}, ensure_ascii=False).encode(errors="replace")


def refusal_of(error: RefColbertError) -> Refusal:
    """The answer to an error of the library. Its message is shown only if it is about the request."""
    if isinstance(error, UnknownId):
        return Refusal("unknown_id", str(error))
    if isinstance(error, DuplicateId):
        return Refusal("duplicate_id", str(error))
    if isinstance(error, IndexLocked | IndexWriteError):
        # The message names a path of this machine, so it is not shown.
        return Refusal("locked" if isinstance(error, IndexLocked) else "not_written", headers={"retry-after": "1"})
    if isinstance(error, InvalidInput | EncoderMismatch):
        return Refusal("invalid_input", str(error))
    if isinstance(error, MissingPart):
        return Refusal("incomplete", str(error), {"retry-after": "1"})
    return Refusal("internal")

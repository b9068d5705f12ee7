"""What an ONNX file keeps elsewhere, found without any library.

A tensor of an ONNX graph may name another file as the place of its data. ONNX Runtime follows that, older releases to
any path, also when it was handed the graph as bytes; and what lies in another file no content hash covers. So every
tensor of a graph is looked at before ONNX Runtime sees it.

An ONNX file is a protobuf message: fields of (number, kind) and content, whose numbers onnx.proto defines.
"""

from collections.abc import Iterator

__all__ = ["external_tensors"]

# Of each message the fields that lead to tensors. "initializer" is a tensor of the main graph itself.
MESSAGES = {
    "model": {7: "main graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "main graph": {1: "node", 5: "initializer", 15: "sparse"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
NAME, EXTERNAL_DATA, DATA_LOCATION = 8, 13, 14  # of a tensor
LENGTHS = {1: 8, 5: 4}  # of the kinds of fixed length
LONGEST_NUMBER = 10


def external_tensors(model: bytes) -> Iterator[tuple[str, bool]]:
    """(name, whether it is an initializer of the main graph) of each tensor whose data lies outside the file.

    Raises `ValueError` when the bytes are no protobuf message.
    """
    waiting = [("model", memoryview(model))]
    while waiting:
        what, message = waiting.pop()
        if what in MESSAGES:
            inner = MESSAGES[what]
            waiting += [(inner[number], content) for number, content in _fields(message) if number in inner]
            continue
        fields = dict(_fields(message))
        if EXTERNAL_DATA in fields or any(fields.get(DATA_LOCATION, b"")):
            yield bytes(fields.get(NAME, b"")).decode(errors="replace"), what == "initializer"


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(number, content) of each field."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        if key >= 2**32:  # some readers would drop the high bits
            raise ValueError("a field whose number is too large")
        kind = key & 7
        if kind == 0:
            _, end = _number(message, at)
        elif kind == 2:
            length, at = _number(message, at)
            end = at + length
        elif kind in LENGTHS:
            end = at + LENGTHS[kind]
        else:
            raise ValueError(f"a field of kind {kind}")
        if end > len(message):
            raise ValueError("a field that ends outside its message")
        yield key >> 3, message[at:end]
        at = end


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """(a number of 7 bits a byte, low ones first, and where it ends)."""
    value = 0
    for i, byte in enumerate(message[at : at + LONGEST_NUMBER]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    raise ValueError("a number without an end")

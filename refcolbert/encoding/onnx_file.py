"""What an ONNX file keeps elsewhere, found without any library.

A tensor of an ONNX graph may name another file as the place of its data. ONNX Runtime follows that, older releases to
any path, also when it was handed the graph as bytes; and what lies in another file no content hash covers. So every
tensor of a graph is looked at before ONNX Runtime sees it.

The multiplications of a graph are those of its matrix products: with a weight [a, b] every token takes a * b, and two
products of what tokens say to each other (attention) take its width for every pair of tokens.

An ONNX file is a protobuf message: fields of (number, kind) and content, whose numbers onnx.proto defines.
"""

from collections.abc import Iterable, Iterator
from math import prod

__all__ = ["external_tensors", "matrix_products"]

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
DIMS, INT64_DATA, RAW_DATA = 1, 7, 9  # of a tensor
GRAPH, NODE, INITIALIZER = 7, 1, 5  # of the model, of its graph
INPUT, OUTPUT, OPERATOR, ATTRIBUTE, TENSOR = 1, 2, 4, 5, 5  # of a node, of an attribute
PRODUCTS = {"MatMul", "Gemm", "MatMulInteger"}
# What comes out of these is as constant as their first input.
PASSING = {"Cast", "DequantizeLinear", "Expand", "Identity", "Mul", "Reshape", "Transpose", "Unsqueeze"}
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


def matrix_products(model: bytes) -> tuple[int, int]:
    """(a, b): a text of n tokens takes n a + n^2 b multiplications in the matrix products of the main graph.

    A product of two activations is taken for attention: its width is the rows of the next weight, that of the output
    projection. What is not a product of matrices is not counted, nor products with a vector.
    Raises `ValueError` when the bytes are no protobuf message.
    """
    graphs = [part for number, part in _fields(memoryview(model)) if number == GRAPH]
    parts = [part for graph in graphs[-1:] for part in _fields(graph)]
    known = dict(_tensor(content) for number, content in parts if number == INITIALIZER)
    factors = [_factor(*_node(content), known) for number, content in parts if number == NODE]
    by_token = by_pair = waiting = 0
    for weight in (factor for factor in factors if factor is not None):
        if weight:
            by_token += prod(weight)
            by_pair, waiting = by_pair + waiting * weight[0], 0
        else:
            waiting += 1
    return by_token, by_pair


Numbers = tuple[int, ...]
Tensor = tuple[Numbers, Numbers]  # shape; and the numbers in it where they may be another shape


def _factor(
    operator: str, inputs: list[bytes], outputs: list[bytes], held: Tensor | None, known: dict[bytes, Tensor]
) -> Numbers | None:
    """What a product multiplies by: a weight [a, b], or () for activations; None where nothing is counted.

    `known` are the constants; it learns which outputs are.
    """
    constants = [known[name] for name in inputs if name in known]
    if operator in PRODUCTS:
        return next((shape for shape, _ in constants if len(shape) == 2), None if constants else ())
    if operator == "Constant" and held is not None:
        known[outputs[0]] = held
    elif operator in PASSING and inputs[0] in known:
        shape, _ = known[inputs[0]]
        new = {"Transpose": shape[::-1], "Reshape": constants[-1][1], "Expand": (), "Unsqueeze": ()}
        known[outputs[0]] = new.get(operator, shape), ()
    return None


def _node(message: memoryview) -> tuple[str, list[bytes], list[bytes], Tensor | None]:
    """(operator, names of its inputs, names of its outputs, a tensor that it holds)."""
    fields = list(_fields(message))
    operator = b"".join(bytes(content) for number, content in fields if number == OPERATOR)
    inputs = [bytes(content) for number, content in fields if number == INPUT]
    outputs = [bytes(content) for number, content in fields if number == OUTPUT]
    attributes = [content for number, content in fields if number == ATTRIBUTE]
    held = [_tensor(content)[1] for a in attributes for number, content in _fields(a) if number == TENSOR]
    return operator.decode(errors="replace"), inputs, outputs, held[0] if held else None


def _tensor(message: memoryview) -> tuple[bytes, Tensor]:
    """(name, (shape, numbers)) of a tensor."""
    fields = list(_fields(message))
    name = b"".join(bytes(content) for number, content in fields if number == NAME)
    shape, listed = (tuple(_numbers(content for n, content in fields if n == which)) for which in (DIMS, INT64_DATA))
    raw = b"".join(bytes(content) for number, content in fields if number == RAW_DATA and len(shape) == 1)
    if len(raw) == 8 * sum(shape) and not listed:
        listed = tuple(int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8))
    return name, (shape, listed)


def _numbers(contents: Iterable[memoryview]) -> Iterator[int]:
    """Numbers that stand one in a field, or all in one."""
    for content in contents:
        at = 0
        while at < len(content):
            value, at = _number(content, at)
            yield value


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

"""Two facts about an ONNX file, read without the onnx package: its external tensors and its matrix products.

A tensor of an ONNX graph may name another file as the place of its data. ONNX Runtime reads that file, in older
releases at any path, even if the graph was passed as bytes. A content hash of model.onnx does not cover that file. So
`external_tensors` lists such tensors before ONNX Runtime sees the graph.

`matrix_products` counts the multiplications of one text. A product with a weight [a, b] takes a * b per token.
Attention has two products of tokens with tokens. Each takes the width of attention per pair of tokens.

An ONNX file is a protobuf message: a sequence of fields, each with a number and a kind. onnx.proto defines the numbers.
"""

from collections.abc import Iterable, Iterator
from math import prod

__all__ = ["external_tensors", "matrix_products"]

# Message -> the fields that lead to tensors. An "initializer" is a tensor of the main graph itself.
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
# The output of these operators is a constant if their first input is one.
PASSING = {"Cast", "DequantizeLinear", "Expand", "Identity", "Mul", "Reshape", "Transpose", "Unsqueeze"}
LENGTHS = {1: 8, 5: 4}  # bytes of the kinds of fixed length
LONGEST_NUMBER = 10  # bytes of a 64-bit number, 7 bits per byte


def external_tensors(model: bytes) -> Iterator[tuple[str, bool]]:
    """Yield (name, True for an initializer of the main graph) for each tensor with data outside the file.

    Raises `ValueError` if the bytes are not a protobuf message.
    """
    # A list instead of recursion: a hostile graph may be nested deeper than Python's stack.
    waiting = [("model", memoryview(model))]
    while waiting:
        kind, message = waiting.pop()
        if kind in MESSAGES:
            inner = MESSAGES[kind]
            waiting += [(inner[number], content) for number, content in _fields(message) if number in inner]
            continue
        fields = dict(_fields(message))
        # Either sign is enough: entries of external data, or a location other than 0, the file itself.
        if EXTERNAL_DATA in fields or any(fields.get(DATA_LOCATION, b"")):
            yield bytes(fields.get(NAME, b"")).decode(errors="replace"), kind == "initializer"


def matrix_products(model: bytes) -> tuple[int, int]:
    """Return (a, b): a text of n tokens takes n a + n^2 b multiplications in the matrix products of the main graph.

    A product of two activations counts as attention. Its width is the number of rows of the next weight, the output
    projection. Products with a vector and other operators are not counted.
    Raises `ValueError` if the bytes are not a protobuf message.
    """
    graphs = [part for number, part in _fields(memoryview(model)) if number == GRAPH]
    parts = [part for graph in graphs[-1:] for part in _fields(graph)]
    known = dict(_tensor(content) for number, content in parts if number == INITIALIZER)
    factors = [_factor(*_node(content), known) for number, content in parts if number == NODE]
    per_token = per_pair = n_attention = 0
    for weight in (factor for factor in factors if factor is not None):
        if weight:
            per_token += prod(weight)
            # The products of attention since the last weight. Only this weight tells their width.
            per_pair, n_attention = per_pair + n_attention * weight[0], 0
        else:
            n_attention += 1
    return per_token, per_pair


Numbers = tuple[int, ...]
Tensor = tuple[Numbers, Numbers]  # its shape, and its values where they could be the new shape of a Reshape


def _factor(
    operator: str, inputs: list[bytes], outputs: list[bytes], value: Tensor | None, known: dict[bytes, Tensor]
) -> Numbers | None:
    """Return the shape [a, b] of the weight that a node multiplies by, () for activations, None for other nodes.

    `known` holds the constants by name. A node whose output is a constant adds it there.
    """
    constants = [known[name] for name in inputs if name in known]
    if operator in PRODUCTS:
        return next((shape for shape, _ in constants if len(shape) == 2), None if constants else ())
    if operator == "Constant" and value is not None:
        known[outputs[0]] = value
    elif operator in PASSING and inputs[0] in known:
        shape, _ = known[inputs[0]]
        new = {"Transpose": shape[::-1], "Reshape": constants[-1][1], "Expand": (), "Unsqueeze": ()}
        known[outputs[0]] = new.get(operator, shape), ()
    return None


def _node(message: memoryview) -> tuple[str, list[bytes], list[bytes], Tensor | None]:
    """Return (operator, names of its inputs, names of its outputs, the tensor of a Constant)."""
    fields = list(_fields(message))
    operator = b"".join(bytes(content) for number, content in fields if number == OPERATOR)
    inputs = [bytes(content) for number, content in fields if number == INPUT]
    outputs = [bytes(content) for number, content in fields if number == OUTPUT]
    attributes = [content for number, content in fields if number == ATTRIBUTE]
    tensors = [_tensor(content)[1] for a in attributes for number, content in _fields(a) if number == TENSOR]
    return operator.decode(errors="replace"), inputs, outputs, tensors[0] if tensors else None


def _tensor(message: memoryview) -> tuple[bytes, Tensor]:
    """Return (name, (shape, values)) of a tensor."""
    fields = list(_fields(message))
    name = b"".join(bytes(content) for number, content in fields if number == NAME)
    shape, values = (tuple(_numbers(content for n, content in fields if n == field)) for field in (DIMS, INT64_DATA))
    raw = b"".join(bytes(content) for number, content in fields if number == RAW_DATA and len(shape) == 1)
    if len(raw) == 8 * sum(shape) and not values:
        values = tuple(int.from_bytes(raw[i : i + 8], "little") for i in range(0, len(raw), 8))
    return name, (shape, values)


def _numbers(contents: Iterable[memoryview]) -> Iterator[int]:
    """Yield the numbers of a repeated field, one per field or several packed into one field."""
    for content in contents:
        at = 0
        while at < len(content):
            value, at = _number(content, at)
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (number, content) of each field."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        # Some readers would drop the high bits, and so see another field than this one.
        if key >= 2**32:
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
    """Return (the number at `at`, the place after it): 7 bits per byte, low bits first, the top bit says "more"."""
    value = 0
    for i, byte in enumerate(message[at : at + LONGEST_NUMBER]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    raise ValueError("a number without an end")

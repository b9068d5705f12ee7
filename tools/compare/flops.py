"""FLOPs of one query: a multiplication and an addition each, of the matrix products.

The products of a transformer are counted in its ONNX graph (`refcolbert.encoding.onnx_file.matrix_products`), and by
hand: for each token and layer four products with [hidden, hidden] (query, key, value, output) and two with
[hidden, inner], for each pair of tokens and layer two of width hidden; besides, the products of the head, per token or
once per text.

A cross-encoder's head reads the first token's state alone: products of a matrix with one row a text, which an exported
graph writes as Gemm, where products of all tokens' states are MatMul.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from refcolbert.encoding.onnx_file import matrix_products

__all__ = ["Cost", "by_hand", "cost_of"]


@dataclass(frozen=True, slots=True)
class Cost:
    """A text of n tokens takes n by_token + n^2 by_pair + once multiplications."""

    by_token: int
    by_pair: int
    once: int = 0

    def flops(self, lengths: Iterable[int]) -> int:
        """Of texts of these lengths together."""
        return sum(2 * (n * self.by_token + n * n * self.by_pair + self.once) for n in lengths)


def cost_of(folder: Path) -> Cost:
    """Counted in a folder's model.onnx."""
    model = (folder / "model.onnx").read_bytes()
    by_token, by_pair = matrix_products(model)
    once = _of_one_row(model)
    return Cost(by_token - once, by_pair, once)


def _of_one_row(model: bytes) -> int:
    import onnx

    graph = onnx.load_from_string(model).graph
    sizes = {tensor.name: prod(tensor.dims) for tensor in graph.initializer}
    return sum(sizes[node.input[1]] for node in graph.node if node.op_type == "Gemm")


def by_hand(layers: int, hidden: int, inner: int, *, head: int = 0, once: int = 0) -> Cost:
    """By hand, for a BERT of this shape; `head` multiplications a token and `once` a text come after it."""
    return Cost(layers * (4 * hidden * hidden + 2 * hidden * inner) + head, layers * 2 * hidden, once)

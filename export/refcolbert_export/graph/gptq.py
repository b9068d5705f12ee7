"""Weights rounded to int8 so that what they compute changes least, and not each to its nearest value.

Follows GPTQ (Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers",
section 3): inputs are rounded one after the other, and what each rounding loses is made up by the inputs that follow,
as the second moment of the activations says. The moments come from Python's own docstrings and from texts that repeat
themselves, the gate's own among them: on those small errors grow most. Each of the three kinds weighs the same.
"""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from refcolbert.arrays import Floats
from refcolbert.corpus.stdlib_docstrings import standard_library_docstrings
from refcolbert.encoding.spec import EncodingSpec
from refcolbert.encoding.tokens import TextTokenizer, Tokens

from ..parity.awkward_texts import FIXED
from .to_onnx import scratch_file

__all__ = ["constant_products", "moments", "nearest", "rounded", "samples"]

Stored = tuple[NDArray[np.int8], NDArray[np.float16]]  # [in / block, block, out], [in / block, 1, out]
Moments = dict[str, Floats]  # name of a product's input -> [in, in]

DOCSTRINGS, LONGEST = 96, 512  # texts, tokens of each
REPEATED = (
    "the file is read . ",
    "a date , time zone and calendar ",
    "server closes every open connection after the timeout ; ",
    "x y ",
)
LONG = ("long", "long word", "long repetition", "long without spaces")  # of the gate's texts
TINY = 1e-12
DAMPING = 0.01  # of the mean squared activation, added to all: keeps directions that the sample lacks from drifting


def samples(spec: EncodingSpec, tokenizer_json: str) -> list[list[Tokens]]:
    """What the moments are measured on: texts of each kind, as queries and documents."""
    tokenizer = TextTokenizer(tokenizer_json, spec)
    found = standard_library_docstrings()
    texts = [document.text or "" for document in found[:: max(len(found) // DOCSTRINGS, 1)][:DOCSTRINGS]]
    kinds = (texts, [text * LONGEST for text in REPEATED], [FIXED[name] for name in LONG])
    return [[*tokenizer.documents(kind), *tokenizer.queries(kind)] for kind in kinds]


def constant_products(graph: ModelProto) -> list[NodeProto]:
    """The matrix products whose second factor is a stored matrix."""
    stored = {t.name for t in graph.graph.initializer if len(t.dims) == 2}
    return [n for n in graph.graph.node if n.op_type == "MatMul" and n.input[1] in stored]


def moments(graph: ModelProto, kinds: Iterable[Sequence[Tokens]]) -> Moments:
    """Second moment of each product's input; every kind of text adds one of mean diagonal 1."""
    names = list(dict.fromkeys(node.input[0] for node in constant_products(graph)))
    watched = ModelProto()
    watched.CopyFrom(graph)
    del watched.graph.output[:]
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    with tempfile.TemporaryDirectory() as scratch:
        path = scratch_file(watched, Path(scratch))
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    out: Moments = {}
    for sample in kinds:
        for name, moment in _sums(session, names, sample).items():
            out[name] = out.get(name, np.float32(0)) + moment * np.float32(len(moment) / max(np.trace(moment), TINY))
    return out


def _sums(session: onnxruntime.InferenceSession, names: list[str], sample: Iterable[Tokens]) -> Moments:
    """The sum of x x^T over the tokens of a sample."""
    out: Moments = {}
    for tokens in sample:
        ids, attention = tokens.ids[None, :LONGEST], tokens.attention[None, :LONGEST].astype(np.int64)  # [1, n]
        found = session.run(names, {"input_ids": ids, "attention_mask": attention})
        for name, value in zip(names, found, strict=True):
            x = value.reshape(-1, value.shape[-1])  # [n, in]
            out[name] = out.get(name, np.float32(0)) + x.T @ x
    return out


def nearest(weight: Floats, block: int) -> Stored:  # [in, out]
    """Every value rounded by itself."""
    blocks = weight.reshape(-1, block, weight.shape[1])
    scale = _scale(blocks)
    stored: NDArray[np.int8] = np.clip(np.rint(blocks / scale.astype(np.float32)), -127, 127).astype(np.int8)
    return stored, scale


def rounded(weight: Floats, moment: Floats, block: int) -> Stored:  # [in, out], [in, in]
    """The weights rounded so that products with inputs of that second moment change least."""
    left = weight.astype(np.float64)  # [in, out] what is still to be rounded, with the losses so far made up
    factor = _factor(moment)  # [in, in] upper triangular
    stored, scales = [], []
    for start in range(0, len(left), block):
        here = slice(start, start + block)
        scale = _scale(left[None, here].astype(np.float32))[0]  # [1, out]
        integers, losses = [], []
        for i in range(start, start + block):
            value = np.clip(np.rint(left[i] / scale[0]), -127, 127)  # [out]
            loss = (left[i] - value * scale[0].astype(np.float64)) / factor[i, i]  # [out]
            left[i : here.stop] -= np.outer(factor[i, i : here.stop], loss)
            integers.append(value)
            losses.append(loss)
        left[here.stop :] -= factor[here, here.stop :].T @ np.array(losses)
        stored.append(np.array(integers, np.int8))
        scales.append(scale)
    return np.array(stored), np.array(scales)


def _factor(moment: Floats) -> NDArray[np.float64]:
    """Upper Cholesky factor of the inverse of the damped moment."""
    damped = moment.astype(np.float64)
    damped[np.diag_indices_from(damped)] += max(DAMPING * float(np.trace(damped)) / len(damped), TINY)
    out: NDArray[np.float64] = np.linalg.cholesky(np.linalg.inv(damped)).T
    return out


def _scale(blocks: Floats) -> NDArray[np.float16]:  # [n, block, out] -> [n, 1, out]
    """What the largest value of a block needs to fit into -127 ... 127; 1 for a block of zeros."""
    largest = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    scale: NDArray[np.float16] = np.where(largest > np.finfo(np.float16).tiny, largest, 1).astype(np.float16)
    return scale

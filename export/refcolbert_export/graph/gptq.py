"""Rounds weights to int8 so that the products of a layer change least.

Follows GPTQ (Frantar et al. 2022, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
Transformers", section 3). The weights of one input after another are rounded. The weights of the following inputs are
changed to make up for each rounding error. The second moment of the activations says by how much.

The moments are measured on three kinds of texts with equal weight: docstrings of the standard library, texts that
repeat themselves, and long texts of the parity check. Small errors grow most on repetitive texts.
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

MAX_DOCSTRINGS, MAX_TOKENS = 96, 512
REPEATED = (
    "the file is read . ",
    "a date , time zone and calendar ",
    "server closes every open connection after the timeout ; ",
    "x y ",
)
LONG = ("long", "long word", "long repetition", "long without spaces")
TINY = 1e-12
# Share of the mean squared activation that is added to the diagonal. Without it, weights in directions that the sample
# lacks would drift.
DAMPING = 0.01


def samples(spec: EncodingSpec, tokenizer_json: str) -> list[list[Tokens]]:
    """The texts of each kind on which moments are measured, as queries and as documents."""
    tokenizer = TextTokenizer(tokenizer_json, spec)
    docstrings = standard_library_docstrings()
    chosen = docstrings[:: max(len(docstrings) // MAX_DOCSTRINGS, 1)][:MAX_DOCSTRINGS]
    texts = [document.text or "" for document in chosen]
    kinds = (texts, [text * MAX_TOKENS for text in REPEATED], [FIXED[name] for name in LONG])
    return [[*tokenizer.documents(kind), *tokenizer.queries(kind)] for kind in kinds]


def constant_products(graph: ModelProto) -> list[NodeProto]:
    """The matrix products whose second factor is a stored matrix."""
    stored = {t.name for t in graph.graph.initializer if len(t.dims) == 2}
    return [n for n in graph.graph.node if n.op_type == "MatMul" and n.input[1] in stored]


def moments(graph: ModelProto, kinds: Iterable[Sequence[Tokens]]) -> Moments:
    """Second moment of the input of each product. Every kind of text adds a moment whose mean diagonal is 1."""
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
        ids, attention = tokens.ids[None, :MAX_TOKENS], tokens.attention[None, :MAX_TOKENS].astype(np.int64)  # [1, n]
        activations = session.run(names, {"input_ids": ids, "attention_mask": attention})
        for name, value in zip(names, activations, strict=True):
            x = value.reshape(-1, value.shape[-1])  # [n, in]
            out[name] = out.get(name, np.float32(0)) + x.T @ x
    return out


def nearest(weight: Floats, block: int) -> Stored:  # [in, out]
    """The weights, each rounded to its nearest value."""
    blocks = weight.reshape(-1, block, weight.shape[1])
    scale = _scale(blocks)
    stored: NDArray[np.int8] = np.clip(np.rint(blocks / scale.astype(np.float32)), -127, 127).astype(np.int8)
    return stored, scale


def rounded(weight: Floats, moment: Floats, block: int) -> Stored:  # [in, out], [in, in]
    """The weights, rounded so that products with inputs of this second moment change least."""
    # The rows still to be rounded, changed to make up for the errors of the rows before them.
    left = weight.astype(np.float64)  # [in, out]
    factor = _factor(moment)  # [in, in]
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
    """Upper triangular Cholesky factor of the inverse of the damped moment."""
    damped = moment.astype(np.float64)
    damped[np.diag_indices_from(damped)] += max(DAMPING * float(np.trace(damped)) / len(damped), TINY)
    out: NDArray[np.float64] = np.linalg.cholesky(np.linalg.inv(damped)).T
    return out


def _scale(blocks: Floats) -> NDArray[np.float16]:  # [n, block, out] -> [n, 1, out]
    """The scale that brings the largest value of each block to 127; 1 for a block of zeros."""
    largest = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    scale: NDArray[np.float16] = np.where(largest > np.finfo(np.float16).tiny, largest, 1).astype(np.float16)
    return scale

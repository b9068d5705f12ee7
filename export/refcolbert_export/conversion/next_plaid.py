"""Folders of next-plaid's exporter: model.onnx, tokenizer.json and onnx_config.json, without the checkpoint's weights.

What that exporter leaves out cannot be found again here, so every import carries `NOTES`, logged and in the model card.
The conventions are PyLate's, from which such a folder was made: marker inserted at position 1, texts stripped. The
graph is adapted to ours: token types become zeros inside it, and its one output may have any name.
"""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, helper
from tokenizers import Tokenizer

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import UnsupportedCheckpoint

from ..graph.to_onnx import scratch_file
from ..layouts.tokenizers import frame_of_json, plain_tokenizer
from ..tensors import Account, read_json

__all__ = ["CONFIG", "LAYOUT", "NextPlaidReference", "Parts", "is_next_plaid", "read_next_plaid"]

log = logging.getLogger("refcolbert")

LAYOUT, CONFIG, MODEL = "next-plaid", "onnx_config.json", "model.onnx"
CHECKPOINT_FILES = ("modules.json", "artifact.metadata", "model.safetensors", "pytorch_model.bin")
NOTES = (
    "This format has no trained weights: parity was measured against its own graph, not against the checkpoint.",
    "Its exporter keeps linear maps only: activations and residuals of the checkpoint's head are lost.",
    "It has no prompts: text that the checkpoint puts before queries or documents is lost.",
)
NO_EXPANSION = (
    "It says do_query_expansion=false, as its exporter writes for every model: where the checkpoint fills queries up "
    "with [MASK], those vectors are lost. Export the checkpoint itself to have them."
)
FALSE_MASK = "onnx_config.json expands queries with id {id}, which is no special token of tokenizer.json ({token!r})"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
NORM_TOLERANCE = 1e-3

Parts = tuple[ModelProto, EncodingSpec, str, tuple[str, ...]]  # graph, how it encodes, its tokenizer.json, what is lost


def is_next_plaid(folder: Path) -> bool:
    """Whether the folder holds that format and no checkpoint beside it, which would be the better source."""
    if any((folder / name).exists() for name in CHECKPOINT_FILES):
        return False
    return (folder / CONFIG).is_file() and (folder / MODEL).is_file()


def read_next_plaid(folder: Path) -> Parts:
    """The adapted graph, the spec, the tokenizer and what this format is known to lose.

    Raises `UnsupportedCheckpoint` when a setting is unknown or contradicts the tokenizer, or the graph does not fit.
    """
    if not (folder / "tokenizer.json").is_file():
        raise UnsupportedCheckpoint(f"expected the file tokenizer.json in {folder}, found none")
    try:
        tokenizer_json = plain_tokenizer((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except Exception as error:
        raise UnsupportedCheckpoint(f"tokenizer.json cannot be read: {error}") from error
    spec = _spec(read_json(folder / CONFIG), tokenizer_json)
    graph = _adapted(_load(folder / MODEL), spec.dim)
    _try(graph, spec)
    notes = NOTES if spec.expansion_id is not None else (NO_EXPANSION, *NOTES)
    for note in notes:
        log.warning("%s: %s", folder.name, note)
    return graph, spec, tokenizer_json, notes


def _spec(raw: dict[str, Any], tokenizer_json: str) -> EncodingSpec:
    config = Account(raw, CONFIG)
    config.ignore(("model_type|model_name|model_class|uses_token_type_ids",))  # the graph itself says its inputs
    tokenizer, frame = Tokenizer.from_str(tokenizer_json), frame_of_json(tokenizer_json)
    prefixes = {}
    for side in ("query", "document"):
        marker, found = config.take(f"{side}_prefix", ""), config.take(f"{side}_prefix_id")
        if marker and (found is None or tokenizer.token_to_id(marker) != found):
            raise UnsupportedCheckpoint(
                f"{CONFIG} says that {side}_prefix {marker!r} has id {found}, "
                f"tokenizer.json gives it {tokenizer.token_to_id(marker)}"
            )
        prefixes[side] = frame.with_marker(int(found)) if marker else frame.prefix
    mask, expands = config.take("mask_token_id"), bool(config.take("do_query_expansion", False))
    attends = bool(config.take("attend_to_expansion_tokens", False))
    if expands:
        special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        if mask not in special:  # the exporter writes 103 where there is no mask token
            raise UnsupportedCheckpoint(FALSE_MASK.format(id=mask, token=tokenizer.id_to_token(int(mask or 0))))
    words = config.take("skiplist_words", [])
    ids = [_word_id(tokenizer, word) for word in words]
    values = {key: config.take(key) for key in ("embedding_dim", "query_length", "document_length", "pad_token_id")}
    missing = sorted(key for key, value in values.items() if type(value) is not int)
    if missing:
        raise UnsupportedCheckpoint(f"{CONFIG} must hold integers for {', '.join(missing)}, found {values}")
    lowercase = bool(config.take("do_lower_case", False))
    config.close()
    return EncodingSpec(
        dim=values["embedding_dim"],
        query_length=values["query_length"],
        document_length=values["document_length"],
        query_prefix_ids=prefixes["query"],
        query_suffix_ids=frame.suffix,
        document_prefix_ids=prefixes["document"],
        document_suffix_ids=frame.suffix,
        pad_id=values["pad_token_id"],
        expansion_id=int(mask) if expands else None,
        expansion_attended=expands and attends,
        skiplist=tuple(sorted(set(ids))),
        strip=True,
        lowercase=lowercase,
    )


def _word_id(tokenizer: Tokenizer, word: str) -> int:
    """PyLate's rule: the word's own id, the unknown token's when it has none."""
    found = tokenizer.token_to_id(word)
    if found is None:
        unknown = getattr(tokenizer.model, "unk_token", None)
        found = None if unknown is None else tokenizer.token_to_id(unknown)
    if found is None:
        raise UnsupportedCheckpoint(f"skiplist word {word!r} is no token, and there is no unknown token")
    return int(found)


def _load(path: Path) -> ModelProto:
    try:
        return onnx.load(path)  # weights in files beside it are read in
    except Exception as error:
        raise UnsupportedCheckpoint(f"{path.name} cannot be read as ONNX: {error}") from error


def _adapted(proto: ModelProto, dim: int) -> ModelProto:
    """The graph with our two inputs and one output of `dim` columns. Raises `UnsupportedCheckpoint`."""
    graph = proto.graph
    stored = {t.name for t in graph.initializer}
    inputs = {i.name: i for i in graph.input if i.name not in stored}
    if not set(INPUTS[:2]) <= set(inputs) <= set(INPUTS) or len(graph.output) != 1:
        raise UnsupportedCheckpoint(
            f"the graph must take {', '.join(INPUTS[:2])} and perhaps {INPUTS[2]} and give one output, "
            f"found {', '.join(inputs)} -> {', '.join(o.name for o in graph.output)}"
        )
    if types := inputs.pop(INPUTS[2], None):  # zero in every ColBERT: made from the shape of the ids
        graph.input.remove(types)
        zero = helper.make_tensor("refcolbert_zero", onnx.TensorProto.INT64, [1], [0])
        graph.node.insert(0, helper.make_node("Shape", [INPUTS[0]], ["refcolbert_shape"]))
        graph.node.insert(1, helper.make_node("ConstantOfShape", ["refcolbert_shape"], [types.name], value=zero))
    output = graph.output[0]
    graph.output[0].CopyFrom(
        helper.make_tensor_value_info(output.name, output.type.tensor_type.elem_type, ["batch", "length", dim])
    )
    return proto


def _try(graph: ModelProto, spec: EncodingSpec) -> None:
    """Run the longest text there may be. Raises `UnsupportedCheckpoint` unless unit float32 rows come out."""
    length = max(spec.query_length, spec.document_length)
    ids = np.full((1, length), spec.document_prefix_ids[0] if spec.document_prefix_ids else 0)  # [1, length]
    try:
        with tempfile.TemporaryDirectory() as scratch:
            path = scratch_file(graph, Path(scratch))
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {INPUTS[0]: ids, INPUTS[1]: np.ones_like(ids)})
    except Exception as error:
        raise UnsupportedCheckpoint(f"the graph cannot run a text of {length} tokens: {error}") from error
    if found.dtype != np.float32 or found.shape != (1, length, spec.dim):
        raise UnsupportedCheckpoint(
            f"expected float32 vectors {(1, length, spec.dim)}, the graph gives {found.dtype} {found.shape}"
        )
    if not (np.abs(np.linalg.norm(found, axis=2) - 1) < NORM_TOLERANCE).all():
        raise UnsupportedCheckpoint("expected rows of norm 1; the graph does not normalize")


@dataclass(frozen=True, slots=True)
class Framed:
    """One text as the folder's model is fed."""

    ids: NDArray[np.int64]  # [n]
    attention: NDArray[np.int64]  # [n]
    keep: NDArray[np.bool_]  # [n]


class NextPlaidReference:
    """The folder by a second path: the tokenizer's own truncation and padding, its own graph as it is."""

    def __init__(self, folder: Path) -> None:
        self.config = read_json(folder / CONFIG)
        self.skipped: list[str] = self.config.get("skiplist_words") or []
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.session = onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"])

    def words(self) -> list[str]:
        """Both markers and the skiplist."""
        markers = [self.config.get(f"{side}_prefix") for side in ("query", "document")]
        return [m for m in markers if m] + self.skipped

    def query(self, text: str) -> Framed:
        """Marker after the first token; with expansion filled up and every row kept."""
        ids = self._framed(text, "query")
        fill = self.config["query_length"] - len(ids) if self.config.get("do_query_expansion") else 0
        attended = int(bool(self.config.get("attend_to_expansion_tokens")))
        attention = np.array([1] * len(ids) + [attended] * fill, np.int64)
        padded = np.array(ids + [self.config.get("mask_token_id")] * fill, np.int64)
        return Framed(padded, attention, np.ones(len(padded), np.bool_))

    def document(self, text: str) -> Framed:
        """Natural length; rows of skiplist words do not count."""
        ids = np.array(self._framed(text, "document"), np.int64)
        unknown = getattr(self.tokenizer.model, "unk_token", None)
        tokens = [w if self.tokenizer.token_to_id(w) is not None else unknown for w in self.skipped]
        dropped = np.array([self.tokenizer.token_to_id(t) for t in tokens if t is not None], np.int64)
        return Framed(ids, np.ones(len(ids), np.int64), ~np.isin(ids, dropped))

    def vectors(self, ids: NDArray[np.int64], attention: NDArray[np.int64]) -> NDArray[np.float32]:
        """[batch, length] twice -> [batch, length, dim]."""
        given = {INPUTS[0]: ids, INPUTS[1]: attention, INPUTS[2]: np.zeros_like(ids)}
        (found,) = self.session.run(None, {i.name: given[i.name] for i in self.session.get_inputs()})
        return np.asarray(found, np.float32)

    def _framed(self, text: str, side: str) -> list[int]:
        marker = self.config.get(f"{side}_prefix")
        self.tokenizer.enable_truncation(self.config[f"{side}_length"] - bool(marker))
        text = text.strip().lower() if self.config.get("do_lower_case") else text.strip()
        ids: list[int] = self.tokenizer.encode(text).ids
        return [ids[0], self.config[f"{side}_prefix_id"], *ids[1:]] if marker else ids

"""Reads folders of next-plaid's exporter: model.onnx, tokenizer.json and a settings file, without trained weights.

That exporter loses settings of the checkpoint. Every import therefore logs `NOTES` and puts them in the model card.
Such a folder was made from PyLate and follows its rules: the marker is inserted at position 1, and texts are
stripped. The graph is adapted: token types become zeros inside it, and its one output may have any name.
"""

import tempfile
from pathlib import Path

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
from ..parity.reference import ReferenceTokens
from ..tensors import Account, Reading, read_json

__all__ = ["LAYOUT", "NextPlaidReference", "Parts", "is_next_plaid", "read_next_plaid"]

LAYOUT, MODEL = "next-plaid", "model.onnx"
# Releases of the exporter differ in the name of the settings file.
CONFIGS = ("onnx_config.json", "config_sentence_transformers.json")
CHECKPOINT_FILES = ("modules.json", "artifact.metadata", "model.safetensors", "pytorch_model.bin")
NOTES = (
    "This format has no trained weights: parity was measured against its own graph, not against the checkpoint.",
    "Its exporter keeps linear maps only: activations and residuals of the checkpoint's head are lost.",
    "It has no prompts: text that the checkpoint puts before queries or documents is lost.",
)
NO_EXPANSION = (
    "It says do_query_expansion=false, as its exporter writes for every model. If the checkpoint fills queries up with "
    "[MASK], those vectors are lost. Export the checkpoint itself to keep them."
)
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
NORM_TOLERANCE = 1e-3

Parts = tuple[ModelProto, EncodingSpec, str, Reading]  # graph, spec, tokenizer.json, what the reader collected


def is_next_plaid(folder: Path) -> bool:
    """True when the folder holds this format and no checkpoint, which would be the better source."""
    if any((folder / name).exists() for name in CHECKPOINT_FILES):
        return False
    return (folder / MODEL).is_file() and any((folder / name).is_file() for name in CONFIGS)


def _config(folder: Path) -> Path:
    return next((folder / name for name in CONFIGS if (folder / name).is_file()), folder / CONFIGS[0])


def read_next_plaid(folder: Path) -> Parts:
    """The adapted graph, the spec, the tokenizer.json and the notes, about settings that this format loses.

    Raises `UnsupportedCheckpoint` when a setting contradicts the tokenizer, or the graph does not fit.
    """
    if not (folder / "tokenizer.json").is_file():
        raise UnsupportedCheckpoint(f"expected the file tokenizer.json in {folder}, found none")
    try:
        tokenizer_json = plain_tokenizer((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except Exception as error:
        raise UnsupportedCheckpoint(f"tokenizer.json cannot be read: {error}") from error
    reading = Reading(notes=list(NOTES))
    config = Account(read_json(_config(folder)), _config(folder).name)
    spec = _spec(config, tokenizer_json)
    config.close(reading)
    graph = _adapted(_load(folder / MODEL), spec.dim)
    _check_graph(graph, spec)
    if spec.expansion_id is None:
        reading.notes.insert(0, NO_EXPANSION)
    return graph, spec, tokenizer_json, reading


def _spec(config: Account, tokenizer_json: str) -> EncodingSpec:
    """The spec of the settings. Raises `UnsupportedCheckpoint` for settings that contradict the tokenizer."""
    # The graph itself says its inputs.
    config.ignore(("model_type|model_name|model_class|uses_token_type_ids",))
    tokenizer = Tokenizer.from_str(tokenizer_json)
    markers = []
    for side in ("query", "document"):
        marker, marker_id = config.take(f"{side}_prefix", ""), config.take(f"{side}_prefix_id")
        if marker and (marker_id is None or tokenizer.token_to_id(marker) != marker_id):
            raise UnsupportedCheckpoint(
                f"{config.name} says that {side}_prefix {marker!r} has id {marker_id}, "
                f"but tokenizer.json gives it {tokenizer.token_to_id(marker)}"
            )
        markers.append(int(marker_id) if marker else None)
    mask, expands = config.take("mask_token_id"), bool(config.take("do_query_expansion", False))
    attends = bool(config.take("attend_to_expansion_tokens", False))
    if expands:
        special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        # The exporter writes 103 for tokenizers without a mask token.
        if mask not in special:
            raise UnsupportedCheckpoint(
                f"expected a special token of tokenizer.json as mask_token_id in {config.name}, found {mask} "
                f"({tokenizer.id_to_token(int(mask or 0))!r})"
            )
    ids = [_word_id(tokenizer, word) for word in config.take("skiplist_words", [])]
    values = {key: config.take(key) for key in ("embedding_dim", "query_length", "document_length", "pad_token_id")}
    missing = sorted(key for key, value in values.items() if type(value) is not int)
    if missing:
        raise UnsupportedCheckpoint(f"expected integers for {', '.join(missing)} in {config.name}, found {values}")
    lowercase = bool(config.take("do_lower_case", False))
    return EncodingSpec(
        dim=values["embedding_dim"],
        query_length=values["query_length"],
        document_length=values["document_length"],
        **frame_of_json(tokenizer_json).with_markers(*markers),
        pad_id=values["pad_token_id"],
        expansion_id=int(mask) if expands else None,
        expansion_attended=expands and attends,
        skiplist=tuple(sorted(set(ids))),
        strip=True,
        lowercase=lowercase,
    )


def _word_id(tokenizer: Tokenizer, word: str) -> int:
    """The id of a word, or of the unknown token, as PyLate does. Raises `UnsupportedCheckpoint` without either."""
    token_id = tokenizer.token_to_id(word)
    if token_id is None:
        unknown = getattr(tokenizer.model, "unk_token", None)
        token_id = None if unknown is None else tokenizer.token_to_id(unknown)
    if token_id is None:
        raise UnsupportedCheckpoint(
            f"expected the skiplist word {word!r} or an unknown token in the vocabulary, found neither"
        )
    return int(token_id)


def _load(path: Path) -> ModelProto:
    try:
        return onnx.load(path)
    except Exception as error:
        raise UnsupportedCheckpoint(f"{path.name} cannot be read as ONNX: {error}") from error


def _adapted(proto: ModelProto, dim: int) -> ModelProto:
    """The graph with ids and attention as inputs and one output of `dim` columns. Raises `UnsupportedCheckpoint`."""
    graph = proto.graph
    stored = {t.name for t in graph.initializer}
    inputs = {i.name: i for i in graph.input if i.name not in stored}
    if not set(INPUTS[:2]) <= set(inputs) <= set(INPUTS) or len(graph.output) != 1:
        raise UnsupportedCheckpoint(
            f"the graph must take {', '.join(INPUTS[:2])} and perhaps {INPUTS[2]}, and have one output, "
            f"found {', '.join(inputs)} -> {', '.join(o.name for o in graph.output)}"
        )
    # Token types are zero in every ColBERT. The graph makes them from the shape of the ids.
    if types := inputs.pop(INPUTS[2], None):
        graph.input.remove(types)
        zero = helper.make_tensor("refcolbert_zero", onnx.TensorProto.INT64, [1], [0])
        graph.node.insert(0, helper.make_node("Shape", [INPUTS[0]], ["refcolbert_shape"]))
        graph.node.insert(1, helper.make_node("ConstantOfShape", ["refcolbert_shape"], [types.name], value=zero))
    output = graph.output[0]
    graph.output[0].CopyFrom(
        helper.make_tensor_value_info(output.name, output.type.tensor_type.elem_type, ["batch", "length", dim])
    )
    return proto


def _check_graph(graph: ModelProto, spec: EncodingSpec) -> None:
    """Run a text of the greatest length. Raises `UnsupportedCheckpoint` unless the output is unit float32 rows."""
    length = max(spec.query_length, spec.document_length)
    ids = np.full((1, length), spec.document_prefix_ids[0] if spec.document_prefix_ids else 0)  # [1, length]
    try:
        with tempfile.TemporaryDirectory() as scratch:
            path = scratch_file(graph, Path(scratch))
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (rows,) = session.run(None, {INPUTS[0]: ids, INPUTS[1]: np.ones_like(ids)})
    except Exception as error:
        raise UnsupportedCheckpoint(f"expected a graph that runs a text of {length} tokens: {error}") from error
    if rows.dtype != np.float32 or rows.shape != (1, length, spec.dim):
        raise UnsupportedCheckpoint(
            f"expected float32 vectors {(1, length, spec.dim)}, the graph gives {rows.dtype} {rows.shape}"
        )
    if not (np.abs(np.linalg.norm(rows, axis=2) - 1) < NORM_TOLERANCE).all():
        raise UnsupportedCheckpoint("expected rows of norm 1; the graph does not normalize")


class NextPlaidReference:
    """The second path: the tokenizer's own truncation and padding, and the folder's graph unchanged."""

    def __init__(self, folder: Path) -> None:
        self.config = read_json(_config(folder))
        self.skipped: list[str] = self.config.get("skiplist_words") or []
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.session = onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"])

    def words(self) -> list[str]:
        """Both markers and the skiplist."""
        markers = [self.config.get(f"{side}_prefix") for side in ("query", "document")]
        return [m for m in markers if m] + self.skipped

    def query(self, text: str) -> ReferenceTokens:
        """Marker after the first token. With expansion the query is filled and every row kept."""
        ids = self._framed(text, "query")
        fill = self.config["query_length"] - len(ids) if self.config.get("do_query_expansion") else 0
        attended = int(bool(self.config.get("attend_to_expansion_tokens")))
        attention = np.array([1] * len(ids) + [attended] * fill, np.int64)
        padded = np.array(ids + [self.config.get("mask_token_id")] * fill, np.int64)
        return ReferenceTokens(padded, attention, np.ones(len(padded), np.bool_))

    def document(self, text: str) -> ReferenceTokens:
        """Natural length. Rows of skiplist words are dropped."""
        ids = np.array(self._framed(text, "document"), np.int64)
        unknown = getattr(self.tokenizer.model, "unk_token", None)
        tokens = [w if self.tokenizer.token_to_id(w) is not None else unknown for w in self.skipped]
        dropped = np.array([self.tokenizer.token_to_id(t) for t in tokens if t is not None], np.int64)
        return ReferenceTokens(ids, np.ones(len(ids), np.int64), ~np.isin(ids, dropped))

    def vectors(self, ids: NDArray[np.int64], attention: NDArray[np.int64]) -> NDArray[np.float32]:
        """[batch, length] twice -> [batch, length, dim]."""
        inputs = {INPUTS[0]: ids, INPUTS[1]: attention, INPUTS[2]: np.zeros_like(ids)}
        (rows,) = self.session.run(None, {node.name: inputs[node.name] for node in self.session.get_inputs()})
        return np.asarray(rows, np.float32)

    def _framed(self, text: str, side: str) -> list[int]:
        marker = self.config.get(f"{side}_prefix")
        self.tokenizer.enable_truncation(self.config[f"{side}_length"] - bool(marker))
        text = text.strip().lower() if self.config.get("do_lower_case") else text.strip()
        ids: list[int] = self.tokenizer.encode(text).ids
        return [*ids[:1], self.config[f"{side}_prefix_id"], *ids[1:]] if marker else ids

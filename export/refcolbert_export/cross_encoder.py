"""The full-interaction scorer: query and document go through one transformer together, which gives one number.

    score(q, d) = head(transformer([CLS] q [SEP] d [SEP]))

The ceiling that late interaction is compared with, and a reranker. Nothing can be computed before the query is known.
This module runs an exported one, without torch. Its folder holds

    model.onnx           input_ids, attention_mask and, where the model has them, token_type_ids, [batch, length] int64
                         -> scores [batch] float32
    tokenizer.json       a `tokenizers` file whose pair template frames the two texts
    cross_encoder.json   {"max_length", "pad_id"}: pairs longer than that lose tokens from the longer text's end
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from refcolbert.arrays import Ints
from refcolbert.checks import check_texts
from refcolbert.encoding.onnx_file import external_tensors
from refcolbert.errors import InvalidInput, InvalidModel

from .lengths import by_length

__all__ = ["SETTINGS", "CrossEncoder", "PairTokenizer", "is_cross_encoder", "padded"]

SETTINGS = "cross_encoder.json"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
BATCH_TOKENS = 2048  # with padding, as the encoder has it

Pair = tuple[str, str]


def is_cross_encoder(folder: Path) -> bool:
    """Whether the checkpoint's config.json names a model for the classification of sequences."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = config.get("architectures") or []
    except (OSError, ValueError, AttributeError):
        return False
    return any(str(name).endswith("ForSequenceClassification") for name in names)


@dataclass(frozen=True, slots=True, eq=False)
class PairTokens:
    """One pair as the model sees it, not padded."""

    ids: Ints  # [n]
    types: Ints  # [n] which text a token belongs to, as the tokenizer's template has it


class PairTokenizer:
    """Pairs of texts -> ids and token types, in the frame of the tokenizer's own template.

    Texts are cut here, on ids, the longer one first: `tokenizers` keeps every way to cut both, which for two long texts
    takes forever.
    """

    def __init__(self, tokenizer_json: str, max_length: int, pad_id: int) -> None:
        try:
            self._tokenizer: Tokenizer = Tokenizer.from_str(tokenizer_json)
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            template = self._tokenizer.encode("a", "a")
        except Exception as error:
            raise InvalidModel(f"tokenizer.json cannot be used for pairs: {error}") from error
        self._frame = _frame(template)
        self.max_length, self.pad_id = max_length, pad_id

    def pairs(self, pairs: Sequence[Pair]) -> list[PairTokens]:
        """The ids of each pair, at most `max_length`."""
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        found = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        ids = {text: encoding.ids for text, encoding in zip(texts, found, strict=True)}
        return [self._framed(ids[first], ids[second]) for first, second in pairs]

    def _framed(self, first: list[int], second: list[int]) -> PairTokens:
        room = self.max_length - sum(part.text is None for part in self._frame)
        kept = dict(enumerate(_cut((first, second), room)))
        runs = [(part, [part.id] if part.text is None else kept[part.text]) for part in self._frame]
        ids = [i for _, run in runs for i in run]
        types = [part.type for part, run in runs for _ in run]
        return PairTokens(np.array(ids, np.int64), np.array(types, np.int64))


@dataclass(frozen=True, slots=True)
class _Part:
    """A place of the frame: a special token, or one of the two texts."""

    text: int | None  # 0 or 1
    id: int
    type: int


def _frame(template: Encoding) -> list[_Part]:
    """What stands around and between two texts of one token each."""
    sequences = zip(template.sequence_ids, template.ids, template.type_ids, strict=True)
    frame = [_Part(text, token_id, kind) for text, token_id, kind in sequences]
    if [part.text for part in frame if part.text is not None] != [0, 1]:
        raise InvalidModel("the tokenizer's template must hold both texts of a pair once, in their order")
    return frame


def _cut(texts: tuple[list[int], list[int]], room: int) -> tuple[list[int], list[int]]:
    """Both in `room` tokens: the longer one is cut to the other's length, then both alike, as `tokenizers` does it."""
    first, second = texts
    short, long = sorted((len(first), len(second)))
    if short + long <= room:
        return texts
    least = min(short, room // 2)  # what the shorter one keeps; the longer one has the rest
    if len(first) > len(second):
        return first[: room - least], second[:least]
    return first[:least], second[: room - least]


def padded(encodings: Sequence[PairTokens], pad_id: int) -> dict[str, Ints]:
    """What the model reads, by name, each [batch, length]: padding has attention 0 and token type 0."""
    shape = len(encodings), max(len(e.ids) for e in encodings)
    ids, attention, types = np.full(shape, pad_id, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, e in enumerate(encodings):
        n = len(e.ids)
        ids[row, :n], attention[row, :n], types[row, :n] = e.ids, 1, e.types
    return dict(zip(INPUTS, (ids, attention, types), strict=True))


class CrossEncoder:
    """An exported cross-encoder in ONNX Runtime; threads may share it. Make one with `CrossEncoder.load`."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        settings, tokenizer_json = _settings(folder), _read(folder / "tokenizer.json").decode()
        self.tokenizer = PairTokenizer(tokenizer_json, settings["max_length"], settings["pad_id"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self._session = _session(_read(folder / "model.onnx"), options)
        self._names = {given.name for given in self._session.get_inputs()}
        if not self._names <= set(INPUTS) or [o.name for o in self._session.get_outputs()] != ["scores"]:
            raise InvalidModel(f"expected a graph from {', '.join(INPUTS)} to scores, found {sorted(self._names)}")

    @classmethod
    def load(cls, folder: str | Path, *, threads: int | None = None) -> Self:
        """Load an exported folder. `threads` limits ONNX Runtime's; None: one a core. Raises `InvalidModel`."""
        return cls(Path(folder), threads)

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:  # -> [n_texts]
        """How well each text answers the query, in the texts' order; higher is better, the scale is the model's own."""
        (query,) = check_texts([query], "query")
        return self.score_pairs([(query, text) for text in check_texts(texts)])

    def score_pairs(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:  # -> [n_pairs]
        """The same for pairs of a query and a text. Raises `InvalidInput` for a score that is not finite."""
        encodings = self.tokenizer.pairs(pairs)
        out = np.empty(len(encodings), np.float32)  # [n_pairs]
        for group in by_length([len(e.ids) for e in encodings], BATCH_TOKENS):
            out[group] = self.run(padded([encodings[i] for i in group], self.tokenizer.pad_id))
        if not np.isfinite(out).all():
            raise InvalidInput("the cross-encoder gave a score that is not finite")
        return out

    def run(self, given: dict[str, Ints]) -> NDArray[np.float32]:  # [batch, length] each -> [batch]
        """The bare graph."""
        (scores,) = self._session.run(["scores"], {name: given[name] for name in self._names})
        found: NDArray[np.float32] = scores
        return found


def _session(model: bytes, options: Any) -> Any:
    try:
        outside = [name for name, _ in external_tensors(model)]
    except ValueError as error:
        raise InvalidModel(f"model.onnx is no ONNX file: {error}") from error
    if outside:
        raise InvalidModel(f"model.onnx keeps tensors in other files ({outside[0]}); a cross-encoder is one file")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InvalidModel(f"model.onnx cannot be loaded: {error}") from error


def _settings(folder: Path) -> dict[str, int]:
    try:
        found = json.loads(_read(folder / SETTINGS))
    except ValueError as error:
        raise InvalidModel(f"{SETTINGS} is not JSON: {error}") from error
    keys = {"max_length": 8, "pad_id": 0}  # key -> its least value
    if not isinstance(found, dict) or set(found) != set(keys) or any(type(v) is not int for v in found.values()):
        raise InvalidModel(f"{SETTINGS} must hold the integers {', '.join(keys)}, found {found!r:.80}")
    if any(found[key] < least for key, least in keys.items()):
        raise InvalidModel(f"{SETTINGS} must hold values of at least {keys}, found {found}")
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidModel(f"expected the file {path.name} in {path.parent}: {error.strerror}") from error

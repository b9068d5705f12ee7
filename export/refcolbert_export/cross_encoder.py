"""Runs an exported cross-encoder, without torch.

    score(q, d) = head(transformer([CLS] q [SEP] d [SEP]))

Query and document go through one transformer together, which gives one number. Nothing can be computed before the query
is known. It is a reranker, and the upper bound that late interaction is compared with. A model folder holds

    model.onnx           input_ids, attention_mask and, where the model has them, token_type_ids, [batch, length] int64
                         -> scores [batch] float32
    tokenizer.json       a `tokenizers` file whose pair template puts special tokens around the two texts
    cross_encoder.json   {"max_length", "pad_id"}: longer pairs lose tokens at the end of the longer text
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from refcolbert.arrays import Ints
from refcolbert.checks import check_texts
from refcolbert.encoding.onnx_file import external_tensors
from refcolbert.errors import InvalidInput, InvalidModel

from .lengths import by_length, padded_rows

__all__ = ["SETTINGS", "CrossEncoder", "PairTokenizer", "is_cross_encoder", "padded"]

SETTINGS = "cross_encoder.json"
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# Tokens per run with padding, as in `refcolbert.Encoder`.
BATCH_TOKENS = 2048

Pair = tuple[str, str]


def is_cross_encoder(folder: Path) -> bool:
    """True when the checkpoint's config.json names a model for sequence classification."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        names = config.get("architectures") or []
    except (OSError, ValueError, AttributeError):
        return False
    return any(str(name).endswith("ForSequenceClassification") for name in names)


@dataclass(frozen=True, slots=True, eq=False)
class PairTokens:
    """The model's input for one pair, not padded."""

    ids: Ints  # [n]
    types: Ints  # [n] token types by the tokenizer's template: which text a token belongs to


class PairTokenizer:
    """Turns pairs of texts into ids and token types, with the special tokens of the tokenizer's pair template.

    Long pairs are cut here and not by `tokenizers`, which keeps every way to cut both texts. For two long texts that
    does not end in reasonable time.
    """

    def __init__(self, tokenizer_json: str, max_length: int, pad_id: int) -> None:
        try:
            self._tokenizer: Tokenizer = Tokenizer.from_str(tokenizer_json)
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            encoding = self._tokenizer.encode("a", "a")
        except Exception as error:
            raise InvalidModel(f"expected a tokenizer.json that encodes pairs: {error}") from error
        # The pair template: (0 or 1 for a text, None for a special token; id; token type) of two texts of one token.
        self._template = list(zip(encoding.sequence_ids, encoding.ids, encoding.type_ids, strict=True))
        if [text for text, _, _ in self._template if text is not None] != [0, 1]:
            raise InvalidModel("expected a pair template in tokenizer.json with both texts once, in their order")
        self.max_length, self.pad_id = max_length, pad_id

    def pairs(self, pairs: Sequence[Pair]) -> list[PairTokens]:
        """The ids and token types of each pair, at most `max_length`."""
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        encodings = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        ids = {text: encoding.ids for text, encoding in zip(texts, encodings, strict=True)}
        return [self._framed(ids[first], ids[second]) for first, second in pairs]

    def _framed(self, first: list[int], second: list[int]) -> PairTokens:
        kept = _cut((first, second), self.max_length - len(self._template) + 2)
        runs = [([token_id] if text is None else kept[text], kind) for text, token_id, kind in self._template]
        ids = [i for run, _ in runs for i in run]
        types = [kind for run, kind in runs for _ in run]
        return PairTokens(np.array(ids, np.int64), np.array(types, np.int64))


def _cut(texts: tuple[list[int], list[int]], available: int) -> tuple[list[int], list[int]]:
    """Both texts in `available` tokens. As in `tokenizers`, the longer one is cut first, then both alike."""
    first, second = texts
    short, long = sorted((len(first), len(second)))
    if short + long <= available:
        return texts
    # The shorter text keeps this many tokens, and the longer one gets the rest.
    least = min(short, available // 2)
    if len(first) > len(second):
        return first[: available - least], second[:least]
    return first[:least], second[: available - least]


def padded(encodings: Sequence[PairTokens], pad_id: int) -> dict[str, Ints]:
    """The model's inputs by name, each [batch, length]. Padding has attention 0 and token type 0."""
    ids = padded_rows([e.ids for e in encodings], pad_id)  # [batch, length]
    attention = padded_rows([np.ones_like(e.ids) for e in encodings], 0)  # [batch, length]
    types = padded_rows([e.types for e in encodings], 0)  # [batch, length]
    return dict(zip(INPUTS, (ids, attention, types), strict=True))


class CrossEncoder:
    """An exported cross-encoder in ONNX Runtime. Threads may share it. Load one with `CrossEncoder.load`."""

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        settings, tokenizer_json = _settings(folder), _read(folder / "tokenizer.json").decode()
        self.tokenizer = PairTokenizer(tokenizer_json, settings["max_length"], settings["pad_id"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        self._session = _session(_read(folder / "model.onnx"), options)
        self._names = {node.name for node in self._session.get_inputs()}
        if not self._names <= set(INPUTS) or [o.name for o in self._session.get_outputs()] != ["scores"]:
            raise InvalidModel(f"expected a graph from {', '.join(INPUTS)} to scores, found {sorted(self._names)}")

    @classmethod
    def load(cls, folder: str | Path, *, threads: int | None = None) -> Self:
        """Load an exported folder. `threads`: ONNX Runtime's threads; None: one per core. Raises `InvalidModel`."""
        return cls(Path(folder), threads)

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:  # -> [n_texts]
        """One score per text, in the order of the texts. Higher is better; the scale depends on the model."""
        (query,) = check_texts([query], "query")
        return self.score_pairs([(query, text) for text in check_texts(texts)])

    def score_pairs(self, pairs: Sequence[Pair]) -> NDArray[np.float32]:  # -> [n_pairs]
        """One score per pair of a query and a text. Raises `InvalidInput` for a score that is not finite."""
        encodings = self.tokenizer.pairs(pairs)
        out = np.empty(len(encodings), np.float32)  # [n_pairs]
        for group in by_length([len(e.ids) for e in encodings], BATCH_TOKENS):
            out[group] = self.run(padded([encodings[i] for i in group], self.tokenizer.pad_id))
        if not np.isfinite(out).all():
            raise InvalidInput("expected finite scores, found NaN or infinity; export the model again")
        return out

    def run(self, inputs: dict[str, Ints]) -> NDArray[np.float32]:  # [batch, length] each -> [batch]
        """The output of the graph for inputs by name."""
        scores: NDArray[np.float32]
        (scores,) = self._session.run(["scores"], {name: inputs[name] for name in self._names})
        return scores


def _session(model: bytes, options: Any) -> Any:
    try:
        outside = [name for name, _ in external_tensors(model)]
    except ValueError as error:
        raise InvalidModel(f"expected an ONNX file at model.onnx: {error}") from error
    if outside:
        raise InvalidModel(f"expected all tensors in model.onnx, found {outside[0]} in another file; export it again")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InvalidModel(f"model.onnx cannot be loaded: {error}") from error


def _settings(folder: Path) -> dict[str, int]:
    try:
        settings = json.loads(_read(folder / SETTINGS))
    except ValueError as error:
        raise InvalidModel(f"expected JSON in {SETTINGS}: {error}") from error
    least = {"max_length": 8, "pad_id": 0}
    integers = isinstance(settings, dict) and all(type(value) is int for value in settings.values())
    if not integers or set(settings) != set(least) or any(settings[key] < least[key] for key in least):
        raise InvalidModel(f"expected integers of at least {least} in {SETTINGS}, found {settings!r:.80}")
    return dict(settings)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidModel(f"expected the file {path.name} in {path.parent}: {error.strerror}") from error

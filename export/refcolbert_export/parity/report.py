"""Compares a model folder with its checkpoint, writes the parity report, and refuses a model that differs.

Every awkward text is encoded as query and as document. Ids, attention and kept rows must be equal, and every vector
within LIMIT of the reference's. The vectors of a text are those of its first MOST_TOKENS tokens, because time and
memory grow with the square of the length. Then the graph alone runs with random ids at shapes from 1 x 3 to the
greatest length, once. The report keeps a probe of the reference's vectors. With it the folder can be checked later on
another machine, without torch.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from refcolbert.arrays import Floats, Ints
from refcolbert.encoding.encoder import LENGTHS_LOG, Encoder
from refcolbert.encoding.tokens import Tokens
from refcolbert.errors import ParityError

from .awkward_texts import awkward_texts

__all__ = [
    "LIMIT",
    "REPORT",
    "Tolerance",
    "check_report",
    "distance",
    "long_texts_expected",
    "measure",
    "read_report",
    "recheck",
]

# Largest absolute difference of any component, float32 against float32.
LIMIT = 1e-4
REPORT = "parity.json"
REPORT_VERSION = 1
# The keys that later checks read.
REPORT_KEYS = ("report_version", "model", "variant", "words", "worst", "worst_probe", "texts")
PROBE_ROWS = 16  # rows of each text whose projection is kept
MOST_TOKENS = 1024  # several windows of local attention
# The greatest length is tested besides.
SHAPES = ((1, 3), (2, 5), (3, 16), (2, 33))


class Origin(Protocol):
    """The second path: `reference.Reference`, or a reference without torch."""

    def query(self, text: str) -> Any: ...
    def document(self, text: str) -> Any: ...
    def vectors(self, ids: Ints, attention: Ints) -> Floats: ...
    def words(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far the vectors of a variant may differ from the checkpoint's; None: no limit."""

    max_abs: float | None = LIMIT
    min_cosine: float | None = None

    def rounded(self, dtype: Any) -> "Tolerance":
        """The tolerance for vectors that were stored as `dtype`: half a unit in the last place of 1 more."""
        return replace(self, max_abs=None if self.max_abs is None else self.max_abs + float(np.finfo(dtype).eps) / 2)

    def refuses(self, entry: dict[str, Any]) -> bool:
        """True when the differences of one report entry are too large."""
        # "not <=" refuses NaN too.
        if self.max_abs is not None and not entry["max_abs"] <= self.max_abs:
            return True
        return self.min_cosine is not None and not entry["min_cosine"] >= self.min_cosine


def measure(folder: Path, origin: Origin, seed: int = 0) -> dict[str, Any]:
    """Compare the model folder with the reference and return the report."""
    encoder = Encoder(folder)
    words = origin.words()
    texts = awkward_texts(encoder.spec, Tokenizer.from_file(str(folder / "tokenizer.json")), words)
    encoded = _texts("query", texts, encoder, origin) + _texts("document", texts, encoder, origin)
    shapes = _shapes(encoder, origin, np.random.default_rng(seed))
    entries = encoded + shapes
    worst = {"max_abs": max(e["max_abs"] for e in entries), "min_cosine": min(e["min_cosine"] for e in entries)}
    return {
        "report_version": REPORT_VERSION,
        "model": encoder.hash,
        "onnxruntime": onnxruntime.__version__,
        "worst": worst,
        "words": words,
        "most_tokens": MOST_TOKENS,
        "worst_probe": max(e["probe_error"] for e in encoded),
        "texts": encoded,
        "shapes": shapes,
    }


def check_report(report: dict[str, Any], tolerance: Tolerance) -> None:
    """Raise `ParityError` naming the first text or shape that differs too much."""
    for entry in report["texts"]:
        for part in ("ids", "attention", "kept"):
            if not entry[f"{part}_equal"]:
                raise ParityError(f"{entry['side']} {entry['text']!r}: {part} differ from the checkpoint's")
    for entry in report["texts"] + report["shapes"]:
        if tolerance.refuses(entry):
            name = f"{entry['side']} {entry['text']!r}" if "text" in entry else f"shape {entry['shape']}"
            raise ParityError(
                f"{name}: vectors differ from the checkpoint's by {entry['max_abs']:.2e} "
                f"(cosine {entry['min_cosine']:.6f}); allowed: {tolerance.max_abs}, {tolerance.min_cosine}"
            )


@contextmanager
def long_texts_expected() -> Iterator[None]:
    """Suppress the encoder's warning of texts that are cut: texts that it is measured with are too long on purpose."""
    log = logging.getLogger(LENGTHS_LOG)
    disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = disabled


def recheck(folder: Path) -> dict[str, Any]:
    """Encode the report's texts again, compare with its probes, and return a summary. Raises `ParityError`."""
    encoder = Encoder(folder)
    report = read_report(folder)
    if report.get("report_version") != REPORT_VERSION or report.get("model") != encoder.hash:
        raise ParityError(f"{REPORT} belongs to another model than the files beside it; export the checkpoint again")
    texts = awkward_texts(encoder.spec, Tokenizer.from_file(str(folder / "tokenizer.json")), report["words"])
    worst = 0.0
    for entry in report["texts"]:
        tokenize = encoder.tokenizer.queries if entry["side"] == "query" else encoder.tokenizer.documents
        # Such a text cannot be encoded, neither with the checkpoint nor here.
        if entry["rows"] == 0:
            continue
        # Earlier reports have the vectors of whole texts.
        (vectors,) = encoder._encode(_first(tokenize([texts[entry["text"]]]), report.get("most_tokens")))
        probe = np.array(entry["probe"])  # [at most PROBE_ROWS]
        if len(vectors) != entry["rows"]:
            raise ParityError(f"{entry['side']} {entry['text']!r}: expected {entry['rows']} rows, found {len(vectors)}")
        worst = max(worst, float(np.abs(_probe(vectors) - probe).max(initial=0)))
    # The difference of the variant when it was exported, and rounding.
    allowed = report["worst_probe"] + LIMIT
    if worst > allowed:
        raise ParityError(f"vectors computed here differ from the reported ones by {worst:.2e}, allowed {allowed:.1e}")
    return {"texts": len(report["texts"]), "worst_probe": worst, "worst": report["worst"]}


def read_report(folder: Path) -> dict[str, Any]:
    """The parity report of a model folder. Raises `ParityError` when it is missing or cannot be read."""
    hint = "export the checkpoint again, or compare with it: refcolbert verify OUT --against CHECKPOINT"
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParityError(f"expected {REPORT} in {folder}, found none; {hint}") from None
    except ValueError as error:
        raise ParityError(f"{REPORT} is not JSON: {error}; {hint}") from error
    if not isinstance(report, dict) or not set(REPORT_KEYS) <= set(report):
        raise ParityError(f"{REPORT} must hold {', '.join(REPORT_KEYS)}; {hint}")
    return report


def _texts(side: str, texts: dict[str, str], encoder: Encoder, origin: Origin) -> list[dict[str, Any]]:
    """One report entry per text, encoded as `side`: "query" or "document"."""
    if side == "query":
        tokenize, origin_tokens = encoder.tokenizer.queries, origin.query
    else:
        tokenize, origin_tokens = encoder.tokenizer.documents, origin.document
    ours = tokenize(list(texts.values()))
    first = dict(zip(texts, _first(ours, MOST_TOKENS), strict=True))
    # A skiplist may drop every row of an empty text, which then cannot be encoded.
    kept = [name for name in texts if first[name].keep.any()]
    vectors = dict(zip(kept, encoder._encode([first[name] for name in kept]), strict=True))
    out = []
    for tokens, (name, text) in zip(ours, texts.items(), strict=True):
        expected = origin_tokens(text)
        ids, attention, keep = (x[:MOST_TOKENS] for x in (expected.ids, expected.attention, expected.keep))
        reference = origin.vectors(ids[None], attention[None])[0][keep]  # [n_kept, dim]
        entry = {
            "side": side,
            "text": name,
            "rows": len(reference),
            "ids_equal": np.array_equal(tokens.ids, expected.ids),
            "attention_equal": np.array_equal(tokens.attention, expected.attention),
            "kept_equal": np.array_equal(tokens.keep, expected.keep),
        }
        probe = _probe(reference)
        rows = vectors.get(name, np.empty((0, reference.shape[1]), np.float32))  # [n_kept, dim]
        equal_shapes = rows.shape == reference.shape
        entry["probe_error"] = float(np.abs(_probe(rows) - probe).max(initial=0)) if equal_shapes else 2.0
        out.append({**entry, **distance(rows, reference), "probe": probe.round(7).tolist()})
    return out


def _first(tokens: Iterable[Tokens], most: int | None) -> list[Tokens]:
    """The texts, cut after `most` tokens."""
    return [replace(t, ids=t.ids[:most], attention=t.attention[:most], keep=t.keep[:most]) for t in tokens]


def _shapes(encoder: Encoder, origin: Origin, rng: np.random.Generator) -> list[dict[str, Any]]:
    """One report entry per shape: the graph alone on random ids, the last third of each row not attended."""
    longest = max(encoder.spec.query_length, encoder.spec.document_length)
    out = []
    for batch, length in (*[s for s in SHAPES if s[1] < longest], (1, longest)):
        ids = rng.integers(0, encoder.tokenizer.vocabulary_size, (batch, length))  # [batch, length]
        attention = np.ones((batch, length), np.int64)
        attention[:, length - length // 3 :] = 0
        vectors = encoder._run(ids, attention)  # [batch, length, dim]
        reference = origin.vectors(ids, attention)  # [batch, length, dim]
        dim = reference.shape[-1]
        out.append({"shape": [batch, length], **distance(vectors.reshape(-1, dim), reference.reshape(-1, dim))})
    return out


def distance(vectors: Floats, expected: Floats) -> dict[str, float]:  # [n, dim] each
    """Largest absolute difference and smallest cosine; infinity and -1 when the shapes differ."""
    if vectors.shape != expected.shape:
        return {"max_abs": float("inf"), "min_cosine": -1.0}
    a, b = vectors.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)  # [n]
    return {
        "max_abs": float(np.abs(a - b).max(initial=0)),
        "min_cosine": float((np.einsum("nd,nd->n", a, b) / norms).min(initial=1)),
    }


def _probe(vectors: Floats) -> NDArray[np.float64]:  # [n, dim] -> [at most PROBE_ROWS]
    """The projection of the first rows on a fixed direction. It is small, and any change of a row changes it."""
    direction = np.cos(np.arange(1, vectors.shape[1] + 1))  # [dim]
    out: NDArray[np.float64] = vectors[:PROBE_ROWS].astype(np.float64) @ (direction / np.linalg.norm(direction))
    return out

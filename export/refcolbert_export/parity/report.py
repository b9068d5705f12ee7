"""Does a model folder reproduce its checkpoint? The report, and the refusal.

For every awkward text, as query and as document: ids, attention and kept rows must be equal, and every vector within
LIMIT of the reference's. Then the bare graph at shapes from 1 x 3 to the longest the model takes, with random ids and
attention. The report keeps a probe of the reference's vectors, so that the folder can be checked again later on another
machine without torch.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from refcolbert.arrays import Floats, Ints
from refcolbert.encoding.encoder import Encoder
from refcolbert.errors import ParityError

from .awkward_texts import awkward_texts

__all__ = ["LIMIT", "REPORT", "Tolerance", "check_report", "measure", "read_report", "recheck"]


LIMIT = 1e-4  # largest absolute difference of any component, float32 against float32
REPORT = "parity.json"
REPORT_VERSION = 1
REPORT_KEYS = ("report_version", "model", "variant", "words", "worst", "worst_probe", "texts")  # what is read again
PROBE_ROWS = 16  # rows of each text whose projection is kept
SHAPES = ((1, 3), (2, 5), (3, 16), (2, 33))  # and 1 x the longest


class Origin(Protocol):
    """What the comparison needs of a reference."""

    def query(self, text: str) -> Any: ...
    def document(self, text: str) -> Any: ...
    def vectors(self, ids: Ints, attention: Ints) -> Floats: ...
    def words(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What a variant may lose: None asks nothing."""

    max_abs: float | None = LIMIT
    min_cosine: float | None = None

    def refuses(self, entry: dict[str, Any]) -> bool:
        """Whether the differences of one report entry are too large."""
        if self.max_abs is not None and not entry["max_abs"] <= self.max_abs:  # "not <=": NaN is refused
            return True
        return self.min_cosine is not None and not entry["min_cosine"] >= self.min_cosine


def measure(folder: Path, origin: Origin, seed: int = 0) -> dict[str, Any]:
    """Compare the model folder with its origin and return the report."""
    encoder = Encoder(folder)
    words = origin.words()
    texts = awkward_texts(encoder.spec, Tokenizer.from_file(str(folder / "tokenizer.json")), words)
    queries = _side("query", texts, encoder.tokenizer.queries, origin.query, encoder.encode_queries, origin)
    documents = _side("document", texts, encoder.tokenizer.documents, origin.document, _documents(encoder), origin)
    shapes = _shapes(encoder, origin, np.random.default_rng(seed))
    entries = queries + documents + shapes
    worst = {"max_abs": max(e["max_abs"] for e in entries), "min_cosine": min(e["min_cosine"] for e in entries)}
    return {
        "report_version": REPORT_VERSION,
        "model": encoder.hash,
        "onnxruntime": onnxruntime.__version__,
        "worst": worst,
        "words": words,
        "worst_probe": max(e["probe_error"] for e in queries + documents),
        "texts": queries + documents,
        "shapes": shapes,
    }


def check_report(report: dict[str, Any], tolerance: Tolerance) -> None:
    """Raise `ParityError` naming the first text or shape that differs too much."""
    for entry in report["texts"]:
        for what in ("ids", "attention", "kept"):
            if not entry[f"{what}_equal"]:
                raise ParityError(f"{entry['side']} {entry['text']!r}: {what} differ from the checkpoint's")
    for entry in report["texts"] + report["shapes"]:
        if tolerance.refuses(entry):
            name = f"{entry['side']} {entry['text']!r}" if "text" in entry else f"shape {entry['shape']}"
            raise ParityError(
                f"{name}: vectors differ from the checkpoint's by {entry['max_abs']:.2e} "
                f"(cosine {entry['min_cosine']:.6f}); allowed: {tolerance.max_abs}, {tolerance.min_cosine}"
            )


def recheck(folder: Path) -> dict[str, Any]:
    """Run the report's texts again and compare with its probes; no torch. Raises `ParityError`, returns a summary."""
    encoder = Encoder(folder)
    report = read_report(folder)
    if report.get("report_version") != REPORT_VERSION or report.get("model") != encoder.hash:
        raise ParityError(f"{REPORT} is about another model than the files beside it; export the checkpoint again")
    texts = awkward_texts(encoder.spec, Tokenizer.from_file(str(folder / "tokenizer.json")), report["words"])
    worst = 0.0
    for entry in report["texts"]:
        encode = encoder.encode_queries if entry["side"] == "query" else _documents(encoder)
        if entry["rows"] == 0:  # such a text cannot be encoded, with the checkpoint or here
            continue
        (vectors,) = encode([texts[entry["text"]]])
        probe = np.array(entry["probe"])  # [at most PROBE_ROWS]
        if len(vectors) != entry["rows"]:
            raise ParityError(f"{entry['side']} {entry['text']!r}: {len(vectors)} rows, reported {entry['rows']}")
        worst = max(worst, float(np.abs(_probe(vectors) - probe).max(initial=0)))
    allowed = report["worst_probe"] + LIMIT  # what the variant had lost when it was exported, and rounding
    if worst > allowed:
        raise ParityError(f"vectors computed here differ from the reported ones by {worst:.2e}, allowed {allowed:.1e}")
    return {"texts": len(report["texts"]), "worst_probe": worst, "worst": report["worst"]}


def read_report(folder: Path) -> dict[str, Any]:
    """The parity report of a model folder. Raises `ParityError` when there is none that can be read."""
    hint = "export the checkpoint again, or compare with it: refcolbert verify OUT --against CHECKPOINT"
    try:
        found = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParityError(f"{folder} holds no {REPORT}, so there is nothing to verify it by; {hint}") from None
    except ValueError as error:
        raise ParityError(f"{REPORT} is not JSON: {error}; {hint}") from error
    if not isinstance(found, dict) or not set(REPORT_KEYS) <= set(found):
        raise ParityError(f"{REPORT} must hold {', '.join(REPORT_KEYS)}; {hint}")
    return found


def _documents(encoder: Encoder) -> Callable[[Sequence[str]], list[Floats]]:
    return lambda texts: list(encoder.encode_documents(texts))


def _side(
    side: str,
    texts: dict[str, str],
    tokenize: Callable[[Sequence[str]], Sequence[Any]],
    origin_tokens: Callable[[str], Any],
    encode: Callable[[Sequence[str]], list[Floats]],
    origin: Origin,
) -> list[dict[str, Any]]:
    """One report entry a text."""
    ours = dict(zip(texts, tokenize(list(texts.values())), strict=True))
    some = [name for name in texts if ours[name].keep.any()]  # a skiplist may drop all that frames an empty text
    vectors = dict(zip(some, encode([texts[name] for name in some]), strict=True))
    out = []
    for name, text in texts.items():
        tokens, expected = ours[name], origin_tokens(text)
        reference = origin.vectors(expected.ids[None], expected.attention[None])[0][expected.keep]  # [n_kept, dim]
        entry = {
            "side": side,
            "text": name,
            "rows": len(reference),
            "ids_equal": np.array_equal(tokens.ids, expected.ids),
            "attention_equal": np.array_equal(tokens.attention, expected.attention),
            "kept_equal": np.array_equal(tokens.keep, expected.keep),
        }
        probe, found = _probe(reference), vectors.get(name, np.empty((0, reference.shape[1]), np.float32))
        entry["probe_error"] = (
            float(np.abs(_probe(found) - probe).max(initial=0)) if found.shape == reference.shape else 2.0
        )
        out.append({**entry, **_distance(found, reference), "probe": probe.round(7).tolist()})
    return out


def _shapes(encoder: Encoder, origin: Origin, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The bare graph on random ids, the last third of each row unattended, one report entry a shape."""
    longest = max(encoder.spec.query_length, encoder.spec.document_length)
    out = []
    for batch, length in (*[s for s in SHAPES if s[1] < longest], (1, longest)):
        ids = rng.integers(0, encoder.tokenizer.vocabulary_size, (batch, length))  # [batch, length]
        attention = np.ones((batch, length), np.int64)
        attention[:, length - length // 3 :] = 0
        found = encoder._run(ids, attention)
        reference = origin.vectors(ids, attention)
        dim = reference.shape[-1]
        out.append({"shape": [batch, length], **_distance(found.reshape(-1, dim), reference.reshape(-1, dim))})
    return out


def _distance(found: Floats, expected: Floats) -> dict[str, float]:  # [n, dim] twice
    """Largest absolute difference and smallest cosine; infinitely far where the shapes differ."""
    if found.shape != expected.shape:
        return {"max_abs": float("inf"), "min_cosine": -1.0}
    a, b = found.astype(np.float64), expected.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)  # [n]
    return {
        "max_abs": float(np.abs(a - b).max(initial=0)),
        "min_cosine": float((np.einsum("nd,nd->n", a, b) / norms).min(initial=1)),
    }


def _probe(vectors: Floats) -> NDArray[np.float64]:  # [n, dim] -> [at most PROBE_ROWS]
    """The first rows' projection on one fixed direction: small enough to keep, and any change of a row moves it."""
    direction = np.cos(np.arange(1, vectors.shape[1] + 1))  # [dim]
    out: NDArray[np.float64] = vectors[:PROBE_ROWS].astype(np.float64) @ (direction / np.linalg.norm(direction))
    return out

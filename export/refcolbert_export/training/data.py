"""Reads training data. An error names file and line; nothing is skipped.

    JSONL      {"query" | "anchor", "positive" | "positives", "negatives" | "negative" | "negative_1" ..., "scores"?},
               the column names of Sentence-Transformers; other keys are ignored
    Stanford   triples.jsonl with [qid, pid+, pid-, ...] per line, or ColBERTv2's [qid, [pid, score], ...], whose first
               passage is the positive; ids are looked up in queries.tsv and collection.tsv (id <tab> text)

Files may end in .gz. `scores` are a teacher's: of the positives first, then of the negatives.
"""

import gzip
import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from refcolbert.errors import InvalidInput

__all__ = ["Example", "fingerprint", "read_examples"]


@dataclass(frozen=True, slots=True)
class Example:
    """One query with its positives, its negatives and a teacher's scores of both."""

    query: str
    positives: tuple[str, ...]  # at least one
    negatives: tuple[str, ...] = ()
    scores: tuple[float, ...] | None = None  # of positives + negatives


def read_examples(paths: Sequence[Path], queries: Path | None = None, collection: Path | None = None) -> list[Example]:
    """The examples of one or several files, in file order.

    Raises `InvalidInput` naming file and line for a malformed line, a query without positives, an empty text, scores
    that are not one finite number per text, a negative that is also a positive; and when there is no example.
    """
    texts = _Texts(queries, collection)
    examples = [_example(where, parsed, texts) for path in paths for where, parsed in _json_lines(path)]
    if not examples:
        raise InvalidInput(f"expected training examples in {', '.join(p.name for p in paths)}, found none")
    return examples


def fingerprint(examples: Sequence[Example]) -> str:
    """SHA-256 over all examples in their order. A run is resumed only with the same data."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(json.dumps(astuple(example)).encode())
    return digest.hexdigest()


class _Texts:
    """Texts by the ids of Stanford's triples. The files are read when the first id is looked up."""

    def __init__(self, queries: Path | None, collection: Path | None) -> None:
        self._paths = {"query": queries, "passage": collection}
        self._read: dict[str, dict[str, str]] = {}

    def look_up(self, where: str, kind: str, name: Any) -> str:
        path = self._paths[kind]
        if path is None:
            raise InvalidInput(
                f"{where}: expected the texts of these ids; pass the files queries.tsv and collection.tsv"
            )
        if kind not in self._read:
            self._read[kind] = _tsv(path)
        if isinstance(name, bool) or not isinstance(name, int | str) or str(name) not in self._read[kind]:
            raise InvalidInput(f"{where}: {path.name} has no {kind} {name!r}")
        return self._read[kind][str(name)]


def _tsv(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for where, line in _lines(path):
        name, tab, text = line.partition("\t")
        if not tab or name in texts:
            raise InvalidInput(f"{where}: expected an id that is new, a tab and a text, found {line[:60]!r}")
        # colbert-ai writes a title after the text and does not train on it.
        texts[name] = text.partition("\t")[0]
    return texts


def _example(where: str, parsed: Any, texts: _Texts) -> Example:
    example = _triple(where, parsed, texts) if isinstance(parsed, list) else _record(where, parsed)
    for name, listed in (("query", (example.query,)), ("positive", example.positives), ("negative", example.negatives)):
        for text in listed:
            _check_text(where, name, text)
    if not example.positives:
        raise InvalidInput(f"{where}: expected at least one positive, found a query without positives")
    if both := set(example.positives) & set(example.negatives):
        raise InvalidInput(f"{where}: expected other negatives, found {min(both)[:60]!r}, which is also a positive")
    if example.scores is not None:
        _check_scores(where, example)
    return example


def _triple(where: str, parsed: list[Any], texts: _Texts) -> Example:
    if len(parsed) < 2:
        raise InvalidInput(f"{where}: expected [qid, pid of the positive, pids of negatives ...], found {parsed!r}")
    name, *passages = parsed
    scored = [isinstance(p, list) for p in passages]
    if any(scored) and not all(isinstance(p, list) and len(p) == 2 for p in passages):
        raise InvalidInput(f"{where}: expected [pid, score] for every passage, or a pid for every passage")
    pids = [p[0] for p in passages] if any(scored) else passages
    positive, *negatives = (texts.look_up(where, "passage", pid) for pid in pids)
    scores = tuple(p[1] for p in passages) if any(scored) else None
    return Example(texts.look_up(where, "query", name), (positive,), tuple(negatives), scores)


def _record(where: str, parsed: Any) -> Example:
    """An example from an object with the column names of Sentence-Transformers."""
    if not isinstance(parsed, Mapping):
        raise InvalidInput(f"{where}: expected an object or a list, found {type(parsed).__name__}")
    query = parsed.get("query", parsed.get("anchor"))
    if query is None:
        raise InvalidInput(f"{where}: expected a 'query' (or 'anchor'), found the keys {sorted(parsed)}")
    numbered = sorted((key for key in parsed if re.fullmatch(r"negative_\d+", key)), key=lambda key: int(key[9:]))
    positives = [text for key in ("positive", "positives") for text in _listed(where, key, parsed.get(key))]
    names = ("negative", "negatives", *numbered)
    negatives = [text for key in names for text in _listed(where, key, parsed.get(key))]
    scores = parsed.get("scores")
    if scores is not None and not isinstance(scores, list):
        raise InvalidInput(f"{where}: expected a list of numbers as 'scores', found {scores!r}")
    return Example(query, tuple(positives), tuple(negatives), None if scores is None else tuple(scores))


def _listed(where: str, key: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, str | list):
        raise InvalidInput(f"{where}: expected a text or a list of texts as {key!r}, found {type(value).__name__}")
    return [value] if isinstance(value, str) else value


def _check_text(where: str, name: str, text: Any) -> None:
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput(f"{where}: expected a {name} with text in it, found {text!r}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise InvalidInput(
            f"{where}: expected Unicode text as {name}, found a lone surrogate, which no tokenizer takes"
        )


def _check_scores(where: str, example: Example) -> None:
    scores, expected = example.scores or (), len(example.positives) + len(example.negatives)
    numbers = all(type(score) in (int, float) and math.isfinite(score) for score in scores)
    if len(scores) != expected or not numbers:
        raise InvalidInput(
            f"{where}: expected {expected} finite scores, the positives' first, found {len(scores)}: {scores!r:.80}"
        )


def _json_lines(path: Path) -> Iterator[tuple[str, Any]]:
    for where, line in _lines(path):
        try:
            yield where, json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(f"{where}: not JSON: {error}") from error


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """("file:line", line) per line that is not blank. Files whose name ends in .gz are unpacked."""
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if line.strip():
                    yield f"{path.name}:{number}", line
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path.name}:{number}: not UTF-8: {error}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInput(f"{path}: cannot be read after line {number}: {error}") from error

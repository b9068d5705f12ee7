"""No test in the training data: which training texts equal, or share a long run of words with, a test collection.

    python -m tools.training.leaks FILE... --data DIR

Reads training lines ({"query", "positive", "negatives"}) and every collection under DIR, all of their queries and
documents whatever their split. Two texts are equal if their letters and digits are, case aside. A shared run is one of
13 words. Prints the leaks and ends with status 1 if there are any.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from refcolbert.corpus.readers import read_jsonl
from refcolbert.errors import InvalidInput
from refcolbert.evaluation.metrics import read_queries
from tools.collections import DATA
from tools.training.sources import read_gzip

__all__ = ["SHINGLE", "TestTexts", "normalized", "shingles"]

SHINGLE = 13  # words; what GPT-3's report and later ones call an overlap
NOT_ALNUM = re.compile(r"[\W_]+")
SHORTEST = 12  # letters and digits: a shorter equality ("introduction") names no test text


def normalized(text: str) -> str:
    """Letters and digits alone, case folded: what decides whether two texts are equal."""
    return NOT_ALNUM.sub("", text.casefold())


def shingles(text: str, size: int = SHINGLE) -> Iterator[int]:
    """A hash of each run of `size` words; none of a shorter text."""
    words = [word for word in map(normalized, text.split()) if word]
    for start in range(len(words) - size + 1):
        yield hash(tuple(words[start : start + size]))


@dataclass
class TestTexts:
    """Texts of test collections, by their normalized form and by their shingles."""

    equal: dict[str, str] = field(default_factory=dict)  # normalized text -> its place
    runs: dict[int, str] = field(default_factory=dict)  # shingle -> its place

    __test__ = False  # for pytest

    @classmethod
    def read(cls, data: Path) -> "TestTexts":
        """Every query and document of every BEIR-layout folder under `data`."""
        texts = cls()
        if not any(data.glob("*/corpus.jsonl")):
            raise InvalidInput(f"expected collections in {data}, found no */corpus.jsonl there; name their folder")
        for folder in sorted(path.parent for path in data.glob("*/corpus.jsonl")):
            for name, text in read_queries(folder / "queries.jsonl").items():
                texts.add(text, f"{folder.name} query {name}")
            for where, record in read_jsonl(folder / "corpus.jsonl"):
                title, text = str(record.get("title") or ""), str(record.get("text") or "")
                for part in (title, text, f"{title} {text}"):
                    texts.add(part, f"{folder.name} {where}")
        return texts

    def add(self, text: str, where: str) -> None:
        """Watch for this text from now on."""
        key = normalized(text)
        if len(key) >= SHORTEST:
            self.equal.setdefault(key, where)
        for run in shingles(text):
            self.runs.setdefault(run, where)

    def equals(self, text: str) -> str | None:
        """The place of an equal test text, or None."""
        return self.equal.get(normalized(text))

    def overlaps(self, text: str) -> str | None:
        """The place of a test text that shares a run of words, or None."""
        return next((self.runs[run] for run in shingles(text) if run in self.runs), None)


def texts_of(record: dict[str, Any]) -> list[str]:
    """The texts of a training line."""
    return [record["query"], record["positive"], *record.get("negatives", [])]


def _find(texts: Iterable[str], look: Callable[[str], str | None]) -> list[tuple[str, str]]:
    return [(text, where) for text in texts if (where := look(text)) is not None]


def _read(path: Path) -> Iterator[dict[str, Any]]:
    rows = read_gzip(path) if path.suffix == ".gz" else read_jsonl(path)
    return (record for _, record in rows)


def report(files: Sequence[Path], test: TestTexts) -> dict[str, Any]:
    """Counts of the texts, and the leaks: pairs of a training text and the place of the test text."""
    texts = list(dict.fromkeys(text for path in files for record in _read(path) for text in texts_of(record)))
    return {
        "training texts": len(texts),
        "test texts": len(test.equal),
        "equal": _find(texts, test.equals),
        "overlaps": _find(texts, test.overlaps),
    }


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@DATA
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def main(files: tuple[Path, ...], data: Path, as_json: bool) -> None:
    """Look for test texts in training FILES."""
    leaks = report(files, TestTexts.read(data))
    equal, overlaps = leaks["equal"], leaks["overlaps"]
    click.echo(
        json.dumps(leaks, indent=1)
        if as_json
        else f"{leaks['training texts']:,} training texts, {leaks['test texts']:,} test texts: "
        f"{len(equal)} equal, {len(overlaps)} share {SHINGLE} words"
    )
    if not as_json:
        for text, where in [*equal, *overlaps][:10]:
            click.echo(f"  {where}: {text[:100]!r}")
    sys.exit(1 if equal or overlaps else 0)


if __name__ == "__main__":
    main()

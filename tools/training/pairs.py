"""Pairs of query and document, from texts that permit redistribution of what is trained on them.

A document has up to two queries: the one its source gives (a title, a question, a synopsis; some of them cut down to
keywords), and one or two sentences taken out of the document itself, which then lacks them. A few documents have more:
one or two rare words of the title, the query with a slip of the keyboard, the dotted name or command that the document
describes, the error that it explains. A pair is left out if either of its texts is in a test collection. Every text is
kept once. Seeded; the same input gives the same bytes. Beside the file comes a .json with licences and counts.
"""

import gzip
import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from tools.training.leaks import TestTexts, normalized
from tools.training.sources import SHORTEST_DOCUMENT, SOURCES, Extras

__all__ = ["KINDS", "STOP_WORDS", "Pair", "build", "pairs_of", "write_lines", "write_pairs", "write_report"]

SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
WORDS_OF_QUERY = range(7, 46)
LEAST_SENTENCES = 4  # a shorter document has none to give
# A sentence that begins so leans on the one before it, or speaks of the paper and not of the matter.
LEANING = re.compile(
    r"(this|these|those|it|its|they|their|he|she|however|moreover|furthermore|finally|additionally|also|thus|therefore|"
    r"hence|then|there|here|such|parameters|in this|in addition|we|our|key|if you|you|please|note|"
    r"for example|for more|see)\b",
    re.IGNORECASE,
)
STOPPED = """
a an and are as at be by can do does for from how in into is it of on or that the this to using via was what when
where which who why will with
"""
STOP_WORDS = frozenset(STOPPED.split())
KEYWORD_SHARE = 0.25
KINDS = ("given", "question", "keywords", "sentence", "word", "typo", "identifier", "error")
# Of the documents that can be asked so. Few explain an error.
SHARES = {"word": 0.05, "typo": 0.05, "identifier": 0.05, "error": 0.5}
LEAST_LETTERS = 5  # of a word with a slip
WORD = re.compile(r"[a-z]{5,}")


@dataclass(frozen=True, slots=True)
class Pair:
    """One training pair: query, answer, source, and the way in which the query was made."""

    query: str
    positive: str
    source: str
    kind: str  # one of KINDS


def _random(seed: int, text: str) -> random.Random:
    """A generator that hangs on the text alone, so that a new source changes no other's pairs."""
    digest = hashlib.sha256(f"{seed}\n{text}".encode()).digest()
    return random.Random(digest)  # noqa: S311 - nothing secret


def _keywords(query: str) -> str:
    """The query as somebody types it into a search box."""
    words = [word.strip("?!.,:;()\"'") for word in query.lower().split()]
    return " ".join(word for word in words if word and word not in STOP_WORDS)


def _take_sentence(text: str, draw: random.Random, named: bool) -> tuple[str, str] | None:
    """One or two sentences that stand on their own, and the text without them; never the first if it has the name."""
    sentences = SENTENCES.split(text)
    if len(sentences) < LEAST_SENTENCES:
        return None
    length = 2 if len(sentences) > LEAST_SENTENCES and draw.random() < 1 / 3 else 1
    starts = list(range(int(named), len(sentences) - length))  # never the last one: it may be cut off
    draw.shuffle(starts)
    for start in starts:
        taken = " ".join(sentences[start : start + length])
        if len(taken.split()) in WORDS_OF_QUERY and not LEANING.match(taken):
            return taken, " ".join([*sentences[:start], *sentences[start + length :]])
    return None


def _rare_words(query: str, document: str, frequency: Counter[str], draw: random.Random) -> str:
    """The one or two words of the query that the fewest documents have, in the query's order."""
    has = set(WORD.findall(document.lower()))
    words = [word for word in dict.fromkeys(WORD.findall(_keywords(query))) if word in has]
    rarest = sorted(words, key=lambda word: (frequency[word], word))[: draw.randint(1, 2)]
    return " ".join(word for word in words if word in rarest)


def _slip(query: str, draw: random.Random) -> str:
    """The query with two letters of a word swapped, one left out or one doubled; nothing if no word is long enough."""
    words = query.split()
    places = [i for i, word in enumerate(words) if len(word) >= LEAST_LETTERS and word.isalpha()]
    if not places:
        return ""
    place = draw.choice(places)
    word = words[place]
    at = draw.randrange(1, len(word) - 1)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    slips = [swapped, word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]]
    words[place] = draw.choice([slip for slip in slips if slip != word])
    return " ".join(words)


def pairs_of(
    query: str,
    document: str,
    source: str,
    seed: int,
    extras: Extras | None = None,
    frequency: Counter[str] | None = None,
) -> Iterator[Pair]:
    """The pairs of one document; `frequency` has the number of the source's documents with a word."""
    query, document = " ".join(query.split()), " ".join(document.split())
    draw = _random(seed, document)
    wanted = draw.random() < KEYWORD_SHARE
    taken = _take_sentence(document, draw, named=bool(extras))
    if taken is not None and len(taken[1]) >= SHORTEST_DOCUMENT:
        sentence, document = taken
        yield Pair(sentence, document, source, "sentence")
    short = _keywords(query)
    if wanted and len(short.split()) > 1:
        yield Pair(short, document, source, "keywords")
    else:
        yield Pair(query, document, source, "question" if query.endswith("?") else "given")
    more = {
        "word": _rare_words(query, document, frequency or Counter(), draw),
        "typo": _slip(query, draw),
        **(extras or {}),
    }
    for kind, share in SHARES.items():
        if draw.random() < share and (asked := more.get(kind)):
            yield Pair(asked, document, source, kind)


def build(train: Path, test: TestTexts, seed: int) -> tuple[list[Pair], dict[str, Counter[str]]]:
    """Every pair, and counts by source: of each kind, and of what was left out and why."""
    kept: list[Pair] = []
    counts: dict[str, Counter[str]] = {}
    seen: set[str] = set()  # normalized queries and documents
    for source in SOURCES:
        count = counts[source.name] = Counter()
        if source.optional and not (train / f"{source.name}.jsonl.gz").is_file():
            count["left out: no file"] = 1
            continue
        rows = list(source.read(train))
        frequency = Counter(word for _, document, _ in rows for word in set(WORD.findall(document.lower())))
        for query, document, extras in rows:
            key = normalized(document)
            if key in seen or len(document) < SHORTEST_DOCUMENT:
                count["left out: short or again"] += 1
                continue
            seen.add(key)
            found = list(pairs_of(query, document, source.name, seed, extras, frequency))
            if any(test.equals(text) or test.overlaps(text) for pair in found for text in (pair.query, pair.positive)):
                count["left out: in a test collection"] += 1
                continue
            for pair in found:
                if (asked := normalized(pair.query)) in seen or not asked:
                    count["left out: query again"] += 1
                else:
                    seen.add(asked)
                    kept.append(pair)
                    count[pair.kind] += 1
    return kept, counts


def write_lines(path: Path, records: Iterable[dict[str, object]]) -> None:
    """A gzipped JSONL file whose bytes depend on its content alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    with beside.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        for record in records:
            file.write((json.dumps(record, ensure_ascii=False) + "\n").encode())
    beside.replace(path)


def write_report(out: Path, about: dict[str, object]) -> None:
    """Write a .json beside `out` with its hash and `about`, and print it."""
    text = json.dumps({**about, "sha256": hashlib.sha256(out.read_bytes()).hexdigest()}, indent=1)
    out.with_suffix(".json").write_text(text + "\n")
    click.echo(text)


def write_pairs(train: Path, data: Path, out: Path, seed: int = 0) -> None:
    """Write the pairs of the texts in `train`, without those of the test collections in `data`, and their report."""
    pairs, counts = build(train, TestTexts.read(data), seed)
    write_lines(out, map(asdict, pairs))
    licences = {s.name: {"licence": s.licence, "origin": s.origin, **counts[s.name]} for s in SOURCES}
    write_report(out, {"pairs": len(pairs), "seed": seed, "sources": licences})

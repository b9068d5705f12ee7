"""BM25 over our inverted lists and in a full-text table of SQLite, on a collection grown from real sentences.

    python -m tools.bench.words [NAME ...] [--data DIR] [--documents 100000] [--queries 200]

A document has SENTENCES sentences of two random documents of the collections NAME. The table keeps no texts
(content=''), and is optimized before it is searched. A query asks for the best K documents that have one of its words.
Both answer each query in turn, after one round that is not counted.
"""

import re
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from refcolbert.encoding.words import WORD, WordTokenizer
from refcolbert.engine.bm25 import best_by_words, query_terms, weigh
from refcolbert.engine.segments import Segment, SegmentedIndex
from refcolbert.engine.terms import TermLists, join
from refcolbert.storage.format import row_type
from refcolbert.storage.segment_files import RUN_TEXTS
from tools.collections import DATA, load

SENTENCES, K = 8, 100
TOKENIZER = WordTokenizer("porter")
MATCH = "SELECT rowid FROM texts WHERE texts MATCH ? ORDER BY bm25(texts) LIMIT ?"


def grown(texts: list[str], n: int) -> list[str]:
    """`n` documents; every second sentence is of the same text."""
    sentences, rng = [re.split(r"(?<=[.?!])\s+", text) for text in texts], np.random.default_rng(0)
    parents = np.tile(rng.integers(0, len(texts), (n, 2)), SENTENCES // 2)  # [n, SENTENCES]
    chosen = rng.random(parents.shape)
    return [
        " ".join(sentences[i][int(x * len(sentences[i]))] for i, x in zip(*row, strict=True))
        for row in zip(parents.tolist(), chosen.tolist(), strict=True)
    ]


def lists_of(texts: list[str]) -> TermLists:
    """The lists of these texts, as an index stores them."""
    runs = [TOKENIZER.lists(texts[i : i + RUN_TEXTS]) for i in range(0, len(texts), RUN_TEXTS)]
    return join([(run, np.ones(len(run.lengths), np.bool_)) for run in runs])


def table_of(texts: list[str], path: Path) -> sqlite3.Connection:
    """A full-text table of these texts in a file."""
    table = sqlite3.connect(path)
    table.execute("CREATE VIRTUAL TABLE texts USING fts5(text, content='', tokenize='porter unicode61')")
    table.executemany("INSERT INTO texts(rowid, text) VALUES (?, ?)", enumerate(texts))
    table.execute("INSERT INTO texts(texts) VALUES ('optimize')")
    table.commit()
    return table


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@DATA
@click.option("--documents", "n", default=100_000, show_default=True)
@click.option("--queries", "n_queries", default=200, show_default=True)
def main(names: tuple[str, ...], data: Path, n: int, n_queries: int) -> None:
    """Print milliseconds per query, seconds of the build and bytes per document of both."""
    collections = [load(data, name) for name in names or ("cisi", "cranfield", "medline", "scifact")]
    texts = grown([text for collection in collections for text in collection.texts], n)
    queries = [query for collection in collections for query in collection.queries.values()]
    queries = np.random.default_rng(0).permutation(queries)[:n_queries].tolist()
    print(f"{n:,} documents, {np.mean([len(text.encode()) for text in texts]):.0f} bytes each, {len(queries)} queries")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        lists = lists_of(texts)
        between = time.perf_counter()
        table = table_of(texts, Path(folder, "fts5.sqlite"))
        seconds = {"lists": between - start, "FTS5": time.perf_counter() - between}
        stored = [getattr(lists, name).nbytes for name in lists.__slots__ if name != "documents"]
        size = sum(stored) + len(lists.documents) * row_type(n).itemsize
        sizes = {"lists": size, "FTS5": Path(folder, "fts5.sqlite").stat().st_size}
        for name in seconds:
            print(f"{name}: built in {seconds[name]:.1f} s, {sizes[name] / n:.0f} bytes per document")
        live, vectors = np.ones(n, np.bool_), np.zeros((n, 1), np.float16)  # vectors of no meaning
        segment = Segment(np.arange(n), np.arange(n + 1), live, 0.0, vectors, None, None, lists)
        index, cut = SegmentedIndex(1, None, (segment,)), {query: TOKENIZER.terms(query) for query in queries}
        searches: dict[str, Callable[[str], Any]] = {
            "cutting the query": TOKENIZER.terms,
            "lists": lambda query: best_by_words(query_terms(weigh(cut[query], index), index), index, K, live),
            "FTS5": lambda q: table.execute(MATCH, (" OR ".join(f'"{w}"' for w in WORD.findall(q)), K)).fetchall(),
        }
        times: dict[str, list[float]] = {name: [] for name in searches}
        for query in [*queries, *queries]:
            for name, search in searches.items():
                start = time.perf_counter()
                search(query)
                times[name].append(1e3 * (time.perf_counter() - start))
        for name, milliseconds in times.items():
            p50, p95 = np.percentile(milliseconds[len(queries) :], [50, 95])
            print(f"{name}: p50 {p50:.2f} ms, p95 {p95:.2f} ms")
        table.close()


if __name__ == "__main__":
    main()

"""Queries that are an identifier or a number, in the docstrings of Python's standard library: nDCG@10 by mode.

    python -m tools.compare.identifiers [--work DIR] [--queries 150]

Judgements follow from the texts. A name of five letters or more that few docstrings define or mention asks for these
docstrings; a number of three digits or more ("RFC 2104", "ISO 8601") for the docstrings that have it. Such queries are
what a search by words is for: the table shows how much of its answer a hybrid search keeps.
"""

import re
from pathlib import Path

import click
import numpy as np

from refcolbert import Index
from refcolbert.corpus.stdlib_docstrings import standard_library_docstrings
from refcolbert.evaluation.metrics import Qrels, evaluate, run_of
from tools.compare.tables import markdown

MODES = ("late", "words", "hybrid")
MOST = 10  # documents with the identifier
NAME, NUMBER = re.compile(r"[A-Za-z_]\w*"), re.compile(r"\b\d{3,}\b")


def judged(texts: dict[str, str], pattern: re.Pattern[str], wanted: set[str], n: int) -> Qrels:
    """Return n of the wanted words, drawn with a seed, each with the documents that have it: at most MOST."""
    found: Qrels = {}
    for name, text in texts.items():
        for word in set(pattern.findall(text)) & wanted:
            found.setdefault(word, {})[name] = 1
    few = sorted(word for word, documents in found.items() if len(documents) <= MOST)
    return {few[i]: found[few[i]] for i in np.random.default_rng(0).permutation(len(few))[:n].tolist()}


@click.command()
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), default=Path(".cache/identifiers"))
@click.option("--queries", "n", default=150, show_default=True, help="Of each kind, at most.")
def main(work: Path, n: int) -> None:
    """Index the docstrings, and print one row per kind of query and mode."""
    documents = standard_library_docstrings()
    texts = {document.id: document.text or "" for document in documents}
    path = work / "docstrings"
    work.mkdir(parents=True, exist_ok=True)
    index = Index.open(path) if path.exists() else Index.build(path, documents, progress=True)
    names = {part for name in texts for part in name.split(".") if len(part) >= 5}
    numbers = {number for text in texts.values() for number in NUMBER.findall(text)}
    rows = []
    for kind, pattern, wanted in (("identifier", NAME, names), ("number", NUMBER, numbers)):
        qrels = judged(texts, pattern, wanted, n)
        for mode in MODES:
            run = run_of(list(qrels), index.search_many(list(qrels), 100, mode=mode, threads=2))
            metrics = evaluate(run, qrels, ["nDCG@10", "MRR@10", "Recall@100"])
            rows.append([kind, str(len(qrels)), mode, *(f"{value:.3f}" for value in metrics.values())])
    click.echo(f"{len(documents):,} docstrings\n\n" + markdown(["query", "queries", "mode", *metrics], rows))


if __name__ == "__main__":
    main()

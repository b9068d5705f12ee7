"""Text in, hits out: the time of encoding a query and of searching for it, by model and by settings.

    python -m tools.bench.end_to_end [NAMES ...] --data DIR [--work DIR] [--model MODEL ...] [--queries 60] [--record]

Collections NAMES are one index of 4 bits per model, with texts and words. MODEL is `default`, `small`, a folder or a
hub id; A+B encodes documents with A and queries with B. Queries are judged ones, drawn with a seed, equally many of
each collection. Recall is against exact MaxSim on float32 vectors, nDCG@10 by the judgements. Each round takes all
models and settings in turn, so that a slow minute of the machine meets all of them; a line has the median and the 95th
percentile over all rounds. --record writes the table to benchmarks/18-end-to-end.json.

The work folder keeps the vectors, the exact answers and the indexes, by the content hash of the model.
"""

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

from refcolbert import Document, Encoder, Index, Ragged
from refcolbert.engine.maxsim import scores
from refcolbert.engine.topk import top_k
from refcolbert.evaluation.metrics import Qrels, evaluate
from tools.bench.pages import record
from tools.bench.vectors import WORK
from tools.collections import DATA, Collection, load

__all__ = ["COLUMNS", "Joined", "Model", "Times", "asked"]

NAMES = ("adi", "medline", "cranfield", "cisi", "xquad_en")
K, WARM = 10, 3
SETTINGS = ((2, 96), (4, 256), (8, 512), (16, 1024))  # nprobe, candidates; the last is the default
COLUMNS = [
    "model",
    "columns",
    "bytes per token",
    "nprobe",
    "candidates",
    "recall@10",
    "nDCG@10",
    "encoding, p50 ms",
    "search, p50 ms",
    "together, p50 ms",
    "p95 ms",
]


@dataclass(frozen=True, slots=True)
class Joined:
    """Collections as one, their ids behind their names."""

    documents: list[Document]
    queries: dict[str, str]
    qrels: Qrels


@dataclass(slots=True)
class Times:
    """Milliseconds of all queries of all rounds, and the ids found in the last round."""

    encoding: list[float] = field(default_factory=list)
    search: list[float] = field(default_factory=list)
    found: dict[str, list[str]] = field(default_factory=dict)


def asked(collections: Sequence[Collection], n_queries: int) -> Joined:
    """The documents of all collections, and a sample of their judged queries."""
    documents, queries, qrels = [], {}, {}
    for collection in collections:
        name = collection.name
        documents += [Document(id=f"{name}/{d.id}", text=d.text) for d in collection.documents]
        keys = list(collection.queries)
        share = -(-n_queries // len(collections))
        for i in np.sort(np.random.default_rng(0).permutation(len(keys))[:share]):
            key = keys[i]
            queries[f"{name}/{key}"] = collection.queries[key]
            qrels[f"{name}/{key}"] = {f"{name}/{d}": grade for d, grade in collection.qrels[key].items()}
    return Joined(documents, queries, qrels)


class Model:
    """One model with its index of the collections and the exact answers."""

    def __init__(self, name: str, joined: Joined, work: Path) -> None:
        """Encode, scan and build what the work folder lacks."""
        names = name.split("+")  # of documents, of queries if it is another one
        encoder, *others = (Encoder.load(None if each == "default" else each) for each in names)
        self.name, self.joined = "+".join(Path(each).name for each in names), joined
        self.encoder = others[0] if others else encoder  # of queries
        folder = work / f"end-to-end-{encoder.hash[:12]}-{len(joined.documents)}"
        folder.mkdir(parents=True, exist_ok=True)
        vectors, offsets, index = folder / "vectors.npy", folder / "offsets.npy", folder / "index"
        if not offsets.is_file():
            encoded = encoder.encode_documents([d.text or "" for d in joined.documents], progress=True)
            np.save(vectors, encoded.vectors)
            np.save(offsets, encoded.offsets)
        documents = Ragged(np.load(vectors, mmap_mode="r"), np.load(offsets))
        if not index.is_dir():
            rows = iter(documents)
            Index.build(index, joined.documents, vectors=rows, dim=encoder.dim, words="porter", train_at=1).close()
        self.index = Index.open(index, verify="fast")
        self.bytes_per_token = self.index.info()["bytes"] / len(documents.vectors)
        queries = self.encoder.encode_queries(list(joined.queries.values()))
        self.truth = [{joined.documents[i].id for i in top_k(scores(q, documents), K)} for q in queries]
        self.times: defaultdict[tuple[int, int], Times] = defaultdict(Times)

    def ask(self, nprobe: int, candidates: int) -> None:
        """Encode and search for every query, after some that do not count."""
        times, queries = self.times[nprobe, candidates], self.joined.queries
        for i, (key, text) in enumerate([*list(queries.items())[:WARM], *queries.items()]):
            start = time.perf_counter()
            (q,) = self.encoder.encode_queries([text])
            encoded = time.perf_counter()
            hits = self.index.search(q, K, nprobe=nprobe, candidates=candidates)
            searched = time.perf_counter()
            times.found[key] = [hit.id for hit in hits]
            if i >= WARM:
                times.encoding.append(1e3 * (encoded - start))
                times.search.append(1e3 * (searched - encoded))

    def line(self, nprobe: int, candidates: int) -> list[str | int | float]:
        """The row of the table."""
        times = self.times[nprobe, candidates]
        together = np.add(times.encoding, times.search)
        found = (set(times.found[key]) for key in self.joined.queries)
        shares = [len(best & ids) / len(best) for best, ids in zip(self.truth, found, strict=True)]
        run = {key: {d: -float(rank) for rank, d in enumerate(ids)} for key, ids in times.found.items()}
        return [
            self.name,
            self.encoder.dim,
            round(self.bytes_per_token, 1),
            nprobe,
            candidates,
            round(float(np.mean(shares)), 3),
            round(evaluate(run, self.joined.qrels)["nDCG@10"], 3),
            *(round(float(np.percentile(values, 50)), 1) for values in (times.encoding, times.search, together)),
            round(float(np.percentile(together, 95)), 1),
        ]


@click.command()
@click.argument("names", nargs=-1)
@DATA
@WORK
@click.option("--model", "models", multiple=True, default=["default"], show_default=True)
@click.option("--queries", "n_queries", default=60, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--record", "recorded", is_flag=True, help="Write the table to benchmarks/.")
def main(
    names: tuple[str, ...],
    data: Path,
    work: Path,
    models: tuple[str, ...],
    n_queries: int,
    rounds: int,
    recorded: bool,
) -> None:
    """Ask collections NAMES with each MODEL."""
    joined = asked([load(data, name) for name in names or NAMES], n_queries)
    measured = [Model(name, joined, work) for name in models]
    click.echo(f"{len(joined.documents):,} documents, {len(joined.queries)} queries, {os.cpu_count()} cores")
    for _ in range(rounds):
        for model in measured:
            for setting in SETTINGS:
                model.ask(*setting)
    rows = [model.line(*setting) for model in measured for setting in SETTINGS]
    click.echo(f"| {' | '.join(COLUMNS)} |\n|---|{'--:|' * (len(COLUMNS) - 1)}")
    for row in rows:
        click.echo(f"| {' | '.join(map(str, row))} |")
    if recorded:
        record("18-end-to-end.json", rows)


if __name__ == "__main__":
    main()

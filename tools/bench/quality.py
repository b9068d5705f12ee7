"""Quality of one model on judged collections: exact scan and IVF side by side.

    python -m tools.bench.quality cranfield cisi medline

Each row is one way to hold and search the same vectors; metrics by ir-measures.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import click

from refcolbert import Encoder, Index
from refcolbert.evaluation.metrics import METRICS, evaluate, run_of
from tools.collections import DATA, Collection, load

DEPTH = 100  # of the runs: Recall@100 needs it

# name -> (options of Index.create, options of search)
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "float32, exact": ({"nbits": "float32"}, {"exact": True}),
    "4 bits, exact": ({"nbits": 4, "train_at": 1}, {"exact": True}),
    "4 bits, IVF": ({"nbits": 4, "train_at": 1}, {}),
    "2 bits, IVF": ({"nbits": 2, "train_at": 1}, {}),
    "1 bit, IVF": ({"nbits": 1, "train_at": 1}, {}),
    "4 bits, pooled 2": ({"nbits": 4, "train_at": 1, "pool_factor": 2}, {}),
    "4 bits, pooled 3": ({"nbits": 4, "train_at": 1, "pool_factor": 3}, {}),
}


@click.command()
@click.argument("names", nargs=-1, required=True)
@DATA
@click.option("--model", help="Model folder or hub id; default: the default model.")
@click.option("--split", default="test", show_default=True)
def main(names: tuple[str, ...], data: Path, model: str | None, split: str) -> None:
    """Index collections NAMES, run their queries, print the metrics."""
    encoder = Encoder.load(model)
    click.echo(f"{'collection':22} {'vectors':16}" + "".join(f"{m:>9}" for m in METRICS) + "   ms/query  bytes/token")
    for name in names:
        _measure(load(data, name, split), encoder)


def _measure(collection: Collection, encoder: Encoder) -> None:
    vectors = encoder.encode_documents(collection.texts)
    queries = encoder.encode_queries(list(collection.queries.values()))
    for way, (holding, searching) in WAYS.items():
        with tempfile.TemporaryDirectory() as folder:
            index = Index.create(Path(folder) / "index", encoder, **holding)
            index.add(collection.documents, vectors=vectors)
            start = time.perf_counter()
            run = run_of(list(collection.queries), index.search_many(queries, DEPTH, **searching))
            each = (time.perf_counter() - start) / len(queries) * 1e3
            info = index.info()
        found = evaluate(run, collection.qrels)
        figures = "".join(f"{found[metric]:9.4f}" for metric in METRICS)
        click.echo(f"{collection.name:22} {way:16}{figures} {each:10.1f} {info['bytes'] / info['tokens']:12.1f}")


if __name__ == "__main__":
    main()

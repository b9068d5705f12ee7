"""What each switch of an encoding is worth: the same weights without [MASK] expansion, with punctuation, narrower.

    python -m tools.training.ablations MODEL --data DIR [--collection NAME ...] [--json ablations.json]

Only the encoding differs, not the training: a model trained without a switch may do better without it. Documents are
encoded once with their punctuation rows, which are then left out everywhere else. Fewer dimensions are the leading
directions of the collection's document vectors; bits are those of an index. Exact MaxSim throughout.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from refcolbert import Encoder, Index
from refcolbert.encoding.spec import EncodingSpec
from refcolbert.engine.ragged import Ragged, offsets_of
from refcolbert.evaluation.metrics import METRICS, evaluate, run_of
from tools.collections import DATA, Collection, load
from tools.training.quality import DEPTH, Figures, table

__all__ = ["ablate", "leading", "variant"]

Queries = list[NDArray[np.float32]]  # [n_q, dim] each

SHORT = 32  # tokens of a query: what ColBERT's checkpoints are cut at
DIMS = (96, 64, 32)
BITS = (4, 2)


def variant(folder: Path, spec: EncodingSpec, out: Path) -> Encoder:
    """The model of `folder` with another encoding, in the new folder `out`."""
    shutil.copytree(folder, out)
    (out / "encoding.json").write_text(spec.to_json())
    return Encoder.load(out)


def specs(spec: EncodingSpec) -> dict[str, EncodingSpec]:
    """Name -> the encoding with one thing about queries changed."""
    cut = min(SHORT, spec.query_length)
    return {
        "without [MASK] expansion": replace(spec, expansion_id=None, expansion_length=None, pad_expands=False),
        f"queries cut at {cut} tokens": replace(
            spec, query_length=cut, expansion_length=min(spec.expansion_length or cut, cut)
        ),
    }


def without_punctuation(encoder: Encoder, texts: list[str], everything: Ragged) -> Ragged:
    """The rows that `encoder` keeps, of vectors that were encoded with an empty skiplist."""
    kept = [tokens.keep for tokens in encoder.tokenizer.documents(texts)]  # [n_d] each
    return Ragged(everything.vectors[np.concatenate(kept)], offsets_of([int(keep.sum()) for keep in kept]))


def leading(documents: Ragged, dim: int) -> NDArray[np.float32]:  # -> [documents.dim, dim]
    """The directions in which the vectors' second moment is largest: the projection that changes products least."""
    vectors = documents.vectors.astype(np.float64)  # [n_tokens, documents.dim]
    _, directions = np.linalg.eigh(vectors.T @ vectors)  # eigenvalues ascending
    found: NDArray[np.float32] = directions[:, : -dim - 1 : -1].astype(np.float32)
    return found


def _narrower(vectors: NDArray[np.float32], directions: NDArray[np.float32]) -> NDArray[np.float32]:
    """[n, dim], [dim, narrow] -> [n, narrow] of norm one."""
    found: NDArray[np.float32] = vectors @ directions
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return found


def _narrow(queries: Queries, documents: Ragged, dim: int) -> tuple[Queries, Ragged, int | str]:
    directions = leading(documents, dim)
    narrow = Ragged(_narrower(documents.vectors, directions), documents.offsets)
    return [_narrower(q, directions) for q in queries], narrow, "float32"


def _measure(collection: Collection, queries: Queries, documents: Ragged, nbits: int | str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        holding: dict[str, Any] = {"nbits": nbits} if nbits == "float32" else {"nbits": nbits, "train_at": 1}
        index = Index.create(Path(folder) / "index", dim=documents.dim, **holding)
        index.add(collection.documents, vectors=documents)
        answers = index.search_many(queries, DEPTH, exact=True)
    return evaluate(run_of(list(collection.queries), answers), collection.qrels)


def ablate(encoder: Encoder, others: Mapping[str, Encoder], plain: Encoder, collection: Collection) -> Figures:
    """Metrics of the model as it is, of each other encoding of queries, with punctuation (`plain`), narrow, in bits."""
    texts, asked = collection.texts, list(collection.queries.values())
    everything = plain.encode_documents(texts, progress=True)
    documents, queries = without_punctuation(encoder, texts, everything), encoder.encode_queries(asked)
    rows: dict[str, tuple[Queries, Ragged, int | str]] = {
        "as it is": (queries, documents, "float32"),
        **{name: (other.encode_queries(asked), documents, "float32") for name, other in others.items()},
        "punctuation kept": (queries, everything, "float32"),
        **{f"{dim} dimensions": _narrow(queries, documents, dim) for dim in DIMS if dim < encoder.dim},
        **{f"{nbits} bits": (queries, documents, nbits) for nbits in BITS},
    }
    return {name: {collection.name: _measure(collection, *row)} for name, row in rows.items()}


@click.command()
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@DATA
@click.option("--collection", "names", multiple=True, default=("cranfield", "cisi", "medline"), show_default=True)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here, too.")
def main(model: Path, data: Path, names: tuple[str, ...], out: Path | None) -> None:
    """Measure MODEL with each switch of its encoding changed."""
    figures: Figures = {}
    with tempfile.TemporaryDirectory() as scratch:
        encoder = Encoder.load(model)
        spec = encoder.spec
        others = {
            name: variant(model, other, Path(scratch) / str(i)) for i, (name, other) in enumerate(specs(spec).items())
        }
        plain = variant(model, replace(spec, skiplist=()), Path(scratch) / "plain")
        for name in names:
            for row, found in ablate(encoder, others, plain, load(data, name)).items():
                figures.setdefault(row, {}).update(found)
    for metric in METRICS:
        click.echo(table(figures, metric) + "\n")
    if out is not None:
        out.write_text(json.dumps({"figures": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()

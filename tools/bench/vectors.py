"""Real token vectors for the benchmarks: judged collections encoded once, kept as .npy, joined into one corpus.

    python -m tools.bench.vectors [NAMES ...] --data DIR [--work DIR]

WORK/encoded/NAME holds one collection, WORK/all (or the names, joined by +) the corpus: vectors.npy [n_tokens, dim]
float32, tokens.npy [n_tokens] int32 (vocabulary ids), offsets.npy [n_docs + 1] int64, queries.npy [n_queries, n_q, dim]
float32, judgements.json (of each query: document number -> relevance). Each collection gives equally many queries,
drawn with a seed from the judged ones that fit into the expansion length of the model: all have as many rows then,
which is how the peers were made to be asked.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from refcolbert import Encoder, Ragged
from refcolbert.arrays import Floats
from refcolbert.engine.ragged import offsets_of
from refcolbert.errors import InvalidInput
from tools.collections import DATA, Collection, load

__all__ = ["NAMES", "WORK", "Corpus", "corpus_in", "encode", "folder_of", "gather", "write_corpus", "write_tokens"]

NAMES = ("adi", "cisi", "cranfield", "medline", "msmarco_dev_positives", "scifact", "xquad_en")

QUERIES = "queries.npz"
SHARD = 256  # documents encoded at a time
POOL = 100  # queries encoded of each collection, at most
WORK = click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".cache/bench"),
    show_default=True,
    help="Folder of what was encoded, built and measured.",
)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Documents and judged queries as vectors, mapped from their folder."""

    folder: Path
    documents: Ragged
    queries: Floats  # [n_queries, n_q, dim]
    judgements: list[dict[int, int]]  # of each query: document number -> relevance


def corpus_in(folder: Path) -> Corpus:
    """The corpus that `write_corpus` left in a folder."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")  # [n_tokens, dim]
    judged = json.loads((folder / "judgements.json").read_text())
    judgements = [{int(number): grade for number, grade in query.items()} for query in judged]
    documents = Ragged(vectors, np.load(folder / "offsets.npy"))
    return Corpus(folder, documents, np.load(folder / "queries.npy"), judgements)


def write_corpus(folder: Path, documents: Ragged, queries: Floats, judgements: list[dict[int, int]]) -> Corpus:
    """Write a corpus; corpus.json comes last, so a folder that has it has all but the token ids (`write_tokens`)."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "vectors.npy", documents.vectors)
    np.save(folder / "offsets.npy", documents.offsets)
    np.save(folder / "queries.npy", queries)
    (folder / "judgements.json").write_text(json.dumps(judgements))
    about = {"documents": len(documents), "tokens": len(documents.vectors), "dim": documents.dim}
    (folder / "corpus.json").write_text(json.dumps({**about, "queries": len(queries)}))
    return corpus_in(folder)


def folder_of(names: Sequence[str], work: Path) -> Path:
    """The folder of the corpus of these collections."""
    return work / ("all" if set(names) == set(NAMES) else "+".join(names))


def gather(names: Sequence[str], data: Path, work: Path, model: str | None = None, n_queries: int = 200) -> Corpus:
    """The corpus of these collections, encoded and written where it is not yet there."""
    folder = folder_of(names, work)
    corpus = corpus_in(folder) if (folder / "corpus.json").is_file() else None
    if corpus is None or not (folder / "tokens.npy").is_file():
        collections = [load(data, name) for name in names]
        if corpus is None:
            for collection in collections:
                encode(collection, work / "encoded" / collection.name, model)
            corpus = _join(collections, folder, work, n_queries)
        write_tokens(corpus, [text for collection in collections for text in collection.texts], model)
    return corpus


def write_tokens(corpus: Corpus, texts: Sequence[str], model: str | None) -> None:
    """Write the vocabulary id of each token that has a vector: tokenizing again costs little beside encoding."""
    kept = [tokens.ids[tokens.keep] for tokens in Encoder.load(model).tokenizer.documents(texts)]
    if [len(ids) for ids in kept] != corpus.documents.lengths.tolist():
        raise InvalidInput(
            f"expected the texts and the model that {corpus.folder} was made of, found {len(kept)} texts whose tokens "
            "do not fit its vectors; name both, or delete the folder"
        )
    beside = corpus.folder / "tokens.part.npy"
    np.save(beside, np.concatenate(kept).astype(np.int32))
    beside.replace(corpus.folder / "tokens.npy")


def encode(collection: Collection, folder: Path, model: str | None) -> None:
    """Write the missing vectors, some documents at a time: an interrupted run continues there."""
    folder.mkdir(parents=True, exist_ok=True)
    encoder: Encoder | None = None
    for name, texts in _shards(collection).items():
        if not (folder / name).is_file():
            encoder = encoder or Encoder.load(model)
            part = folder / f"part-{name}"
            if name == QUERIES:
                numbers, vectors = _equal_rows(encoder.encode_queries(texts), encoder.spec.expansion_length)
                np.savez(part, numbers=numbers, vectors=vectors)
            else:
                found = encoder.encode_documents(texts)
                np.savez(part, vectors=found.vectors, offsets=found.offsets)
            part.rename(folder / name)
            click.echo(f"{collection.name} {name}")


def _equal_rows(queries: Sequence[Floats], n_rows: int | None) -> tuple[NDArray[np.int64], Floats]:
    """Queries with `n_rows` rows, None: as many as most have. Their numbers [n] and vectors [n, n_rows, dim]."""
    counts = np.array([len(q) for q in queries])  # [n_queries]
    numbers = np.flatnonzero(counts == (np.bincount(counts).argmax() if n_rows is None else n_rows))
    if not len(numbers):
        raise InvalidInput(f"no query has {n_rows} rows, the model's expansion length; found {min(counts)} and more")
    return numbers, np.stack([queries[int(i)] for i in numbers])


def _sample(collection: Collection) -> list[str]:
    """Names of judged queries, in an order drawn with a seed."""
    names = list(collection.queries)
    return [names[i] for i in np.random.default_rng(0).permutation(len(names))[:POOL]]


def _shards(collection: Collection) -> dict[str, list[str]]:
    """File name -> the texts whose vectors it holds."""
    texts = collection.texts
    shards = {f"{first:07}.npz": texts[first : first + SHARD] for first in range(0, len(texts), SHARD)}
    return {**shards, QUERIES: [collection.queries[name] for name in _sample(collection)]}


def _join(collections: Sequence[Collection], folder: Path, work: Path, n_queries: int) -> Corpus:
    """All collections in one corpus, their documents numbered through."""
    parts, judged, queries, first = [], [], [], 0
    for i, collection in enumerate(collections):
        encoded = work / "encoded" / collection.name
        parts += [np.load(encoded / name) for name in _shards(collection) if name != QUERIES]
        number = {document.id: first + j for j, document in enumerate(collection.documents)}
        first += len(number)
        share = n_queries // len(collections) + (i < n_queries % len(collections))
        asked, sample = np.load(encoded / QUERIES), _sample(collection)
        queries.append(asked["vectors"][:share])  # [n, n_q, dim]
        grades = [collection.qrels[sample[i]] for i in asked["numbers"][:share]]
        judged += [{number[d]: grade for d, grade in known.items() if d in number} for known in grades]
    lengths = np.concatenate([np.diff(part["offsets"]) for part in parts])  # [n_docs]
    documents = Ragged(np.concatenate([part["vectors"] for part in parts]), offsets_of(lengths))
    return write_corpus(folder, documents, np.concatenate(queries), judged)


@click.command()
@click.argument("names", nargs=-1)
@DATA
@WORK
@click.option("--model", help="Model folder or hub id; default: the default model.")
@click.option("--queries", "n_queries", default=200, show_default=True)
def main(names: tuple[str, ...], data: Path, work: Path, model: str | None, n_queries: int) -> None:
    """Encode collections NAMES (default: all) and join them."""
    corpus = gather(names or NAMES, data, work, model, n_queries)
    click.echo(f"{corpus.folder}: {len(corpus.documents):,} documents, {len(corpus.documents.vectors):,} tokens")


if __name__ == "__main__":
    main()

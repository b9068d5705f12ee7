"""Fusion of MaxSim scores with BM25 scores of words, on judged collections. Prints Markdown tables.

    python -m tools.compare.fusion [NAMES ...] --data DIR --work DIR [--model MODEL] [--queries 400] [--changed 80]

NAMES are folders of DIR in BEIR's layout. The work folder keeps the vectors of the documents and the MaxSim scores for
the next run.

Each query gets a pool: the first documents by MaxSim and the first by BM25. A rule maps the two exact scores of a
document of the pool to one number. Rules that have constants are chosen on a grid, by the mean nDCG@10 over the
collections. The column "left out" chooses the constants without the collection that they are then measured on.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import click
import numpy as np

from refcolbert import Encoder
from refcolbert.arrays import Array, Doubles, Ints
from refcolbert.engine.maxsim import scores
from refcolbert.engine.ragged import Ragged
from tools.collections import DATA, Collection, load
from tools.compare.words import Terms, Words, rarest_word, with_typo

COLLECTIONS = ("scifact", "cranfield", "cisi", "medline", "msmarco_dev_positives", "adi", "xquad_en")
TOP, DEPTH = 10, 100  # ranks that count; documents of each list in a pool
W, W_TRIGRAMS = 0.2, 0.05  # the weight of a BM25 point, where no rule chooses it
DEPTHS = (10, 20, 50, 100, 200, 1000)
BM25 = ((1.2, 0.75), (0.9, 0.4), (1.2, 0.4), (1.5, 0.75), (2.0, 0.75))  # k1, b
FREQUENT = 50  # a word gets no typo if it is one of the most frequent


@dataclass(frozen=True)
class Judged:
    """Scores of all documents for the judged queries of a collection, and their gains."""

    late: Doubles  # [n_queries, n_docs]
    words: Doubles  # [n_queries, n_docs]
    gains: Doubles  # [n_queries, n_docs]
    ideal: Doubles  # [n_queries] the best possible DCG
    n_q: Doubles  # [n_queries, 1] rows of the query
    bound: Doubles  # [n_queries, 1] no document can have a higher BM25 score
    n_terms: Doubles  # [n_queries, 1] terms of the query, at least 1

    def pool(self, depth: int = DEPTH) -> "Pool":
        """Return the documents that are among the first `depth` of either list, with a shared word in the second."""
        late_rank, words_rank = _ranks(self.late), np.where(self.words > 0, _ranks(self.words), np.inf)
        inside = (late_rank < depth) | (words_rank < depth)
        rows, columns = np.nonzero(inside)
        width = inside.sum(axis=1)  # [n_queries]
        places = np.arange(len(rows)) - np.repeat(np.cumsum(width) - width, width)

        def taken(values: Array) -> Doubles:
            out = np.zeros((len(width), width.max()))
            out[rows, places] = values[rows, columns]
            return out

        late, words, gains = taken(self.late), taken(self.words), taken(self.gains)
        best = np.maximum(self.words.max(axis=1, keepdims=True), 1e-9)
        return Pool(self, depth, taken(inside) > 0, late, words, gains, taken(late_rank), taken(words_rank), best)


@dataclass(frozen=True)
class Pool:
    """Scores of the documents of the pools, in the order of their numbers: [n_queries, width]."""

    of: Judged
    depth: int
    inside: Array  # false for the filling of a short pool
    late: Doubles
    words: Doubles
    gains: Doubles
    late_rank: Doubles  # from 0
    words_rank: Doubles  # infinite for a document without a shared word
    best: Doubles  # [n_queries, 1] the highest BM25 score of the collection

    def ndcg(self, fused: Doubles) -> float:
        """Return the mean nDCG@10. Equal scores are ordered by document number."""
        order = np.argsort(-np.where(self.inside, fused, -np.inf), axis=1, kind="stable")[:, :TOP]
        gains = np.take_along_axis(self.gains, order, axis=1)  # [n_queries, TOP]
        return float(((gains / np.log2(np.arange(gains.shape[1]) + 2)).sum(axis=1) / self.of.ideal).mean())

    def scaled(self, values: Doubles) -> Doubles:
        """Return values from 0 to 1: the lowest and the highest of the pool."""
        low = np.where(self.inside, values, np.inf).min(axis=1, keepdims=True)
        high = np.where(self.inside, values, -np.inf).max(axis=1, keepdims=True)
        return np.asarray((values - low) / np.maximum(high - low, 1e-9))

    def standard(self, values: Doubles) -> Doubles:
        """Return values with mean 0 and standard deviation 1 over the pool."""
        mean = values.mean(axis=1, keepdims=True, where=self.inside)
        return np.asarray((values - mean) / np.maximum(values.std(axis=1, keepdims=True, where=self.inside), 1e-9))

    def agreement(self) -> Doubles:
        """Return the share of the first ten by MaxSim that are also among the first ten by BM25: [n_queries, 1]."""
        both = self.inside & (self.late_rank < TOP) & (self.words_rank < TOP)
        return np.asarray(both.sum(axis=1, keepdims=True) / TOP)


def _ranks(values: Doubles) -> Ints:  # [n_queries, n_docs] -> [n_queries, n_docs]
    return np.argsort(np.argsort(-values, axis=1, kind="stable"), axis=1)


def reciprocal(p: Pool, k: float, w: float) -> Doubles:
    """Return the weighted sum of 1 / (k + rank). A document adds nothing for a list that lacks it."""
    late, words = (np.where(r < p.depth, 1 / (k + 1 + r), 0) for r in (p.late_rank, p.words_rank))
    return (1 - w) * late + w * words


Rule = Callable[..., Doubles]
SHARES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6)
POINTS = (0.06, 0.08, 0.1, 0.12, 0.15, 0.18, 0.2, 0.22, 0.25, 0.3, 0.4)
ROOTS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)
POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
RULES: dict[str, tuple[Rule, tuple[tuple[float, ...], ...]]] = {  # name -> rule, the choices of each constant
    "MaxSim": (lambda p: p.late, ()),
    "BM25": (lambda p: np.where(p.words > 0, p.words, -np.inf), ()),
    "reciprocal ranks (k, w)": (reciprocal, ((1, 5, 10, 20, 30, 60), (0.3, 0.4, 0.45, 0.5, 0.55, 0.6))),
    "scaled in the pool (w)": (lambda p, w: (1 - w) * p.scaled(p.late) + w * p.scaled(p.words), (SHARES,)),
    "standard scores in the pool (w)": (
        lambda p, w: (1 - w) * p.standard(p.late) + w * p.standard(p.words),
        (SHARES,),
    ),
    "MaxSim / n_q + w BM25 / bound": (lambda p, w: p.late / p.of.n_q + w * p.words / p.of.bound, (SHARES,)),
    "MaxSim / n_q + w BM25 / best": (lambda p, w: p.late / p.of.n_q + w * p.words / p.best, (SHARES,)),
    "MaxSim + w BM25": (lambda p, w: p.late + w * p.words, (POINTS,)),
    "MaxSim + w BM25 (60 / bound)^a": (lambda p, w, a: p.late + w * p.words * (60 / p.of.bound) ** a, (POINTS, POWERS)),
    "MaxSim + w BM25 / √terms": (lambda p, w: p.late + w * p.words / np.sqrt(p.of.n_terms), (ROOTS,)),
    "MaxSim + w BM25 (1 + a (agreement - 0.4))": (
        lambda p, w, a: p.late + w * p.words * np.maximum(1 + a * (p.agreement() - 0.4), 0),
        (POINTS, (-1, -0.5, 0, 0.5, 1, 1.5, 2)),
    ),
}


class Experiment:
    """Reads a collection, and keeps its vectors and MaxSim scores in the work folder."""

    def __init__(self, data: Path, work: Path, encoder: Encoder) -> None:
        self.data, self.work, self.encoder = data, work / encoder.hash[:12], encoder
        self.work.mkdir(parents=True, exist_ok=True)

    def read(self, name: str, n: int) -> tuple[Collection, list[str], Doubles, Doubles]:
        """Return a collection, its first queries, and their gains [n_queries, n_docs] and ideal DCG [n_queries]."""
        collection = load(self.data, name)
        ids = list(collection.queries)[:n]
        places = {document.id: i for i, document in enumerate(collection.documents)}
        gains, ideal = np.zeros((len(ids), len(places))), np.zeros(len(ids))
        for row, query in enumerate(ids):
            best = sorted(collection.qrels[query].values(), reverse=True)[:TOP]
            ideal[row] = sum(max(gain, 0) / math.log2(rank + 2) for rank, gain in enumerate(best))
            for document, gain in collection.qrels[query].items():
                if document in places:
                    gains[row, places[document]] = max(gain, 0)
        return collection, [collection.queries[query] for query in ids], gains, ideal

    def late(self, name: str, variant: str, texts: Sequence[str], queries: Sequence[str]) -> tuple[Doubles, Doubles]:
        """Return the MaxSim scores of all documents, [n_queries, n_docs], and the rows of each query."""
        path = self.work / f"{name}-{variant}-{len(queries)}.npz"
        if not path.exists():
            vectors = self.work / f"{name}-vectors.npz"
            if not vectors.exists():
                found = self.encoder.encode_documents(texts, progress=True)
                np.savez(vectors, vectors=found.vectors, offsets=found.offsets)
            with np.load(vectors) as kept:
                documents = Ragged(kept["vectors"], kept["offsets"])
            encoded = self.encoder.encode_queries(queries)
            np.savez(path, late=[scores(q, documents) for q in encoded], n_q=[len(q) for q in encoded])
        with np.load(path) as kept:
            return kept["late"], kept["n_q"]

    def judged(
        self, name: str, variant: str, queries: Sequence[str], words: Words, terms: Sequence[Terms], **bm25: float
    ) -> Judged:
        """Return the scores of all documents of a collection for these queries, the first ones or changed ones."""
        collection, _, gains, ideal = self.read(name, len(queries))
        late, n_q = self.late(name, variant, collection.texts, queries)
        bound = np.array([2.2 * sum(weight * words.idf(t) for t, weight in q.items()) for q in terms])
        scored = words.scores(terms, **bm25)
        n_terms = np.array([[max(sum(query.values()), 1)] for query in terms])
        return Judged(late, scored, gains, ideal, n_q[:, None], np.maximum(bound, 1e-9)[:, None], n_terms)


def choose(pools: Sequence[Pool]) -> list[list[object]]:
    """Return the rows of the table of rules: name, constants, nDCG@10 of each collection, and four summaries."""
    base = np.array([p.ndcg(p.late) for p in pools])
    rows = []
    for name, (rule, grids) in RULES.items():
        choices = list(product(*grids))
        found = np.array([[p.ndcg(rule(p, *constants)) for p in pools] for constants in choices])  # [n_choices, n]
        best = found.mean(axis=1).argmax()
        others = (found.sum(axis=1, keepdims=True) - found).argmax(axis=0)  # [n] chosen without the collection
        left_out = found[others, np.arange(len(pools))]  # [n]
        summary = [found[best].mean(), (found[best] - base).min(), left_out.mean(), (left_out - base).min()]
        rows.append([name, " ".join(map(str, choices[best])), *found[best], *summary])
    return rows


def robust(run: Experiment, names: Sequence[str], n: int, seed: int) -> list[list[object]]:
    """Return nDCG@10 of changed queries, by way of scoring, for each collection."""
    cells: dict[tuple[str, str], list[float]] = {}
    for name in names:
        collection, asked, *_ = run.read(name, n)
        words, trigrams = Words(collection.texts), Words(collection.texts, "trigram")
        frequent, chance = words.frequent(FREQUENT), random.Random(seed)  # noqa: S311, not a secret
        variants = {
            "as asked": asked,
            "one typo": [with_typo(text, words, frequent, chance) for text in asked],
            "rarest word": [rarest_word(text, words) for text in asked],
        }
        for variant, queries in variants.items():
            found = words.tokens(queries)
            ways: dict[str, tuple[Words, list[Terms], float]] = {
                "": (words, [Counter(terms) for terms in found], W),
                ", nearest term": (words, [words.expanded(terms) for terms in found], W),
                ", trigrams": (trigrams, [Counter(terms) for terms in trigrams.tokens(queries)], W_TRIGRAMS),
            }
            for way, (scorer, terms, w) in ways.items():
                p = run.judged(name, variant.replace(" ", "-"), queries, scorer, terms).pool()
                cells.setdefault((variant, "MaxSim"), []).extend([] if way else [p.ndcg(p.late)])
                cells.setdefault((variant, f"BM25{way}"), []).append(p.ndcg(p.words))
                for label, share in ((f"{w} BM25", w), (f"{w} √(12 / terms) BM25", w * np.sqrt(12 / p.of.n_terms))):
                    cells.setdefault((variant, f"MaxSim + {label}{way}"), []).append(p.ndcg(p.late + share * p.words))
    return [[*key, *values, np.mean(values)] for key, values in cells.items()]


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table; numbers have three decimals."""
    shown = [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    click.echo(f"\n{title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    click.echo("\n".join(f"| {' | '.join(row)} |" for row in shown))


@click.command()
@click.argument("names", nargs=-1)
@DATA
@click.option("--work", type=click.Path(path_type=Path), required=True, help="Folder of vectors and scores.")
@click.option("--model", help="A model folder or hub id; default: the default model.")
@click.option("--queries", default=400, show_default=True, help="Judged queries of a collection, at most.")
@click.option("--changed", default=80, show_default=True, help="Queries of a collection that are changed, at most.")
@click.option("--seed", default=0, show_default=True)
def main(
    names: tuple[str, ...], data: Path, work: Path, model: str | None, queries: int, changed: int, seed: int
) -> None:
    """Print the tables."""
    names = names or COLLECTIONS
    run = Experiment(data, work, Encoder.load(model))
    judged: list[Judged] = []
    variants: dict[tuple[float, float], list[float]] = {}
    for name in names:
        collection, asked, *_ = run.read(name, queries)
        words = Words(collection.texts)
        terms = [Counter(t) for t in words.tokens(asked)]
        judged.append(run.judged(name, "as-asked", asked, words, terms))
        for k1, b in BM25:
            p = run.judged(name, "as-asked", asked, words, terms, k1=k1, b=b).pool()
            variants.setdefault((k1, b), []).append(p.ndcg(p.late + W * p.words))
    pools = [j.pool() for j in judged]
    head = [*names, "mean", "least gain", "left out", "least gain, left out"]
    table("nDCG@10 by rule", ["rule", "constants", *head], choose(pools))
    curve = {str(w): [p.ndcg(p.late + w * p.words) for p in pools] for w in (0.0, 0.05, *POINTS)}
    table("MaxSim + w BM25 by weight", ["w", *names, "mean"], [[w, *r, np.mean(r)] for w, r in curve.items()])
    curve = {str(w): [p.ndcg(p.late + w * p.words / np.sqrt(p.of.n_terms)) for p in pools] for w in ROOTS}
    table("MaxSim + w BM25 / √terms by weight", ["w", *names, "mean"], [[w, *r, np.mean(r)] for w, r in curve.items()])
    curve = {str(d): [p.ndcg(p.late + W * p.words) for p in (j.pool(d) for j in judged)] for d in DEPTHS}
    table("MaxSim + 0.2 BM25 by pool", ["depth", *names, "mean"], [[d, *r, np.mean(r)] for d, r in curve.items()])
    rows = [[*map(str, key), *values, np.mean(values)] for key, values in variants.items()]
    table("MaxSim + 0.2 BM25 by constants of BM25", ["k1", "b", *names, "mean"], rows)
    table("changed queries", ["queries", "score", *names, "mean"], robust(run, names, changed, seed))


if __name__ == "__main__":
    main()

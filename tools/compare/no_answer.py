"""Similarities of queries with and without an answer: how far a threshold tells them apart, in seven collections.

    python -m tools.compare.no_answer [NAMES ...] --data DIR [--work DIR] [--plot FILE]

Three kinds of queries have no answer in a collection: its own queries after their judged answers have been removed
("removed", the hardest kind), queries of the other collections ("foreign"), and its own queries with all their words
dealt out at random ("shuffled"). For each collection, a threshold is chosen that loses 5 % of its own queries; the
first table shows what it refuses of each kind. The second one shows what the median of these thresholds refuses in all
collections. Separation is the probability that an answered query has a more similar best document than one without an
answer.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np
from matplotlib.figure import Figure

from refcolbert import Index
from refcolbert.arrays import Doubles
from refcolbert.evaluation.no_answer import MAX_LOST, shuffled
from tools.collections import DATA, Collection, load

__all__ = ["similarities"]

NAMES = ("adi", "cisi", "cranfield", "medline", "msmarco_dev_positives", "scifact", "xquad_en")
N_QUERIES = 200  # of each kind, drawn with a seed
KINDS = ("answered", "removed", "foreign", "shuffled")


def similarities(index: Index, own: Collection, foreign: list[str]) -> dict[str, Doubles]:
    """Return kind -> the similarity of the best document of each query: [n]."""
    chosen = _draw(list(own.queries))
    texts = [own.queries[name] for name in chosen]
    return {
        "answered": _best(index, texts, [{}] * len(texts)),
        "removed": _best(index, texts, [own.qrels[name] for name in chosen]),
        "foreign": _best(index, foreign, [{}] * len(foreign)),
        "shuffled": _best(index, shuffled(texts), [{}] * len(texts)),
    }


def _best(index: Index, texts: list[str], without: Sequence[Mapping[str, int]]) -> Doubles:
    """[n] the similarity of each query's best document, `without` left out."""
    depth = max(map(len, without)) + 1
    answers = index.search_many(texts, depth, threads=2)
    return np.array(
        [
            next(hit.similarity for hit in hits if hit.id not in left_out)
            for hits, left_out in zip(answers, without, strict=True)
        ]
    )


def _draw(items: list[str]) -> list[str]:
    order = np.random.default_rng(0).permutation(len(items))[:N_QUERIES]
    return [items[i] for i in order]


def _separation(with_answer: Doubles, without: Doubles) -> float:
    """The probability that a query with an answer is more similar to its best document than one without."""
    return float((with_answer[:, None] > without).mean() + 0.5 * (with_answer[:, None] == without).mean())


def _print(measured: Mapping[str, Mapping[str, Doubles]]) -> None:
    """Two tables: a threshold for each collection, and one for all."""
    cuts = {name: float(np.quantile(kinds["answered"], MAX_LOST)) for name, kinds in measured.items()}
    common = float(np.median(list(cuts.values())))
    own, shared = [], []
    for name, kinds in measured.items():
        answered = kinds["answered"]
        separated = [_separation(answered, kinds[kind]) for kind in KINDS[1:]]
        own.append(
            [name, np.median(answered), *separated, cuts[name], *((kinds[k] < cuts[name]).mean() for k in KINDS[1:])]
        )
        shared.append([name, *((kinds[kind] < common).mean() for kind in KINDS)])
    _table(["collection", "median", *(f"separation, {k}" for k in KINDS[1:]), "threshold", *KINDS[1:]], own)
    click.echo(f"\nShare of each kind that one threshold refuses in all collections: {common:.3f}\n")
    _table(["collection", *KINDS], shared)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    click.echo(f"| {' | '.join(head)} |\n|---|{'--:|' * (len(head) - 1)}")
    for name, *values in rows:
        click.echo(f"| {name} | {' | '.join(f'{value:.2f}' for value in values)} |")


def _plot(measured: Mapping[str, Mapping[str, Doubles]], path: Path) -> None:
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for row, kinds in enumerate(measured.values()):
        for offset, (kind, colour) in enumerate(
            zip(KINDS, ("tab:green", "tab:orange", "tab:red", "tab:gray"), strict=True)
        ):
            place = row + 0.2 * (1.5 - offset)
            low, quarter, middle, three, high = np.quantile(kinds[kind], [0.05, 0.25, 0.5, 0.75, 0.95])
            axes.plot([low, high], [place, place], color=colour, linewidth=1)
            axes.plot([quarter, three], [place, place], color=colour, linewidth=5, label=kind if row == 0 else None)
            axes.plot([middle], [place], color="black", marker="|", markersize=7)
    axes.set_yticks(range(len(measured)), list(measured))
    axes.invert_yaxis()
    axes.set_xlabel("similarity of the best document: 5th to 95th percentile, quartiles, median")
    axes.legend(title="queries")
    figure.savefig(path, dpi=100, metadata={"Software": None})


@click.command()
@click.argument("names", nargs=-1)
@DATA
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), default=Path(".cache/no-answer"))
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the distributions.")
def main(names: tuple[str, ...], data: Path, work: Path, plot: Path | None) -> None:
    """Compare similarities of queries with and without an answer in collections NAMES (default: all)."""
    collections = {name: load(data, name) for name in names or NAMES}
    measured = {}
    for name, own in collections.items():
        path = work / name
        work.mkdir(parents=True, exist_ok=True)
        index = Index.open(path) if path.exists() else Index.build(path, own.documents, progress=True)
        others = [text for other in collections.values() if other is not own for text in other.queries.values()]
        measured[name] = similarities(index, own, _draw(others))
    _print(measured)
    if plot is not None:
        _plot(measured, plot)


if __name__ == "__main__":
    main()

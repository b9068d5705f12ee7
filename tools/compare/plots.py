"""The plots of the page, by matplotlib (extra `plot`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tools.compare.results import Line
from tools.compare.systems import SYSTEMS

__all__ = ["draw"]

COLOURS = {
    "sparse": "tab:gray",
    "single vector": "tab:blue",
    "late interaction": "tab:orange",
    "hybrid": "tab:green",
    "full interaction": "tab:red",
}
Found = Mapping[str, Mapping[str, Any]]  # collection -> what an experiment found


def draw(folder: Path, lines: Sequence[Line], rows: Found, diluted: Found) -> list[Path]:
    """Write every plot for which there is something to draw; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, diluted = ({name: cell for name, cell in found.items() if cell} for found in (rows, diluted))
    drawn = [_save(folder / "quality-latency.png", _scatter(lines, "p50", "median milliseconds of a query"))]
    drawn.append(_save(folder / "quality-bytes.png", _scatter(lines, "bytes", "bytes a document")))
    if rows:
        drawn += [_save(folder / "rows.png", _rows(rows)), _save(folder / "cosines.png", _cosines(rows))]
        drawn.append(_save(folder / "matches.png", _matches(rows)))
    if diluted:
        drawn.append(_save(folder / "dilution.png", _dilution(diluted)))
    return drawn


def _save(path: Path, figure: Figure) -> Path:
    figure.savefig(path, dpi=100, metadata={"Software": None})
    return path


def _scatter(lines: Sequence[Line], x: str, label: str) -> Figure:
    """Systems as points, their names in a column beside them: near each other, points would hide each other's name.

    A system that was asked fewer queries than the others is no comparison and left out.
    """
    most = max(line.queries for line in lines)
    lines = [line for line in lines if line.queries == most]
    groups = {system.name: system.group for system in SYSTEMS}
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    for group, colour in COLOURS.items():
        mine = [line for line in lines if groups[line.system] == group]
        points = [getattr(line, x) for line in mine], [line.metrics["nDCG@10"] for line in mine]
        axes.scatter(*points, color=colour, label=group)
    for place, line in enumerate(sorted(lines, key=lambda line: line.metrics["nDCG@10"])):
        axes.annotate(
            line.system,
            (getattr(line, x), line.metrics["nDCG@10"]),
            xytext=(1.04, (place + 0.5) / len(lines)),
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "relpos": (0, 0.5), "linewidth": 0.4, "color": COLOURS[groups[line.system]]},
        )
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.set_ylabel("nDCG@10, mean over collections")
    axes.legend()
    return figure


def _rows(found: Found) -> Figure:
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for (name, cell), colour in zip(found.items(), COLOURS.values(), strict=False):
        for way, style in (("unattended", "-"), ("attended", "--")):
            values = [quality["nDCG@10"] for quality in cell[way]]
            axes.plot(cell["rows"], values, style, marker="o", markersize=3, color=colour, label=f"{name}, {way}")
    axes.set_xlabel("[MASK] rows of a query")
    axes.set_ylabel("nDCG@10")
    axes.legend(fontsize=7)
    return figure


def _cosines(found: Found) -> Figure:
    n = min(len(cell["positions"]["cosines"]) for cell in found.values())
    mean = np.mean([np.array(cell["positions"]["cosines"])[:n, :n] for cell in found.values()], axis=0)  # [n, n]
    words = np.mean([cell["positions"]["words"][:n] for cell in found.values()], axis=0)  # [n]
    figure = Figure(figsize=(7, 7), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(5, 1), sharex=True)
    image = above.imshow(mean, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    figure.colorbar(image, ax=above, label="mean cosine of two rows of a query")
    above.set_ylabel("position")
    below.bar(range(n), words, color="tab:gray")
    below.set_xlabel("position in the query")
    below.set_ylabel("share of words")
    return figure


def _matches(found: Found) -> Figure:
    kinds = next(iter(found.values()))["matches"]["kinds"]
    shares = np.mean([cell["matches"]["shares"] for cell in found.values()], axis=0)  # [n_rows, n_kinds]
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.stackplot(range(1, len(shares) + 1), shares.T, labels=kinds)
    axes.set_xlim(1, len(shares))
    axes.set_ylim(0, 1)
    axes.set_xlabel("number of the [MASK] row")
    axes.set_ylabel("share of its matches in the first 10")
    axes.legend(title="the matched token is", fontsize=7, loc="lower left")
    return figure


def _dilution(found: Found) -> Figure:
    words = next(iter(found.values()))["words"]
    ranks = {key: [cell["ranks"][key] for cell in found.values()] for key in next(iter(found.values()))["ranks"]}
    systems = [name for name in next(iter(ranks.values()))[0] if name != "cut"]
    figure = Figure(figsize=(11, 4), layout="constrained")
    for axes, place in zip(figure.subplots(1, 3, sharey=True), ("behind", "in front", "alone"), strict=True):
        counts = [n for n in words if f"{place} {n}" in ranks]
        for system in systems:
            values = [np.mean([cell[system] for cell in ranks[f"{place} {n}"]]) for n in counts]
            axes.plot(counts, values, marker="o", label=system)
        axes.set_title(f"irrelevant words {place}")
        axes.set_xlabel("irrelevant words")
    figure.axes[0].set_ylabel("mean reciprocal rank of the text")
    figure.axes[0].legend()
    return figure

"""The plots of the page, by matplotlib (extra `plot`)."""

from collections.abc import Sequence
from pathlib import Path

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


def draw(folder: Path, lines: Sequence[Line]) -> None:
    """Write quality against latency and quality against bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, x, label in (
        ("latency", "p50", "median milliseconds of a query"),
        ("bytes", "bytes", "bytes per document"),
    ):
        _scatter(lines, x, label).savefig(folder / f"quality-{name}.png", dpi=100, metadata={"Software": None})


def _scatter(lines: Sequence[Line], x: str, label: str) -> Figure:
    """Systems as points, their names in a column beside them, because names at the points would overlap.

    A system that was asked fewer queries than the others is not comparable and left out.
    """
    most = max(line.queries for line in lines)
    lines = [line for line in lines if line.queries == most]
    groups = {system.name: system.group for system in SYSTEMS}
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    for group, colour in COLOURS.items():
        members = [line for line in lines if groups[line.system] == group]
        points = [getattr(line, x) for line in members], [line.metrics["nDCG@10"] for line in members]
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

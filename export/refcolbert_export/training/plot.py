"""A picture of a run's losses and metrics over its steps."""

import json
import logging
from pathlib import Path
from typing import Any

__all__ = ["plot_log"]

log = logging.getLogger("refcolbert")
# A loss is averaged over this many steps, because losses of single steps vary much.
WINDOW = 25


def plot_log(path: Path, out: Path) -> None:
    """Draw the run logged at `path` into the PNG `out`. Without matplotlib (extra `train`) log a warning."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        log.warning("no plot, because matplotlib is not installed: pip install 'refcolbert[train]'")
        return
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    figure = Figure(figsize=(9, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    _losses(above, [e for e in entries if "loss" in e])
    _metrics(below, [e for e in entries if "validation" in e])
    below.set_xlabel("step")
    figure.savefig(out, dpi=100, metadata={"Software": None})


def _losses(axes: Any, entries: list[dict[str, Any]]) -> None:
    inert = {"step", "norm", "examples_per_s", "tokens_per_s"}
    names = list(dict.fromkeys(name for e in entries for name in e if name not in inert))
    # A single loss equals the sum and is not drawn twice.
    for name in names if len(names) > 2 else names[:1]:
        points = [(e["step"], e[name]) for e in entries if name in e]
        steps, values = [p[0] for p in points], [p[1] for p in points]
        line = axes.plot(steps, _smooth(values), label=name)[0]
        axes.plot(steps, values, color=line.get_color(), alpha=0.2, linewidth=0.5)
    axes.set_ylabel(f"loss, mean of {WINDOW} steps")
    if names:
        axes.legend()


def _metrics(axes: Any, entries: list[dict[str, Any]]) -> None:
    for name in entries[0]["validation"] if entries else ():
        axes.plot([e["step"] for e in entries], [e["validation"][name] for e in entries], marker="o", label=name)
    axes.set_ylabel("validation")
    if entries:
        axes.legend()


def _smooth(values: list[float]) -> list[float]:
    """The mean of each value and up to WINDOW - 1 before it."""
    out = []
    for i in range(len(values)):
        part = values[max(i - WINDOW + 1, 0) : i + 1]
        out.append(sum(part) / len(part))
    return out

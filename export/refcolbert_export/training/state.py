"""The state of a run on disk: weights, optimizer, random generator and step, in one file."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from refcolbert.errors import TrainingError

from .settings import Settings

__all__ = ["Progress", "append_log", "load_state", "save_state", "trim_log"]


@dataclass(slots=True)
class Progress:
    """The progress of a run."""

    step: int = 0  # steps done
    best: float | None = None  # best value of the metric so far
    best_step: int = 0
    worse: int = 0  # validations since `best_step`


def save_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress, about: dict[str, Any]
) -> None:
    """Write the state beside `path` and rename it over the old one. After a crash one of the two is complete.

    about  settings and data of the run, which a resumed run must share
    """
    state = {
        "about": json.dumps(about, sort_keys=True),
        "progress": [progress.step, progress.best, progress.best_step, progress.worse],
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "generator": torch.get_rng_state(),
    }
    staged = path.with_name(f".{path.name}.new")
    with staged.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, about: dict[str, Any]) -> Progress:
    """Load a saved state. Raises `TrainingError` when it is missing, damaged, or of a run with another `about`."""
    if not path.is_file():
        raise TrainingError(f"expected the state of an interrupted run at {path}, found none; start without --resume")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        saved = json.loads(state["about"])
    except Exception as error:
        raise TrainingError(f"{path} is not the state of a run: {error}; start without --resume") from error
    # A setting that is newer than the state had its default value.
    defaults = {**Settings(steps=1).numeric(), "metric": about["metric"]}  # states did not always tell their metric
    saved, wanted = {**defaults, **saved}, json.loads(json.dumps(about))
    differing = [
        f"{k} was {saved.get(k)!r}, is {wanted.get(k)!r}" for k in {**saved, **wanted} if saved.get(k) != wanted.get(k)
    ]
    if differing:
        raise TrainingError(f"expected the settings and data with which the run began, but {'; '.join(differing)}")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["generator"])
    return Progress(*state["progress"])


def append_log(path: Path, entry: dict[str, Any]) -> None:
    """Append one line of JSON."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def trim_log(path: Path, step: int) -> None:
    """Remove the lines of steps after `step`, which the resumed run writes again, and a line cut by a crash."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:
            break
    path.write_text("".join(kept), encoding="utf-8")

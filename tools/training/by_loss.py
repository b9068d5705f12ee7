"""What each loss is worth: short trainings that differ in the loss alone, for the model card.

    python -m tools.training.by_loss --work DIR --data DIR [--steps 100] [--json losses.json]

DIR is the recipe's folder: its start and its blocks are trained on with the recipe's settings, once for each of LOSSES.
The hinge and the softmax see each positive beside the other documents of its block; many of these answer the query,
too, which the teacher's scores say and a label does not. Every run and ranking is kept in the work folder.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import click
import torch

from refcolbert.evaluation.metrics import METRICS
from tools.collections import DATA, load
from tools.training.quality import Rankers, measure, models_of, table
from tools.training.recipe import SETTINGS, export_model, train_model

__all__ = ["LOSSES"]

LOSSES: Mapping[str, Mapping[str, float]] = {
    "pairwise hinge": {"pairwise-hinge": 1.0},
    "pairwise softmax": {"pairwise-softmax": 1.0},
    "in-batch": {"in-batch": 1.0},
    "distillation": {"kl": 1.0},
    "distillation and in-batch": SETTINGS.losses,
}


@click.command()
@click.option("--work", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@DATA
@click.option("--steps", default=100, show_default=True)
@click.option("--collection", "names", multiple=True, default=("cranfield", "medline"), show_default=True)
@click.option("--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here, too.")
def main(work: Path, data: Path, steps: int, names: tuple[str, ...], out: Path | None) -> None:
    """Train with each loss for STEPS and measure what came of it."""
    folders = {"not trained": work / "losses" / "not-trained"}
    _export(work / "start", folders["not trained"])
    for name, losses in LOSSES.items():
        folder = work / "losses" / f"{name.replace(' ', '-')}-{steps}"
        train_model(work, folder / "run", dataclasses.replace(SETTINGS, steps=steps, losses=losses))
        _export(folder / "run" / "checkpoint", folder / "model")
        folders[name] = folder / "model"
    rankers = Rankers(work / "losses" / "cache", torch.float32)
    keyed = {name: ranker for name, folder in folders.items() for ranker in models_of([str(folder)]).values()}
    figures = measure(rankers, keyed, [load(data, name) for name in names])
    for metric in METRICS:
        click.echo(table(figures, metric) + "\n")
    if out is not None:
        out.write_text(json.dumps({"steps": steps, "figures": figures}, indent=1) + "\n")


def _export(checkpoint: Path, out: Path) -> None:
    if not out.is_dir():
        export_model(checkpoint, out, "float32")


if __name__ == "__main__":
    main()

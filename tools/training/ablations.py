"""What each choice of the default model's recipe is worth: one training per choice, a few hundred steps each.

    python -m tools.training.ablations --work DIR --data DIR --cache DIR [NAME...]

DIR of --work is that of `tools.training.recipe`, which has written its blocks. Every variant starts from MiniLM, takes
`STEPS` steps with the recipe's settings except for what its name says, and ranks `COLLECTIONS` by exact MaxSim. So
differences are those of a short training; `seed-1` and `seed-2` say how large a difference is chance.

A variant's model stays in the work folder. A second run trains only what is missing.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
import torch

from tools.collections import DATA, load
from tools.training.quality import Rankers, measure, models_of, table
from tools.training.recipe import SETTINGS, export_model, train_model
from tools.training.start import write_start

__all__ = ["VARIANTS", "Variant", "without_first_layer"]

STEPS = 300
COLLECTIONS = ("cranfield", "cisi", "medline", "adi")


@dataclass(frozen=True, slots=True)
class Variant:
    """What differs from the recipe."""

    settings: dict[str, Any] = field(default_factory=dict)
    start: Callable[[Path], None] = write_start


def without_first_layer(folder: Path) -> None:
    """The start with a head of one layer. At the start that is the same function: the other layer adds nothing yet."""
    write_start(folder)
    modules = folder / "modules.json"
    kept = [module for module in json.loads(modules.read_text()) if module["path"] != "1_Dense"]
    modules.write_text(json.dumps([{**module, "idx": i, "name": str(i)} for i, module in enumerate(kept)], indent=1))
    shutil.rmtree(folder / "1_Dense")


VARIANTS = {
    "recipe": Variant(),
    "seed-1": Variant({"seed": 1}),
    "128-columns": Variant(start=lambda folder: write_start(folder, 128)),
    "one-layer-head": Variant(start=without_first_layer),
    "pairwise-softmax": Variant({"losses": {"pairwise-softmax": 1.0}}),
    "pairwise-hinge": Variant({"losses": {"pairwise-hinge": 1.0}}),
    "no-in-batch": Variant({"losses": {"kl": 1.0}}),
    "seed-2": Variant({"seed": 2}),
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(VARIANTS)))
@click.option("--work", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@DATA
@click.option("--cache", required=True, type=click.Path(file_okay=False, path_type=Path))
def main(names: tuple[str, ...], work: Path, data: Path, cache: Path) -> None:
    """Train the variants NAMES, or all, and print their nDCG@10."""
    names = names or tuple(VARIANTS)
    models = [_model(name, work) for name in names]
    rankers = Rankers(cache, torch.bfloat16)
    figures = measure(
        rankers, models_of([str(model) for model in models]), [load(data, c, "test") for c in COLLECTIONS]
    )
    click.echo(table(figures))


def _model(name: str, work: Path) -> Path:
    """The model folder of a variant, trained if it is not there."""
    variant, folder = VARIANTS[name], work / "ablations" / name
    if not (folder / name).is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "start").is_dir():
            unfinished = folder / "unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            variant.start(unfinished)
            unfinished.rename(folder / "start")
        settings = replace(SETTINGS, steps=STEPS, validate_every=0, **variant.settings)
        train_model(folder / "start", work / "blocks.jsonl.gz", folder / "run", settings)
        export_model(folder / "run" / "checkpoint", folder / name, "float32")
    return folder / name


if __name__ == "__main__":
    main()

"""The default model's card: what it was made from and how, what it scores, under which terms.

    python -m tools.training.quality MODEL --data DIR --cache DIR --json figures.json
    python -m tools.training.card MODEL --work DIR --data DIR --figures figures.json \
        [--ablations ablations.json] [--losses losses.json]     of tools.training.ablations and tools.training.by_loss

MODEL is the exported folder, --work the recipe's folder (`tools.training.recipe`). Every figure is read from what those
commands wrote, and the leak check is run again: a card is refused if a test text stands in the training data. Prints
the card, or writes it to --out.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from refcolbert.encoding.encoder import Encoder
from refcolbert.errors import InvalidInput
from refcolbert.evaluation.metrics import METRICS
from tools.collections import DATA
from tools.training.blocks import SHARED
from tools.training.leaks import SHINGLE, TestTexts, report
from tools.training.quality import DEVELOPMENT, table
from tools.training.sources import SOURCES

__all__ = ["card"]

CARD = Path(__file__).with_suffix(".md")  # the prose, with names in braces


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}; run the recipe first") from error
    return found


def _sources(pairs: dict[str, Any], blocks: dict[str, Any], kinds: list[str]) -> str:
    rows = []
    for source in SOURCES:
        counts = [blocks["counts"].get(f"{source.name}: {kind}", 0) for kind in kinds]
        cells = " / ".join(f"{count:,}" for count in counts)
        rows.append(f"| {source.name} | {pairs['sources'][source.name]['licence']} | {source.origin} | {cells} |")
    return "\n".join(rows)


def _leaks(blocks: Path, data: Path) -> dict[str, int]:
    found = report([blocks], TestTexts.read(data))
    if bad := [*found["equal"], *found["overlaps"]]:
        text, where = bad[0]
        raise InvalidInput(f"{len(bad)} training texts stand in a test collection, the first in {where}: {text[:80]!r}")
    return {"training": found["training texts"], "test": found["test texts"]}


def _training(run: Path) -> dict[str, Any]:
    """What the run's log says: steps, time, losses at the beginning and at the end."""
    settings = _json(run / "settings.json")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps = [entry for entry in log if "loss" in entry]
    window = max(len(steps) // 20, 1)
    seconds = sum(settings["batch"] / entry["examples_per_s"] for entry in steps if entry.get("examples_per_s"))
    losses = []
    for name in settings["losses"]:
        ends = [sum(entry[name] for entry in part) / window for part in (steps[:window], steps[-window:])]
        losses.append(f"{name} {ends[0]:.3f} to {ends[1]:.3f}")
    return {
        "settings": ", ".join(f"{key} {_plain(value)}" for key, value in settings.items() if value is not None),
        "steps": len(steps),
        "seconds": f", {seconds / 60:.0f} minutes" if seconds else "",
        "window": window,
        "losses": ", ".join(losses),
        "seed": settings["seed"],
        "trained_length": settings["document_length"],
    }


def _plain(value: Any) -> str:
    return " + ".join(f"{v:g} {k}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def _model(folder: Path) -> dict[str, Any]:
    encoder, parity = Encoder.load(folder), _json(folder / "parity.json")
    if parity["model"] != encoder.hash:
        raise InvalidInput(f"{folder / 'parity.json'} is of another model; export the checkpoint again")
    spec = encoder.spec
    filled = spec.expansion_length or spec.query_length
    return {
        "dim": spec.dim,
        "query_length": spec.query_length,
        "document_length": spec.document_length,
        "expansion": "not expanded" if spec.expansion_id is None else f"short ones filled up to {filled} with [MASK]",
        "hash": encoder.hash,
        "megabytes": sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) / 1e6,
        "variant": parity["variant"],
        "texts": len(parity["texts"]),
        "shapes": len(parity["shapes"]),
        **parity["worst"],
    }


def _tables(path: Path, metrics: Sequence[str] = METRICS) -> str:
    figures = _json(path)["figures"]
    return "\n\n".join(table(figures, metric) for metric in metrics)


def _ablations(path: Path) -> str:
    return (
        "\n## Ablations\n\nThe same weights with one thing about the encoding or the index changed, nothing trained "
        f"again (`python -m tools.training.ablations`):\n\n{_tables(path, METRICS[:1])}\n"
    )


def _losses(path: Path) -> str:
    return (
        f"\n## Losses\n\nFor comparison, {_json(path)['steps']} steps with each loss from the same start on the same "
        f"data, float32 (`python -m tools.training.by_loss`). So early they lie close together:\n\n"
        f"{_tables(path, METRICS[:1])}\n"
    )


def card(
    model: Path, work: Path, data: Path, figures: Path, ablations: Path | None = None, losses: Path | None = None
) -> str:
    """The card as Markdown. Raises `InvalidInput` for what is missing, and for a test text in the training data."""
    blocks, pairs = _json(work / "blocks.jsonl.json"), _json(work / "pairs.jsonl.json")
    kinds = [kind for kind in ("given", "keywords", "sentence") if any(kind in key for key in blocks["counts"])]
    return CARD.read_text().format(
        **_model(model),
        **_training(work / "run"),
        **_leaks(work / "blocks.jsonl.gz", data),
        lines=blocks["lines"],
        shared=SHARED,
        kinds=" / ".join(kinds),
        sources=_sources(pairs, blocks, kinds),
        shingle=SHINGLE,
        teacher=blocks["scores"],
        development=", ".join(DEVELOPMENT),
        dtype=_json(figures).get("bi-encoder", "torch.float32").removeprefix("torch."),
        scores=_tables(figures),
        ablations="" if ablations is None else _ablations(ablations),
        by_loss="" if losses is None else _losses(losses),
    )


@click.command()
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--work", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@DATA
@click.option("--figures", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--ablations", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--losses", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path))
def main(
    model: Path,
    work: Path,
    data: Path,
    figures: Path,
    ablations: Path | None,
    losses: Path | None,
    out: Path | None,
) -> None:
    """Write the card of MODEL."""
    text = card(model, work, data, figures, ablations, losses)
    if out is None:
        click.echo(text)
    else:
        out.write_text(text)


if __name__ == "__main__":
    main()

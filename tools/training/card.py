"""The cards of the models: training data, settings, parity, scores, licences.

    python -m tools.training.quality MODEL --data DIR --cache DIR --json figures.json
    python -m tools.training.card MODEL --work DIR --data DIR --figures figures.json [--small]

MODEL is the exported folder, --work the recipe's folder (`tools.training.recipe`). Every figure is read from the files
that those commands wrote. The leak check runs again: a test text in the training data is an error. Prints the card, or
writes it to --out.
"""

import json
from pathlib import Path
from typing import Any

import click

from refcolbert.encoding.encoder import Encoder
from refcolbert.errors import InvalidInput
from refcolbert.evaluation.metrics import METRICS
from tools.collections import DATA
from tools.training.blocks import BLOCK, SHARED
from tools.training.leaks import SHINGLE, SHORTEST, TestTexts, report
from tools.training.pairs import KINDS
from tools.training.quality import DEVELOPMENT, table
from tools.training.recipe import HELD_OUT
from tools.training.sources import SOURCES

__all__ = ["card", "small_card"]

# The prose, with names in braces
CARD = Path(__file__).with_suffix(".md")
SMALL_CARD = CARD.with_name("small_card.md")


def _json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}; run the recipe first") from error
    return content


def _sources(pairs: dict[str, Any], blocks: dict[str, Any], kinds: list[str]) -> str:
    rows = []
    for source in SOURCES:
        counts = [blocks["counts"].get(f"{source.name}: {kind}", 0) for kind in kinds]
        cells = " / ".join(f"{count:,}" for count in counts)
        rows.append(f"| {source.name} | {pairs['sources'][source.name]['licence']} | {source.origin} | {cells} |")
    return "\n".join(rows)


def _leaks(blocks: Path, data: Path) -> dict[str, int]:
    leaks = report([blocks], TestTexts.read(data))
    if bad := [*leaks["equal"], *leaks["overlaps"]]:
        text, where = bad[0]
        raise InvalidInput(
            f"expected no test text in the training data, found {len(bad)}, the first of {where}: {text[:80]!r}; "
            "make the pairs again with that collection under --data"
        )
    counts = {"training": leaks["training texts"], "test": leaks["test texts"]}
    return {**counts, "shingle": SHINGLE, "shortest": SHORTEST}


def _training(run: Path) -> dict[str, Any]:
    """Steps, time, losses at the beginning and at the end, and validations, from the run's log."""
    settings = _json(run / "settings.json")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps, validated = [[entry for entry in log if key in entry] for key in ("loss", "validation")]
    window = max(len(steps) // 20, 1)
    seconds = sum(settings["batch"] / entry["examples_per_s"] for entry in steps if entry.get("examples_per_s"))
    losses = []
    for name in settings["losses"]:
        ends = [sum(entry[name] for entry in part) / window for part in (steps[:window], steps[-window:])]
        losses.append(f"{name} {ends[0]:.3f} to {ends[1]:.3f}")
    return {
        "settings": ", ".join(f"{key} {_plain(value)}" for key, value in settings.items() if value is not None),
        "steps": len(steps),
        "batch": settings["batch"],
        "seconds": f", {seconds / 60:.0f} minutes" if seconds else "",
        "window": window,
        "losses": ", ".join(losses),
        "seed": settings["seed"],
        "length": settings["document_length"],
        "metric": settings["metric"],
        "held_out": HELD_OUT * BLOCK,
        "curve": ", ".join(f"{entry['step']:,}: {entry['validation'][settings['metric']]:.3f}" for entry in validated),
    }


def _long(run: Path) -> dict[str, Any]:
    """Steps, length and validations of the training with long documents, which went on from the first."""
    found = _training(run)
    return {"long_steps": found["steps"], "long_length": found["length"], "long_curve": found["curve"]}


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


def _scores(path: Path, model: str) -> dict[str, str]:
    """The tables of a file that `tools.training.quality` wrote of this model, and the bi-encoder's precision."""
    found = _json(path)
    if model not in found["models"].values() or found["split"] != "test":
        hashes = ", ".join(name[:12] for name in found["models"].values())
        raise InvalidInput(
            f"expected test figures of the model {model[:12]} in {path}, found {found['split']} figures of {hashes}; "
            "measure again"
        )
    tables = "\n\n".join(table(found["figures"], metric) for metric in METRICS)
    return {"scores": tables, "dtype": found["bi-encoder"].removeprefix("torch.")}


def card(model: Path, work: Path, data: Path, figures: Path) -> str:
    """The card as Markdown.

    Raises `InvalidInput` for a missing file and for a test text in the training data.
    """
    blocks, pairs = _json(work / "blocks.jsonl.json"), _json(work / "pairs.jsonl.json")
    kinds = [kind for kind in KINDS if any(key.endswith(f": {kind}") for key in blocks["counts"])]
    about = _model(model)
    return CARD.read_text().format(
        **about,
        **_scores(figures, about["hash"]),
        **_training(work / "run"),
        **_long(work / "long"),
        **_leaks(work / "blocks.jsonl.gz", data),
        lines=blocks["lines"] - HELD_OUT * BLOCK,
        shared=SHARED,
        kinds=" / ".join(kinds),
        sources=_sources(pairs, blocks, kinds),
        teacher=blocks["scores"],
        development=", ".join(DEVELOPMENT),
    )


def small_card(model: Path, work: Path, data: Path, figures: Path) -> str:
    """The small model's card, which leaves to the default model's what is the same. Raises as `card`."""
    about, training = _model(model), _training(work / "small-run")
    lines, seen = _json(work / "pairs.jsonl.json")["pairs"] - HELD_OUT * BLOCK, training["steps"] * training["batch"]
    if seen > lines:
        raise InvalidInput(f"the card says that no pair came twice, but {seen} of {lines} were drawn; change the prose")
    return SMALL_CARD.read_text().format(
        **about,
        **_scores(figures, about["hash"]),
        **training,
        **_leaks(work / "pairs.jsonl.gz", data),
        lines=lines,
        seen=seen,
    )


@click.command()
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--work", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@DATA
@click.option("--figures", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--small", is_flag=True, help="MODEL is the small one.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path))
def main(
    model: Path,
    work: Path,
    data: Path,
    figures: Path,
    small: bool,
    out: Path | None,
) -> None:
    """Write the card of MODEL."""
    text = (small_card if small else card)(model, work, data, figures)
    if out is None:
        click.echo(text)
    else:
        out.write_text(text)


if __name__ == "__main__":
    main()

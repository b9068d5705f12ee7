"""The recipe of the default model and of a small one: from texts to model folders.

    python -m tools.training.recipe --train DIR --data DIR --work DIR

    pairs       queries and documents from texts whose licences allow it, none of them in a test collection
    start       MiniLM's token states through two layers to 64 columns, fitted by PCA
    blocks      related queries over shared documents, scored by the teacher: BM25 and two bi-encoders together
    run         `SETTINGS`: the teacher's distribution over each query's documents, and a little in-batch contrast
    long        `LONG`: the same from there on, with documents of twice the length
    model       ONNX with int8 storage, queries cut at `QUERY_LENGTH` instead of at the 32 tokens they are filled up to
    small-...   three of its six layers, embeddings in four bits, taught to give its vectors: `SMALL_SETTINGS`

The last blocks are held out, and ranked for the learning curve alone: they are those that were left when others had
been put together, and easier than most. Of the small model these are the last pairs, all of them package docstrings,
which its teacher has partly seen. The newest weights are kept.

Every step leaves its result in the work folder and is skipped when that is there; an interrupted training goes on. Some
five hours of one core. The same folders, versions and threads give the same bytes.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import click

from refcolbert_export.layouts.overrides import Choices
from refcolbert_export.training.settings import Settings
from tools.collections import DATA
from tools.training.blocks import BLOCK, write_blocks
from tools.training.pairs import write_pairs
from tools.training.start import write_shallow, write_start

__all__ = ["LONG", "QUERY_LENGTH", "SETTINGS", "SMALL_SETTINGS", "export_model", "goes_on", "train_model"]

SETTINGS = Settings(
    steps=2400,
    losses={"kl": 1.0, "in-batch": 0.1},
    batch=32,
    block=BLOCK,
    learning_rate=6e-5,
    head_learning_rate=5e-4,
    warmup=0.05,
    dropout=0.0,
    freeze=2,
    query_length=64,
    document_length=128,
    precision="bf16",
    threads=1,
    save_minutes=8,
    validate_every=300,
    metric="nDCG@10",
    keep="newest",
    seed=0,
)
LONG = replace(
    SETTINGS, steps=200, learning_rate=2e-5, head_learning_rate=1e-4, document_length=288, validate_every=200
)
SMALL_LAYERS = (0, 2, 5)  # of the trained model
SMALL_SETTINGS = replace(
    SETTINGS,
    steps=2000,
    losses={"vectors": 1.0},
    batch=28,
    block=1,
    learning_rate=1e-3,
    head_learning_rate=1e-3,
    freeze=0,
    document_length=256,
)
HELD_OUT = 64  # blocks
QUERY_LENGTH = 256  # tokens of the longest query; the bi-encoder reads as many


@click.command()
@click.option("--train", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@DATA
@click.option("--work", required=True, type=click.Path(file_okay=False, path_type=Path))
def main(train: Path, data: Path, work: Path) -> None:
    """Make both models from the texts in TRAIN, without those of the test collections in DATA."""
    paired, blocked, start = work / "pairs.jsonl.gz", work / "blocks.jsonl.gz", work / "start"
    if not paired.is_file():
        write_pairs(train, data, paired)
    if not start.is_dir():
        write_start(start)
    if not blocked.is_file():
        write_blocks(paired, blocked, work / "vectors")
    train_model(start, blocked, work / "run", SETTINGS)
    train_model(work / "run" / "checkpoint", blocked, work / "long", LONG)
    large = work / "long" / "checkpoint"
    if not (work / "small-start").is_dir():
        write_shallow(large, work / "small-start", SMALL_LAYERS)
    train_model(work / "small-start", paired, work / "small-run", SMALL_SETTINGS, teacher=large)
    for run, model, variant in (("long", "model", "int8"), ("small-run", "small-model", "int8-int4")):
        if not (work / model).is_dir():
            export_model(work / run / "checkpoint", work / model, variant)
    click.echo(f"{work / 'model'}, {work / 'small-model'}: compare them with others: python -m tools.training.quality")


def goes_on(run: Path) -> bool:
    """True if a training has a saved state to continue from; a run without one is removed."""
    saved = (run / "state.pt").is_file()
    if not saved and run.is_dir():
        shutil.rmtree(run)
    return saved


def train_model(checkpoint: Path, data: Path, out: Path, settings: Settings, teacher: Path | None = None) -> None:
    """Train from the checkpoint with all examples but the last ones, or go on with what is in `out`."""
    from refcolbert_export.training.data import read_examples
    from refcolbert_export.training.loop import train
    from refcolbert_export.training.malloc import keep_freed_memory
    from refcolbert_export.training.start import Head, read_start, read_teacher
    from refcolbert_export.training.validate import pool_of

    keep_freed_memory()
    start = read_start(checkpoint, Head(), settings.seed)
    examples = read_examples([data])
    examples, held_out = examples[: -HELD_OUT * BLOCK], examples[-HELD_OUT * BLOCK :]
    train(
        start,
        examples,
        out,
        settings,
        teacher=None if teacher is None else read_teacher(teacher),
        validation=pool_of(held_out),
        resume=goes_on(out),
        progress=True,
    )


def export_model(checkpoint: Path, out: Path, variant: str) -> None:
    """The model folder, for long queries too."""
    from refcolbert_export.conversion.colbert import export_checkpoint

    export_checkpoint(checkpoint, out, variant=variant, choices=Choices(query_length=QUERY_LENGTH))


if __name__ == "__main__":
    main()

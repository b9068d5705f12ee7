"""Export a seeded model whose weights do not fit into one ONNX file.

    python -m tools.export_checks.large_model [--variant float32]

A BERT of one layer with a token table of 2.3 GB (most of its ids belong to no token). Prints the sizes of the files,
the gate's worst difference and the process's peak memory.
"""

import json
import resource
import tempfile
import time
from pathlib import Path

import click
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from refcolbert_export.conversion.colbert import export_checkpoint

from ..goldens.bases import POSITIONS, write_base

__all__ = ["write_checkpoint"]

SEED, HIDDEN, DIM, BYTES = 13, 1024, 128, 2_300_000_000


def write_checkpoint(folder: Path, size: int = BYTES) -> Path:
    """Write a checkpoint in Stanford's layout whose token table takes `size` bytes."""
    folder.mkdir(parents=True)
    write_base("bert-uncased", folder)
    config = BertConfig(
        vocab_size=size // (4 * HIDDEN),
        hidden_size=HIDDEN,
        num_hidden_layers=1,
        num_attention_heads=8,
        intermediate_size=HIDDEN,
        max_position_embeddings=POSITIONS,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        tensors = {f"bert.{name}": t for name, t in BertModel(config, add_pooling_layer=False).state_dict().items()}
        tensors["linear.weight"] = torch.randn(DIM, HIDDEN) / HIDDEN**0.5
    (folder / "config.json").write_text(json.dumps({**config.to_dict(), "architectures": ["HF_ColBERT"]}, indent=1))
    (folder / "artifact.metadata").write_text(json.dumps({"query_maxlen": 32, "doc_maxlen": 60}))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@click.command()
@click.option("--variant", default="float32", show_default=True)
def main(variant: str) -> None:
    """Write, export, report."""
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint, out = write_checkpoint(Path(scratch) / "checkpoint"), Path(scratch) / "out"
        start = time.perf_counter()
        report = export_checkpoint(checkpoint, out, variant=variant)
        for path in sorted(out.iterdir()):
            click.echo(f"{path.name:22}{path.stat().st_size:14,} bytes")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts KiB
        click.echo(f"{report['worst']}, {time.perf_counter() - start:.0f} s, peak {peak:.1f} GiB")


if __name__ == "__main__":
    main()

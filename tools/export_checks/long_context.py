"""A seeded ModernBERT with thousands of positions, exported: parity, time and memory by length.

    python -m tools.export_checks.long_context [--length 8192] [--hidden 256] [--layers 4] [--heads 4] [--gate]

For each length up to LENGTH: one text of random ids through the exported graph and through transformers' own model, and
what a fresh process takes to encode one document of that length (its peak memory includes interpreter and libraries).
`--gate` runs the whole parity gate of `refcolbert export` as well, on some 20 texts of full length.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import ModernBertConfig, ModernBertModel

from refcolbert.encoding.encoder import Encoder
from refcolbert_export.conversion.colbert import export_checkpoint
from refcolbert_export.graph.to_onnx import to_onnx, write_model
from refcolbert_export.layouts.checkpoints import read_checkpoint
from refcolbert_export.parity.origins import reference_for
from tools import ROOT

__all__ = ["write_checkpoint"]

TEMPLATE = ROOT / "golden" / "encode" / "pylate-modernbert" / "checkpoint"
SEED, DIM, LEAST = 11, 64, 512
LOCAL_ATTENTION, EVERY = 128, 3  # as ModernBERT was trained: every third layer sees everything


def write_checkpoint(folder: Path, length: int, hidden: int, layers: int, heads: int) -> Path:
    """A PyLate checkpoint with `length` positions and that document length; tokenizer and markers of the golden one."""
    shutil.copytree(TEMPLATE, folder)
    vocabulary = json.loads((TEMPLATE / "config.json").read_text())
    ids = {key: vocabulary[key] for key in vocabulary if key.endswith("_token_id")}
    config = ModernBertConfig(
        vocab_size=vocabulary["vocab_size"],
        hidden_size=hidden,
        intermediate_size=hidden * 3 // 2,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=length,
        local_attention=LOCAL_ATTENTION,
        global_attn_every_n_layers=EVERY,
        **ids,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        ModernBertModel(config).save_pretrained(folder)
        head = {"linear.weight": torch.randn(DIM, hidden)}
    save_file(head, folder / "1_Dense" / "model.safetensors")
    _edit(folder / "1_Dense" / "config.json", in_features=hidden, out_features=DIM)
    _edit(folder / "config_sentence_transformers.json", document_length=length)
    return folder


def _edit(path: Path, **changes: int) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@click.command()
@click.option("--length", default=8192, show_default=True)
@click.option("--hidden", default=256, show_default=True)
@click.option("--layers", default=4, show_default=True)
@click.option("--heads", default=4, show_default=True)
@click.option("--gate", is_flag=True, help="Run the export's own parity gate too.")
def main(length: int, hidden: int, layers: int, heads: int, gate: bool) -> None:
    """Export a seeded long-context model and measure it."""
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = write_checkpoint(Path(scratch) / "checkpoint", length, hidden, layers, heads)
        source, out = read_checkpoint(checkpoint), Path(scratch) / "out"
        out.mkdir()
        write_model(to_onnx(source.model), out)
        (out / "tokenizer.json").write_text(source.tokenizer_json)
        (out / "encoding.json").write_text(source.spec.to_json())
        click.echo(f"{'tokens':>8}{'max-abs':>10}{'seconds':>9}{'peak MiB':>10}")
        lengths = [length >> shift for shift in range(16) if length >> shift >= LEAST][::-1] or [length]
        for n in lengths:
            worst = _compare(checkpoint, source.layout, out, n)
            seconds, peak = _measure(out, n)
            click.echo(f"{n:8}{worst:10.1e}{seconds:9.2f}{peak:10.0f}")
        if gate:
            start = time.perf_counter()
            report = export_checkpoint(checkpoint, Path(scratch) / "proved")
            click.echo(f"gate: {report['worst']} in {time.perf_counter() - start:.0f} s")


def _compare(checkpoint: Path, layout: str, out: Path, length: int) -> float:
    """Largest difference of a component between the graph and transformers' model on random ids."""
    encoder = Encoder(out)
    ids = np.random.default_rng(length).integers(5, encoder.tokenizer.vocabulary_size, (1, length))  # [1, length]
    mask = np.ones_like(ids)
    expected = reference_for(checkpoint, layout).vectors(ids, mask)
    return float(np.abs(encoder._run(ids, mask) - expected).max())


def _measure(out: Path, length: int) -> tuple[float, float]:
    """Seconds and peak MiB of a fresh process that encodes one document of `length` tokens."""
    command = [sys.executable, "-m", "tools.bench.encode_once", str(out), str(length)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    seconds, peak = done.stdout.split()
    return float(seconds), float(peak)


if __name__ == "__main__":
    main()

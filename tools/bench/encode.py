"""Encoding speed: refcolbert's variants beside PyLate and Sentence-Transformers, same checkpoint, texts and threads.

    python -m tools.bench.encode CHECKPOINT [--pylate PYTHON] [--sentence-transformers PYTHON] [--threads 2]

CHECKPOINT is a Stanford-layout folder (tools.default_model --checkpoint makes one). PYTHON is the interpreter of an
environment that has the peer. The texts are Python's own docstrings, of mixed length; all rows come from one run.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from refcolbert.docstrings import standard_library_docstrings
from refcolbert.encoder import Encoder
from refcolbert_export.folder import export_checkpoint

ROOT = Path(__file__).parents[2]
ROUNDS = 3
QUERIES = ["how do I parse a date", "remove a file", "parse command line arguments", "what color is amber urine"]


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--pylate", type=click.Path(path_type=Path), help="Interpreter that has PyLate.")
@click.option("--sentence-transformers", "st", type=click.Path(path_type=Path), help="Interpreter that has it.")
@click.option("--threads", default=2, show_default=True)
@click.option("--documents", default=256, show_default=True)
@click.option("--variant", "variants", multiple=True, default=["float32", "int8", "dynamic-int8"], show_default=True)
def main(
    checkpoint: Path, pylate: Path | None, st: Path | None, threads: int, documents: int, variants: tuple[str, ...]
) -> None:
    """Measure and print one table."""
    found = [document.text or "" for document in standard_library_docstrings()]
    texts = {"queries": QUERIES, "documents": found[:: max(len(found) // documents, 1)][:documents]}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "texts.json"
        path.write_text(json.dumps(texts))
        ways: dict[str, tuple[str, Path, Path]] = {}  # row -> implementation, interpreter, model
        for variant in variants:
            folder = Path(scratch) / variant
            export_checkpoint(checkpoint, folder, variant=variant)
            ways[f"refcolbert {variant}"] = ("refcolbert", Path(sys.executable), folder)
        peers = {"pylate": pylate, "sentence-transformers": st}
        ways |= {name: (name, python, checkpoint) for name, python in peers.items() if python is not None}
        tokens = sum(len(t.ids) for t in Encoder.load(folder).tokenizer.documents(texts["documents"]))
        # each in a process of its own, in turns: what else the machine does then hits all alike
        found_rows = [{name: _time(*way, path, threads) for name, way in ways.items()} for _ in range(ROUNDS)]
    rows = {name: {key: min(r[name][key] for r in found_rows) for key in found_rows[0][name]} for name in ways}
    _print(rows, tokens, _flops_a_token(checkpoint), _gemm())


def _time(name: str, python: Path, model: Path, texts: Path, threads: int) -> dict[str, float]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(threads)}
    arguments = [name, str(model.absolute()), str(texts), str(threads)]
    command = [str(python.absolute()), "-m", "tools.bench.encode_peer", *arguments]
    done = subprocess.run(command, check=True, env=environment, cwd=ROOT, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _flops_a_token(checkpoint: Path) -> float:
    """Twice the weights of the layers, since each is used once a token; attention itself comes on top."""
    config = json.loads((checkpoint / "config.json").read_text())
    hidden, inner, layers = (config[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    return float(2 * layers * (4 * hidden * hidden + 2 * hidden * inner))


def _gemm() -> float:
    """GFLOP/s of one float32 product of the size that encoding does, in NumPy; OMP_NUM_THREADS limits it."""
    a, b = np.ones((2048, 384), np.float32), np.ones((384, 1536), np.float32)
    a @ b
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return float(2 * 2048 * 384 * 1536 / best / 1e9)


def _print(rows: dict[str, dict[str, Any]], tokens: int, flops: float, gemm: float) -> None:
    click.echo(f"{tokens} tokens of documents; one product here reaches {gemm:.0f} GFLOP/s")
    click.echo(f"{'':28}{'query ms':>10}{'documents s':>13}{'tokens/s':>10}{'of GEMM':>9}")
    for name, row in rows.items():
        rate = tokens / row["documents_s"]
        share = rate * flops / 1e9 / gemm
        click.echo(f"{name:28}{row['query_ms']:10.1f}{row['documents_s']:13.2f}{rate:10.0f}{share:9.0%}")


if __name__ == "__main__":
    main()

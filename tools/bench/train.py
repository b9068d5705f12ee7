"""Training speed: refcolbert beside Sentence-Transformers' MultiVectorEncoder; same start, data, batch and threads.

    python -m tools.bench.train CHECKPOINT --sentence-transformers PYTHON [--precision bf16] [--threads 1]

CHECKPOINT is a Stanford-layout folder (tools.training.start makes one). PYTHON is the interpreter of an
environment that has the peer and what its trainer needs (sentence-transformers[train]). Both train on Python's own
docstrings: the first line is the query, the rest answers it, two others do not; in-batch negatives, AdamW.
The runs take turns, each in a process of its own. CPU seconds say the same as the clock where nothing else runs.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from refcolbert.corpus.stdlib_docstrings import standard_library_docstrings
from tools import ROOT

NEGATIVES, SHORTEST = 2, 200  # characters of an answer


def examples(n: int) -> Iterator[dict[str, str]]:
    """Evenly spread docstrings: summary, description, two other descriptions."""
    parts = [(document.text or "").partition("\n") for document in standard_library_docstrings()]
    pairs = [(first.strip(), rest.strip()) for first, _, rest in parts if first.strip() and len(rest) > SHORTEST]
    step = max(len(pairs) // n, 1)
    for i in range(n):
        others = {f"negative_{j}": pairs[(i * step + 7 * j) % len(pairs)][1] for j in range(1, NEGATIVES + 1)}
        yield {"query": pairs[i * step][0], "positive": pairs[i * step][1], **others}


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("--sentence-transformers", "peer", type=click.Path(path_type=Path), required=True, help="Interpreter.")
@click.option("--threads", default=1, show_default=True)
@click.option("--batch", default=16, show_default=True)
@click.option("--steps", default=4, show_default=True)
@click.option("--document-length", default=180, show_default=True)
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--dropout", default=0.1, show_default=True)
@click.option("--rounds", default=2, show_default=True, help="The better one of each counts.")
def main(checkpoint: Path, peer: Path, rounds: int, **how: Any) -> None:
    """Train both and print the rates of each round's better one, and their ratio."""
    ways = {"refcolbert": Path(sys.executable), "sentence-transformers": peer}
    n = how["batch"] * how["steps"]
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "train.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in examples(n)))
        found = [{name: _run(name, way, checkpoint, data, how) for name, way in ways.items()} for _ in range(rounds)]
    click.echo(json.dumps(how))
    click.echo("| | examples/s by the clock | examples a CPU second |\n|---|--:|--:|")
    best = {name: {key: min(r[name][key] for r in found) for key in ("clock_s", "cpu_s")} for name in ways}
    for name, seconds in best.items():
        click.echo(f"| {name} | {n / seconds['clock_s']:.2f} | {n / seconds['cpu_s']:.2f} |")
    ratios = [best["sentence-transformers"][key] / best["refcolbert"][key] for key in ("clock_s", "cpu_s")]
    click.echo(f"\nratio of examples per second: {ratios[0]:.2f} by the clock, {ratios[1]:.2f} by CPU time")


def _run(name: str, python: Path, checkpoint: Path, data: Path, how: dict[str, Any]) -> dict[str, float]:
    threads = str(how["threads"])
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    command = [python, "-m", "tools.bench.train_peer", name, checkpoint.resolve(), data, json.dumps(how)]
    done = subprocess.run(
        [str(c) for c in command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise click.ClickException(f"{name} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()

"""Encoding speed: refcolbert's variants beside PyLate and Sentence-Transformers, same checkpoint, texts and threads.

    python -m tools.bench.encode CHECKPOINT [--pylate PYTHON] [--sentence-transformers PYTHON] [--model small]

CHECKPOINT is a folder that the peers read too (tools.training.start makes one). PYTHON is the interpreter of an
environment that has the peer, --model another exported model: a folder, or small. The texts are Python's own
docstrings, of mixed length; all rows come from one run.

The last column is the share of this machine's rate of float32 matrix products that the documents reach. That rate is
measured in the same rounds, in ONNX Runtime, on the shapes of the model's own layers. Attention itself is not counted,
so the share is a lower bound; int8 arithmetic has no such share.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from refcolbert.corpus.stdlib_docstrings import standard_library_docstrings
from refcolbert.encoding.encoder import BATCH_TOKENS, Encoder
from refcolbert.encoding.onnx_file import matrix_products
from refcolbert_export.conversion.colbert import export_checkpoint
from refcolbert_export.graph.to_onnx import OPSET
from tools import ROOT

ROUNDS, IR_VERSION = 3, 9
QUERIES = ["how do I parse a date", "remove a file", "parse command line arguments", "what color is amber urine"]


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--pylate", type=click.Path(path_type=Path), help="Interpreter that has PyLate.")
@click.option("--sentence-transformers", "st", type=click.Path(path_type=Path), help="Interpreter that has it.")
@click.option("--threads", default=2, show_default=True)
@click.option("--documents", default=256, show_default=True)
@click.option("--variant", "variants", multiple=True, default=["float32", "int8", "dynamic-int8"], show_default=True)
@click.option("--models", type=click.Path(path_type=Path), help="Keep the exported models here, and use them again.")
@click.option("--model", "others", multiple=True, help="Another exported model: a folder, or small.")
def main(
    checkpoint: Path,
    pylate: Path | None,
    st: Path | None,
    threads: int,
    documents: int,
    variants: tuple[str, ...],
    models: Path | None,
    others: tuple[str, ...],
) -> None:
    """Measure and print one table."""
    found = [document.text or "" for document in standard_library_docstrings()]
    texts = {"queries": QUERIES, "documents": found[:: max(len(found) // documents, 1)][:documents]}
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "texts.json"
        path.write_text(json.dumps(texts))
        ways: dict[str, tuple[str, Path, Path]] = {}  # row -> implementation, interpreter, model
        for variant in variants:
            folder = (models or Path(scratch)) / variant
            if not folder.is_dir():
                export_checkpoint(checkpoint, folder, variant=variant)
            ways[f"refcolbert {variant}"] = ("refcolbert", Path(sys.executable), folder)
        if taken := set(others) & set(variants):
            raise click.UsageError(
                f"{', '.join(sorted(taken))} names a row twice; give the model's folder another name"
            )
        for name in others:
            ways[f"refcolbert {name}"] = ("refcolbert", Path(sys.executable), Encoder.load(name).folder)
        graphs = {name: (model / "model.onnx").read_bytes() for name, (*_, model) in ways.items()}
        flops = {name: 2 * matrix_products(graph)[0] for name, graph in graphs.items()}
        checkpoint_flops = next(iter(flops.values()))  # the peers', too
        peers = {"pylate": pylate, "sentence-transformers": st}
        ways |= {name: (name, python, checkpoint) for name, python in peers.items() if python is not None}
        tokens = sum(len(t.ids) for t in Encoder.load(folder).tokenizer.documents(texts["documents"]))
        # each in a process of its own, in turns: what else the machine does then hits all alike
        products = Path(scratch) / "products.onnx"
        products.write_bytes(_products(checkpoint))
        found_rows, seconds = [], []
        for _ in range(ROUNDS):
            found_rows.append({name: _run(*way, path, threads) for name, way in ways.items()})
            seconds.append(_run("products", Path(sys.executable), products, path, threads)["products_s"])
    rows = {name: {key: min(r[name][key] for r in found_rows) for key in found_rows[0][name]} for name in ways}
    gemm = BATCH_TOKENS * _flops_a_token(checkpoint) / min(seconds) / 1e9
    _print(rows, tokens, {name: flops.get(name, checkpoint_flops) for name in rows}, gemm)


def _run(name: str, python: Path, model: Path, texts: Path, threads: int) -> dict[str, float]:
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


def _products(checkpoint: Path) -> bytes:
    """An ONNX graph with nothing but the matrix products of the model's layers, for `BATCH_TOKENS` tokens."""
    config = json.loads((checkpoint / "config.json").read_text())
    hidden, inner, layers = (config[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    rng, nodes, weights = np.random.default_rng(0), [], []
    for i in range(layers):
        x = f"x{i}"
        shapes = {"query": (hidden, hidden), "key": (hidden, hidden), "value": (hidden, hidden)}
        for name, shape in {**shapes, "out": (hidden, hidden), "up": (hidden, inner), "down": (inner, hidden)}.items():
            weight = rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[0]))
            weights.append(numpy_helper.from_array(weight, f"{name}{i}"))
        nodes += [helper.make_node("MatMul", [x, f"{name}{i}"], [f"{name}_of{i}"]) for name in shapes]
        nodes.append(helper.make_node("Sum", [f"{name}_of{i}" for name in shapes], [f"sum{i}"]))
        for name, given, out in (("out", f"sum{i}", f"a{i}"), ("up", f"a{i}", f"b{i}"), ("down", f"b{i}", f"x{i + 1}")):
            nodes.append(helper.make_node("MatMul", [given, f"{name}{i}"], [out]))
    given = helper.make_tensor_value_info("x0", TensorProto.FLOAT, [BATCH_TOKENS, hidden])
    out = helper.make_tensor_value_info(f"x{layers}", TensorProto.FLOAT, [BATCH_TOKENS, hidden])
    graph = helper.make_graph(nodes, "products", [given], [out], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    return bytes(model.SerializeToString())


def _print(rows: dict[str, dict[str, Any]], tokens: int, flops: dict[str, float], gemm: float) -> None:
    click.echo(f"{tokens} tokens of documents; its matrix products alone reach {gemm:.0f} GFLOP/s here")
    click.echo(f"{'':28}{'query ms':>10}{'documents s':>13}{'tokens/s':>10}{'of GEMM':>9}")
    for name, row in rows.items():
        rate = tokens / row["documents_s"]
        share = "-" if name.endswith("dynamic-int8") else f"{rate * flops[name] / 1e9 / gemm:.0%}"
        click.echo(f"{name:28}{row['query_ms']:10.1f}{row['documents_s']:13.2f}{rate:10.0f}{share:>9}")


if __name__ == "__main__":
    main()

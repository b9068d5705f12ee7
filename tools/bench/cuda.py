"""ONNX Runtime's CUDA provider beside its CPU provider: the same vectors, how fast, and exact scans on the device.

    python -m tools.bench.cuda [--provider CPUExecutionProvider] [--tokens 1000000] [--model FOLDER]

Exports every golden checkpoint, and makes an environment with onnxruntime-gpu, in which `tools.bench.cuda_device`
compares them and the default model and measures. With `--provider CPUExecutionProvider` all of it runs here, without
CUDA. `--model FOLDER` compares this exported model alone.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from refcolbert.encoding.encoder import CPU, CUDA, default_model_folder
from refcolbert_export.conversion.colbert import export_checkpoint
from refcolbert_export.graph.to_onnx import OPSET
from tools import ROOT
from tools.environments import python_of

__all__ = ["rounding_bound", "write_scan"]

GOLDENS = ROOT / "golden" / "encode"
IR_VERSION = 9
# Half the distance from 1 to the next number. TF32 has 11 significant bits.
U_FLOAT32, U_TF32 = 2.0**-24, 2.0**-11


def rounding_bound(graph: onnx.GraphProto, tf32: bool) -> float:
    """How far a unit row may differ between two providers, in the model of independent random rounding errors.

    A product with K terms rounds K sums by at most u each, sqrt(K) u together, relative to its result; TF32 rounds the
    two factors instead, sqrt(2) u. The errors of P products one after the other grow as sqrt(P), those of both
    providers as sqrt(2). Four standard deviations are allowed.
    """
    products = [node.input[1] for node in graph.node if node.op_type == "MatMul"]
    sizes = [t.dims[0] for t in graph.initializer if t.name in products and len(t.dims) == 2]
    # a weight that is stored as int8 is reshaped to [K, columns]
    shapes = [t for t in graph.initializer if t.name.removesuffix("_shape") in products and t.name.endswith("_shape")]
    sizes += [int(numpy_helper.to_array(t)[0]) for t in shapes]
    one = np.sqrt(2) * U_TF32 if tf32 else np.sqrt(max(sizes)) * U_FLOAT32
    return float(4 * np.sqrt(2 * len(products)) * one)


def write_scan(path: Path) -> None:
    """Write MaxSim as a graph: q [n_q, dim], documents [n_docs, n_d, dim] -> the k best scores and their documents."""
    sizes = {"q": ["n_q", "dim"], "documents": ["n_docs", "n_d", "dim"]}
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in sizes.items()]
    given.append(helper.make_tensor_value_info("k", TensorProto.INT64, [1]))
    nodes = [
        helper.make_node("Transpose", ["q"], ["columns"]),  # [dim, n_q]
        helper.make_node("MatMul", ["documents", "columns"], ["similarities"]),  # [n_docs, n_d, n_q]
        helper.make_node("ReduceMax", ["similarities", "one"], ["largest"], keepdims=0),  # [n_docs, n_q]
        helper.make_node("ReduceSum", ["largest", "one"], ["scores"], keepdims=0),  # [n_docs]
        helper.make_node("TopK", ["scores", "k"], ["best_scores", "best"]),
    ]
    out = [
        helper.make_tensor_value_info("best_scores", TensorProto.FLOAT, ["k"]),
        helper.make_tensor_value_info("best", TensorProto.INT64, ["k"]),
    ]
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(nodes, "maxsim", given, out, [one])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION), path)


@click.command()
@click.option("--provider", type=click.Choice([CUDA, CPU]), default=CUDA, show_default=True)
@click.option("--tokens", default=1_000_000, show_default=True, help="Token vectors of the scan.")
@click.option("--documents", default=2048, show_default=True, help="Documents to encode.")
@click.option("--model", type=click.Path(exists=True, path_type=Path), help="An exported model to compare alone.")
def main(provider: str, tokens: int, documents: int, model: Path | None) -> None:
    """Compare and measure."""
    python = python_of("cuda" if provider == CUDA else None)
    with tempfile.TemporaryDirectory() as scratch:
        folders = [model] if model else [default_model_folder()]
        for checkpoint in () if model else sorted(GOLDENS.glob("*/checkpoint")):
            folders.append(Path(scratch) / checkpoint.parent.name)
            export_checkpoint(checkpoint, folders[-1])
        write_scan(Path(scratch) / "scan.onnx")
        graphs = {str(folder): onnx.load(folder / "model.onnx").graph for folder in folders}
        for tf32 in (False, True) if provider == CUDA else (False,):
            bounds = {folder: rounding_bound(graph, tf32) for folder, graph in graphs.items()}
            work = {"provider": provider, "tf32": tf32, "tokens": tokens, "documents": documents, "bounds": bounds}
            work["scan"] = f"{scratch}/scan.onnx"
            # ONNX Runtime lets CUDA's libraries use TF32. This variable of theirs forbids it.
            forbidden = {} if tf32 else {"NVIDIA_TF32_OVERRIDE": "0"}
            environment = {**os.environ, **forbidden, "PYTHONPATH": f"{ROOT}:{ROOT / 'export'}"}
            click.echo(f"{provider}, TF32 {'allowed' if tf32 else 'off'}")
            command = [str(python), "-m", "tools.bench.cuda_device"]
            subprocess.run(command, check=True, cwd=ROOT, env=environment, input=json.dumps(work), text=True)


if __name__ == "__main__":
    main()

"""`make cuda` on the CPU: everything but the CUDA provider itself."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the export extra is not installed")

import onnx
import onnxruntime
from strategies import unit

from refcolbert import Encoder, Ragged
from refcolbert.encoding.encoder import CPU
from refcolbert.engine.maxsim import scores
from tools import ROOT
from tools.bench.cuda import rounding_bound, write_scan
from tools.bench.cuda_device import Scan

MODEL = ROOT / "tests" / "models" / "tiny"


def test_a_scan_finds_the_exact_best(tmp_path):
    """The graph's best documents and scores are those of the engine when both scan everything."""
    write_scan(tmp_path / "scan.onnx")
    documents = np.stack([unit(np.random.default_rng(i), 5, 16) for i in range(40)])  # [n_docs, n_d, dim]
    q = unit(np.random.default_rng(99), 6, 16)
    found, which = Scan(tmp_path / "scan.onnx", CPU, documents).best(q, 7)
    exact = scores(q, Ragged(documents.reshape(-1, 16), np.arange(41) * 5))
    assert which.tolist() == np.argsort(-exact)[:7].tolist()
    np.testing.assert_allclose(found, exact[which], atol=1e-6)


def test_the_bound_tells_float32_from_tf32(tmp_path):
    """Weights of 11 significant bits, as TF32 has, move rows by more than float32's bound and less than TF32's."""
    graph = onnx.load(MODEL / "model.onnx")
    factors = {node.input[1] for node in graph.graph.node if node.op_type == "MatMul"}
    for tensor in [t for t in graph.graph.initializer if t.name in factors]:
        mantissa, exponent = np.frexp(onnx.numpy_helper.to_array(tensor))
        rounded = np.ldexp(np.rint(mantissa * 2**11) / 2**11, exponent).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, tensor.name))
    moved = shutil.copytree(MODEL, tmp_path / "moved")
    onnx.save(graph, moved / "model.onnx")
    texts = ["what color is amber urine", "late interaction scores every query token"]
    a, b = (Encoder.load(folder).encode_documents(texts).vectors for folder in (MODEL, moved))
    worst = np.linalg.norm(a - b, axis=1).max()
    assert rounding_bound(graph.graph, tf32=False) < worst < rounding_bound(graph.graph, tf32=True)


def run(folder, **changes):
    """The part that runs on the device, on the CPU."""
    work = {"provider": CPU, "tf32": False, "tokens": 6400, "documents": 3, "bounds": {str(MODEL): 1e-5}, **changes}
    write_scan(folder / "scan.onnx")
    given = json.dumps({**work, "scan": str(folder / "scan.onnx")})
    command = [sys.executable, "-m", "tools.bench.cuda_device"]
    return subprocess.run(command, input=given, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_device_that_agrees_is_measured(tmp_path):
    """All figures are printed when rows and scores agree."""
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    for line in ("tiny: rows differ by 0.0e+00", "batches of 2048 tokens", "exact scan of 6400 token vectors"):
        assert line in done.stdout


def test_a_device_that_differs_is_refused(tmp_path):
    """The run fails and names the model when its rows differ by more than the bound."""
    done = run(tmp_path, bounds={str(MODEL): -1.0})
    assert done.returncode == 1
    assert "WRONG" in done.stdout


def test_an_absent_cuda_is_named(tmp_path):
    """A machine without CUDA gets an error that says what is missing."""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("CUDA is here")
    done = run(tmp_path, provider="CUDAExecutionProvider")
    assert done.returncode == 1
    assert "device='cuda' needs ONNX Runtime's CUDA build" in done.stderr

"""The part of `tools.bench.cuda` that runs in the environment with onnxruntime-gpu: no torch, no onnx.

It reads what to do as JSON from stdin. It ends with status 1 when vectors or scores differ too much.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from refcolbert import Encoder, Ragged
from refcolbert.arrays import Floats
from refcolbert.corpus.stdlib_docstrings import standard_library_docstrings
from refcolbert.encoding import encoder as core
from refcolbert.engine.maxsim import scores
from refcolbert_export.parity.awkward_texts import FIXED

__all__ = ["Scan", "distance"]

ROUNDS, K, N_Q, N_D, DIM = 3, 10, 32, 64, 128
BATCH_TOKENS = (2048, 8192, 32768)


def distance(folder: Path, device: str) -> float:
    """The largest norm of a row's difference between the device and the CPU, over the awkward texts."""
    worst = 0.0
    a, b = Encoder.load(folder), Encoder.load(folder, device=device)
    texts = [text for text in FIXED.values() if a.tokenizer.documents([text])[0].keep.any()]
    for x, y in zip(a.encode_documents(texts), b.encode_documents(texts), strict=True):
        worst = max(worst, float(np.linalg.norm(x - y, axis=1).max()))
    for x, y in zip(a.encode_queries(texts), b.encode_queries(texts), strict=True):
        worst = max(worst, float(np.linalg.norm(x - y, axis=1).max()))
    return worst


class Scan:
    """MaxSim of one query with documents that stay on the device."""

    def __init__(self, graph: Path, provider: str, documents: Floats) -> None:  # [n_docs, n_d, dim]
        self.session = onnxruntime.InferenceSession(graph, providers=[provider])
        self.kind = "cuda" if provider == core.CUDA else "cpu"
        self.documents = onnxruntime.OrtValue.ortvalue_from_numpy(documents, self.kind, 0)

    def best(self, q: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
        """The k best scores and their documents."""
        binding = self.session.io_binding()
        binding.bind_ortvalue_input("documents", self.documents)
        binding.bind_cpu_input("q", q)
        binding.bind_cpu_input("k", np.array([k], np.int64))
        for name in ("best_scores", "best"):
            binding.bind_output(name, "cpu")
        self.session.run_with_iobinding(binding)
        found, which = binding.copy_outputs_to_cpu()
        return found, which


def seconds(call: Callable[[], object]) -> float:
    """The shortest of some runs, after one that is not counted."""
    call()
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def main(work: dict[str, Any]) -> bool:
    """Print all figures; True when nothing differs by more than it may."""
    provider = work["provider"]
    device = "cuda" if provider == core.CUDA else "cpu"
    if device == "cuda":
        # loads the libraries that pip installed
        onnxruntime.preload_dlls()
    right = True
    for folder, bound in work["bounds"].items():
        found = distance(Path(folder), device)
        right &= found <= bound
        verdict = "" if found <= bound else "  WRONG"
        print(f"{Path(folder).name}: rows differ by {found:.1e}, bound {bound:.1e}{verdict}")
    model = Encoder.load(next(iter(work["bounds"])), device=device)
    texts = [document.text or "" for document in standard_library_docstrings()][: work["documents"]]
    tokens = sum(len(t.ids) for t in model.tokenizer.documents(texts))
    for most in BATCH_TOKENS:
        core.BATCH_TOKENS = most
        taken = seconds(lambda: model.encode_documents(texts))
        print(f"encoding, batches of {most} tokens: {tokens / taken:.0f} tokens/s")
    return _scan(work["scan"], provider, work["tokens"], work["tf32"]) and right


def _scan(graph: str, provider: str, tokens: int, tf32: bool) -> bool:
    rng = np.random.default_rng(0)
    documents = rng.standard_normal((tokens // N_D, N_D, DIM), np.float32)  # [n_docs, n_d, dim]
    documents /= np.linalg.norm(documents, axis=2, keepdims=True)
    q = rng.standard_normal((N_Q, DIM), np.float32)  # [n_q, dim]
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    scan = Scan(Path(graph), provider, documents)
    offsets = np.arange(len(documents) + 1) * N_D
    exact = scores(q, Ragged(documents.reshape(-1, DIM), offsets))  # [n_docs]
    found, which = scan.best(q, K)
    # Each side adds N_Q products of unit vectors. Each product rounds DIM sums, and TF32 both factors besides.
    bound = 2 * N_Q * ((DIM + N_Q) * 2.0**-24 + tf32 * 2 * 2.0**-11)
    worst = float(np.abs(found - exact[which]).max())
    least = float(np.sort(exact)[-K] - found.min())
    right = worst <= bound and least <= bound
    print(f"exact scan of {documents.size // DIM} token vectors: {seconds(lambda: scan.best(q, K)) * 1e3:.1f} ms")
    print(f"its best {K} scores differ by {worst:.1e}, bound {bound:.1e}{'' if right else '  WRONG'}")
    return right


if __name__ == "__main__":
    sys.exit(not main(json.load(sys.stdin)))

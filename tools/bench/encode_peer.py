"""Time one implementation in its own environment: python -m tools.bench.encode_peer NAME CHECKPOINT TEXTS THREADS.

NAME is refcolbert, pylate or sentence-transformers. Prints one JSON line: milliseconds of one query, seconds for all
documents. With NAME products CHECKPOINT is a graph with one fixed input, and the line has the seconds of one run of it.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["time_encoding"]

QUERY_RUNS, PRODUCT_RUNS = 30, 15


def time_encoding(
    query: Callable[[str], object], documents: Callable[[list[str]], object], texts: Any
) -> dict[str, Any]:
    """Median of single queries, best of two passes over the documents; both warmed up."""
    for text in texts["queries"][:3]:
        query(text)
    documents(texts["documents"][:8])
    each = []
    for i in range(QUERY_RUNS):
        start = time.perf_counter()
        query(texts["queries"][i % len(texts["queries"])])
        each.append(time.perf_counter() - start)
    passes = []
    for _ in range(2):
        start = time.perf_counter()
        documents(texts["documents"])
        passes.append(time.perf_counter() - start)
    return {"query_ms": statistics.median(each) * 1e3, "documents_s": min(passes)}


def _time_products(graph: str, threads: int) -> float:
    """Seconds of the fastest run: what the machine can do undisturbed."""
    import numpy as np  # the peers' processes need neither
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    feed = {given.name: np.random.default_rng(0).standard_normal(given.shape, np.float32)}
    best = float("inf")
    for _ in range(PRODUCT_RUNS):
        start = time.perf_counter()
        session.run(None, feed)
        best = min(best, time.perf_counter() - start)
    return best


def main() -> None:
    """Load the peer and time it."""
    name, checkpoint, path, threads = sys.argv[1:]
    texts = json.loads(Path(path).read_text())
    if name == "products":
        print(json.dumps({"products_s": _time_products(checkpoint, int(threads))}))
        return
    if name == "refcolbert":
        from refcolbert.encoding.encoder import Encoder

        own = Encoder.load(checkpoint, threads=int(threads))
        print(json.dumps(time_encoding(lambda text: own.encode_queries([text]), own.encode_documents, texts)))
        return
    import torch

    torch.set_num_threads(int(threads))
    if name == "pylate":
        from pylate import models

        model = models.ColBERT(checkpoint, device="cpu")
        found = time_encoding(
            lambda text: model.encode([text], is_query=True, show_progress_bar=False),
            lambda many: model.encode(many, is_query=False, batch_size=32, show_progress_bar=False),
            texts,
        )
    else:
        from sentence_transformers import MultiVectorEncoder

        encoder = MultiVectorEncoder(checkpoint, device="cpu")
        found = time_encoding(
            lambda text: encoder.encode_query([text]),
            lambda many: encoder.encode_document(many, batch_size=32),
            texts,
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""Measures how fast an exported model encodes on this machine: one query, and a batch of documents."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from refcolbert.encoding.encoder import Encoder

from ..parity.report import long_texts_expected

__all__ = ["measure_speed"]

RUNS = 7
DOCUMENTS = 8


@long_texts_expected()
def measure_speed(folder: Path) -> dict[str, Any]:
    """Median milliseconds per query, and tokens per second for documents of about 130 tokens."""
    encoder = Encoder(folder)
    texts = [" ".join(f"item {i + j * 31} of the list" for i in range(20)) for j in range(DOCUMENTS)]
    tokens = sum(len(t.ids) for t in encoder.tokenizer.documents(texts))
    query = _median(lambda: encoder.encode_queries(["what color is amber urine"]))
    documents = _median(lambda: encoder.encode_documents(texts))
    return {"query_ms": round(query * 1e3, 2), "document_tokens_per_second": round(tokens / documents)}


def _median(call: Callable[[], object]) -> float:
    call()
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))

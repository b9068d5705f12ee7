"""Figures of MS MARCO's passage task as their papers print them: not measured here, and on another collection.

8.8 million passages, 6,980 queries of dev; milliseconds on the authors' machines, of the neural rankers on GPUs.
"""

from dataclasses import dataclass

__all__ = ["PUBLISHED", "SOURCES", "Published"]


@dataclass(frozen=True, slots=True)
class Published:
    """One line of a paper; None where it prints nothing."""

    system: str
    mrr: float
    recall50: float | None
    recall1000: float | None
    milliseconds: float | None
    flops: str | None
    source: str


SOURCES = {
    "1": "Khattab and Zaharia, ColBERT, SIGIR 2020, tables 1 and 2: https://arxiv.org/abs/2004.12832",
    "2": "Santhanam et al., ColBERTv2, NAACL 2022, table 4: https://arxiv.org/abs/2112.01488",
    "3": "Xiong et al., ANCE, ICLR 2021, table 1: https://arxiv.org/abs/2007.00808",
    "4": "a ColBERT of MiniLM's size, the model card of vespa-engine/col-minilm",
    "5": "a cross-encoder of MiniLM's size, the model card of cross-encoder/ms-marco-MiniLM-L-6-v2",
}

PUBLISHED = (
    Published("BM25 (Anserini)", 0.187, 0.592, 0.857, 62, None, "1"),
    Published("bi-encoder (ANCE)", 0.330, None, 0.959, None, None, "3"),
    Published("ColBERT, end to end", 0.360, 0.829, 0.968, 458, None, "1"),
    Published("ColBERT reranks BM25's top 1,000", 0.349, None, None, 61, "7 G", "1"),
    Published("ColBERT over MiniLM reranks a bi-encoder's 1,000", 0.364, 0.816, 0.939, None, None, "4"),
    Published("ColBERTv2", 0.397, 0.868, 0.984, None, None, "2"),
    Published("cross-encoder (MiniLM) reranks 1,000", 0.390, None, None, None, None, "5"),
    Published("cross-encoder (BERT base) reranks 1,000", 0.347, None, None, 10_700, "97 T", "1"),
    Published("cross-encoder (BERT large) reranks 1,000", 0.365, None, None, 32_900, "340 T", "1"),
)

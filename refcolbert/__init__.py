"""ColBERT retrieval in one process, without torch: NumPy and ONNX Runtime alone.

    Index      documents in a folder on disk: add, delete, search
    Encoder    texts -> token vectors
    rerank     sort texts by their score for a query, without an index
    maxsim     the score itself

`__all__` lists the public names. ARCHITECTURE.md describes the folders and the order in which to read them.
"""

import logging

from . import errors
from ._version import __version__
from .documents import Document
from .encoding.encoder import Encoder
from .encoding.spec import EncodingSpec
from .engine.maxsim import maxsim
from .engine.ragged import Ragged
from .evaluation.no_answer import Thresholds, tune_min_score
from .evaluation.plan import Plan, plan
from .evaluation.tune import Tuning, tune
from .explanation.explanation import Explanation, Match
from .explanation.words import WordMatch
from .hits import Hit, Hits, Parts
from .index import Index
from .reading import IndexReader
from .rerank import rerank
from .sharded import ShardedIndex, open_index

__all__ = [
    "Document",
    "Encoder",
    "EncodingSpec",
    "Explanation",
    "Hit",
    "Hits",
    "Index",
    "IndexReader",
    "Match",
    "Parts",
    "Plan",
    "Ragged",
    "ShardedIndex",
    "Thresholds",
    "Tuning",
    "WordMatch",
    "__version__",
    "errors",
    "maxsim",
    "open_index",
    "plan",
    "rerank",
    "tune",
    "tune_min_score",
]

logging.getLogger("refcolbert").addHandler(logging.NullHandler())

"""Ask one system the queries of one collection: metrics of each query, times, FLOPs, bytes, and the run."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from refcolbert.evaluation.metrics import Run, per_query
from tools.compare.parts import Parts
from tools.compare.results import DEEP, SHALLOW
from tools.compare.systems import System
from tools.compare.systems.answers import DEPTH, Answer

__all__ = ["TOP", "measure", "sample"]

TOP = 10  # documents that a user looks at


def sample(queries: Mapping[str, str], n: int, seed: int) -> dict[str, str]:
    """At most n of the queries; a smaller sample is the beginning of a larger one."""
    names = list(queries)
    chosen = np.random.default_rng(seed).permutation(len(names))[:n]
    return {names[i]: queries[names[i]] for i in chosen}


def measure(system: System, parts: Parts, queries: Mapping[str, str]) -> tuple[dict[str, Any], Run]:
    """The content of a system's cell, and the run of its DEPTH best documents.

    A system with `by_k` is asked twice. Times and metrics at 10 come from asking for TOP documents, "deep" and recall
    from asking for DEPTH.
    """
    # The first query maps files and fills caches, so it is asked once more, untimed. The deep reranker would score a
    # thousand pairs for that, and the shallow one has used the same model before it.
    if system.sample != "deep":
        system.ask(parts, next(iter(queries.values())), DEPTH)
    deep = {name: system.ask(parts, text, DEPTH) for name, text in queries.items()}
    shallow = {name: system.ask(parts, text, TOP) for name, text in queries.items()} if system.by_k else deep
    judged = {name: parts.collection.qrels[name] for name in queries}
    runs = {name: _run(answers, parts) for name, answers in (("shallow", shallow), ("deep", deep))}
    cell = {
        "queries": list(queries),
        "documents": [len(answer.documents) for answer in deep.values()],
        "encode": [answer.encode for answer in shallow.values()],
        "search": [answer.search for answer in shallow.values()],
        "deep": [answer.search for answer in deep.values()],
        "flops": [answer.flops for answer in shallow.values()],
        "bytes": system.size(parts) / len(parts.ids),
        "metrics": {**per_query(runs["shallow"], judged, SHALLOW), **per_query(runs["deep"], judged, DEEP)},
    }
    return cell, runs["deep"]


def _run(answers: Mapping[str, Answer], parts: Parts) -> Run:
    """Document ids in the answers' order."""
    return {
        name: {parts.ids[i]: float(score) for i, score in zip(answer.documents, answer.scores, strict=True)}
        for name, answer in answers.items()
    }

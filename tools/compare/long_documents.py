"""Long documents: cutting them where the model stops reading, against passages and the best passage of each.

No collection at hand is long, so long documents are made: JOINED documents, in an order drawn with a seed, become one,
which is relevant where one of them is. An experiment, therefore: real long documents are of one piece.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refcolbert.corpus.passages import split
from refcolbert.corpus.readers import PASSAGE_OF
from refcolbert.documents import Document
from refcolbert.engine.topk import top_k
from refcolbert.evaluation.metrics import evaluate
from refcolbert_export.mining.teachers import BM25
from tools.compare.judged import METRICS, relevant
from tools.compare.parts import Parts
from tools.compare.rows import maxima

__all__ = ["examine", "lengths"]

JOINED, DOCUMENTS, QUERIES = 6, 600, 60
CUTS, PASSAGE = (128, 256, 512), 128  # tokens


def examine(parts: Parts, queries: Mapping[str, str], seed: int) -> dict[str, Any]:
    """The quality of cut documents and of passages, for ColBERT, the bi-encoder and (uncut) BM25."""
    asked = dict(list(queries.items())[:QUERIES])
    documents, qrels = _joined(parts, asked, seed)
    asked = {name: text for name, text in asked.items() if name in qrels}
    if not asked:
        return {}
    tokenizer, longest = parts.models.encoder.tokenizer, parts.models.encoder.spec.document_length
    passages = list(split(documents, min(PASSAGE, tokenizer.document_room), lengths=tokenizer.lengths))
    places = {document.id: i for i, document in enumerate(documents)}
    groups = np.array([places[str(p.metadata.get(PASSAGE_OF, p.id))] for p in passages])  # [n_passages]
    texts, names = [d.text or "" for d in documents], list(places)
    found: dict[str, dict[str, float]] = {}

    def judge(name: str, scores: Sequence[NDArray[np.floating]]) -> None:
        run = {
            query: {names[i]: float(row[i]) for i in top_k(row, 100)} for query, row in zip(asked, scores, strict=True)
        }
        found[name] = evaluate(run, {query: qrels[query] for query in asked}, METRICS)

    bm25 = BM25(texts)
    judge("BM25, whole", [bm25.scores(text) for text in asked.values()])
    for cut in sorted({min(cut, longest) for cut in CUTS}):
        judge(f"ColBERT, cut at {cut}", _maxsim(parts, asked, texts, cut))
        judge(f"bi-encoder, cut at {cut}", _cosines(parts, asked, texts, cut))
    pieces = [p.text or "" for p in passages]
    of_passages = {
        "ColBERT": _maxsim(parts, asked, pieces, None),
        "bi-encoder": _cosines(parts, asked, pieces, 2 * PASSAGE),
    }
    for system, scores in of_passages.items():
        judge(f"{system}, best passage", [_best(s, groups) for s in scores])
        judge(f"{system}, mean of its passages", [_mean(s, groups) for s in scores])
    counts = [sum(tokenizer.lengths(text.split())) for text in texts]
    about = {"documents": len(texts), "queries": len(asked), "passages": len(pieces), "tokens": float(np.mean(counts))}
    return {**about, "quality": found}


def _joined(parts: Parts, queries: Mapping[str, str], seed: int) -> tuple[list[Document], dict[str, dict[str, int]]]:
    """Long documents that hold the relevant ones and some others; and which of them answer which query."""
    needed = dict.fromkeys(i for name in queries for i in relevant(parts, name)[:3])
    rest = [int(i) for i in np.random.default_rng(seed).permutation(len(parts.texts)) if i not in needed]
    chosen = [*needed, *rest][:DOCUMENTS]
    order = [chosen[i] for i in np.random.default_rng([seed, 1]).permutation(len(chosen))]
    runs = [order[first : first + JOINED] for first in range(0, len(order), JOINED)]
    long = [Document(id=str(n), text="\n".join(parts.texts[i] for i in run)) for n, run in enumerate(runs)]
    place = {i: str(n) for n, run in enumerate(runs) for i in run}
    grades = parts.collection.qrels
    qrels: dict[str, dict[str, int]] = {}
    for name in queries:
        for i in relevant(parts, name):
            if i in place:
                judged = qrels.setdefault(name, {})
                judged[place[i]] = max(judged.get(place[i], 0), grades[name][parts.ids[i]])
    return long, qrels


def _maxsim(parts: Parts, asked: Mapping[str, str], texts: list[str], cut: int | None) -> list[NDArray[np.floating]]:
    encoder = parts.models.encoder
    tokenizer = encoder.tokenizer
    if cut is not None:  # the same model, told to read less
        json_text = (encoder.folder / "tokenizer.json").read_text(encoding="utf-8")
        tokenizer = type(tokenizer)(json_text, replace(encoder.spec, document_length=cut))
    unique = list(dict.fromkeys(texts))
    vectors = encoder._encode(tokenizer.documents(unique), lambda _: None)
    documents = vectors.take(np.array([unique.index(text) for text in texts]))
    return [maxima(q, documents).sum(1) for q in encoder.encode_queries(list(asked.values()))]


def _cosines(parts: Parts, asked: Mapping[str, str], texts: list[str], cut: int) -> list[NDArray[np.floating]]:
    rows = parts.models.sentences.encode(texts, cut)  # [n_texts, dim]
    return [rows @ q for q in parts.models.sentences.encode(list(asked.values()))]


def _best(scores: NDArray[np.floating], groups: NDArray[np.int64]) -> NDArray[np.floating]:
    """[n_passages] -> [n_docs] the best passage of each document."""
    out = np.full(int(groups.max()) + 1, -np.inf)
    np.maximum.at(out, groups, scores)
    return out


def _mean(scores: NDArray[np.floating], groups: NDArray[np.int64]) -> NDArray[np.floating]:
    """[n_passages] -> [n_docs] the mean over the passages of each document."""
    found: NDArray[np.floating] = np.bincount(groups, scores) / np.bincount(groups)
    return found


def lengths(longest: int) -> dict[str, Any]:
    """Time and memory of one document by its length, of a seeded model with that many positions, untrained."""
    command = [sys.executable, "-m", "tools.export_checks.long_context", "--length", str(longest)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    lines = [line.split() for line in done.stdout.splitlines()[1:]]
    return {"rows": [[int(n), float(seconds), float(peak)] for n, _, seconds, peak in lines]}

"""Long and mixed documents: irrelevant text around a relevant passage, and queries that ask for two things.

Dilution: a short relevant document gets irrelevant words, of other documents, behind it or in front of it, and is
ranked among all documents that are not relevant. The irrelevant words alone are ranked, too: what they gain by their
length is no relevance. Two facets: two queries asked as one, and a document that answers both
beside those that answer one each.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refcolbert.engine.ragged import Ragged
from refcolbert_export.mining.teachers import BM25, K1, B
from tools.compare.judged import relevant
from tools.compare.parts import Parts
from tools.compare.rows import QueryRows, augmented, maxima, means, similarities, unit

__all__ = ["WORDS", "dilution", "facets"]

Scores = NDArray[np.floating]

WORDS = (0, 50, 100, 200, 300)  # irrelevant ones
SHORT = 100  # words of a relevant document at most: with the rest it stays within what a model reads
LENGTH = 512  # tokens that the bi-encoder reads here
QUERIES, PAIRS = 60, 50  # at most


def dilution(parts: Parts, queries: Mapping[str, str], seed: int) -> dict[str, Any]:
    """Mean reciprocal rank of the diluted documents by place and number of irrelevant words; {} without short ones."""
    short = [(name, i) for name in queries for i in relevant(parts, name)[:1] if len(parts.texts[i].split()) <= SHORT]
    short = short[:QUERIES]
    if not short:
        return {}
    rng = np.random.default_rng(seed)
    noise = [_noise(parts, set(relevant(parts, name)), rng) for name, _ in short]
    asked = [queries[name] for name, _ in short]
    systems, found = _systems(parts, asked), {}
    for place, n in [(place, n) for place in ("behind", "in front", "alone") for n in WORDS if n or place != "alone"]:
        texts = [_diluted(parts.texts[i], noise[j][:n], place) for j, (_, i) in enumerate(short)]
        cut = [len(t.ids) >= parts.models.encoder.spec.document_length for t in _tokenized(parts, texts)]
        ranks = {way: _ranks(parts, [name for name, _ in short], *score(texts)) for way, score in systems.items()}
        mean_ranks = {way: float((1 / r).mean()) for way, r in ranks.items()}
        found[f"{place} {n}"] = {**mean_ranks, "cut": float(np.mean(cut))}
    return {"queries": len(short), "words": list(WORDS), "ranks": found}


def _tokenized(parts: Parts, texts: Sequence[str]) -> list[Any]:
    return list(parts.models.encoder.tokenizer.documents(texts))


def _noise(parts: Parts, answers: set[int], rng: np.random.Generator) -> list[str]:
    """Words of documents that do not answer the query, document after document."""
    words: list[str] = []
    while len(words) < max(WORDS):
        i = int(rng.integers(len(parts.texts)))
        words += [] if i in answers else parts.texts[i].split()
    return words


def _diluted(text: str, noise: Sequence[str], place: str) -> str:
    return " ".join({"behind": [text, *noise], "in front": [*noise, text], "alone": noise}[place])


def _systems(parts: Parts, asked: Sequence[str]) -> dict[str, Callable[[Sequence[str]], tuple[list[Scores], Scores]]]:
    """name -> texts, one a query -> (of each query the scores of all documents [n_docs], [n_queries] of its text)."""
    encoder, sentences, documents = parts.models.encoder, parts.models.sentences, parts.vectors()
    rows, pooled = encoder.encode_queries(asked), means(documents)
    mean = [unit(q.mean(0)) for q in rows]
    single, vectors = sentences.encode(asked, LENGTH), parts.rows
    maxsim_all = [maxima(q, documents).sum(1) for q in rows]

    def maxsim(texts: Sequence[str]) -> tuple[list[Scores], Scores]:
        found = encoder.encode_documents(texts)
        own = [float(similarities(q, found.take(np.array([j]))).max(0).sum()) for j, q in enumerate(rows)]
        return list(maxsim_all), np.array(own)

    def pooling(texts: Sequence[str]) -> tuple[list[Scores], Scores]:
        found = means(encoder.encode_documents(texts))
        return [pooled @ m for m in mean], np.array([found[j] @ m for j, m in enumerate(mean)])

    def bi_encoder(texts: Sequence[str]) -> tuple[list[Scores], Scores]:
        found = sentences.encode(texts, LENGTH)
        return [vectors @ q for q in single], np.einsum("nd,nd->n", found, single)

    words, everything = Words(parts.bm25, parts.texts), [parts.bm25.scores(text) for text in asked]

    def bm25(texts: Sequence[str]) -> tuple[list[Scores], Scores]:
        return list(everything), np.array([words.score(q, text) for q, text in zip(asked, texts, strict=True)])

    return {"MaxSim": maxsim, "mean pooling": pooling, "bi-encoder": bi_encoder, "BM25": bm25}


class Words:
    """BM25 of texts outside the collection, by its statistics: what `teachers.BM25` would say of a text in it."""

    def __init__(self, index: BM25, texts: Sequence[str]) -> None:
        self._stems = index._words
        found = self._stems(list(texts))
        self._holding = Counter(word for words in found for word in set(words))
        self._n, self._mean = len(found), float(np.mean([len(words) for words in found]))

    def score(self, query: str, text: str) -> float:
        """Sum over the query's words of idf * tf / (tf + k1 (1 - b + b * length / mean length))."""
        words, asked = self._stems([text, query])
        counts, length = Counter(words), K1 * (1 - B + B * len(words) / self._mean)
        return sum(self._idf(word) * counts[word] / (counts[word] + length) for word in asked if counts[word])

    def _idf(self, word: str) -> float:
        holding = self._holding[word]
        return float(np.log(1 + (self._n - holding + 0.5) / (holding + 0.5)))


def _ranks(parts: Parts, names: Sequence[str], everything: Sequence[Scores], own: Scores) -> NDArray[np.int64]:
    """[n_queries] the rank of each query's text among all documents that are not relevant to it."""
    ranks = []
    for j, name in enumerate(names):
        others = np.ones(len(parts.texts), np.bool_)  # [n_docs]
        others[relevant(parts, name)] = False
        ranks.append(1 + int((everything[j][others] >= own[j]).sum()))
    return np.array(ranks)


def facets(parts: Parts, queries: Mapping[str, str], seed: int) -> dict[str, Any]:
    """How often the document that answers both ranks above those that answer one, and which words matched where."""
    pairs = _pairs(parts, queries, seed)
    if not pairs:
        return {}
    encoder = parts.models.encoder
    asked = [f"{queries[a]} {queries[b]}" for a, b, _, _ in pairs]
    both = [f"{parts.texts[i]}\n{parts.texts[j]}" for _, _, i, j in pairs]
    documents = encoder.encode_documents(both)
    rows = augmented(encoder, asked, 0)
    first = {a: int((~augmented(encoder, [queries[a]], 0)[0].marked).sum()) for a, _, _, _ in pairs}
    alone = parts.vectors()
    evidence = []
    wins: dict[str, list[bool]] = {"MaxSim": [], "mean pooling": [], "bi-encoder": []}
    single = parts.models.sentences.encode(asked, LENGTH), parts.models.sentences.encode(both, LENGTH)
    for n, (a, _, i, j) in enumerate(pairs):
        three = [documents.take(np.array([n])), alone.take(np.array([i])), alone.take(np.array([j]))]
        q = rows[n].vectors
        mean = q.mean(0)
        for way, scores in (
            ("MaxSim", [float(maxima(q, d).sum()) for d in three]),
            ("mean pooling", [float((means(d) @ mean)[0]) for d in three]),
            ("bi-encoder", [float(v @ single[0][n]) for v in (single[1][n], parts.rows[i], parts.rows[j])]),
        ):
            wins[way].append(scores[0] > max(scores[1:]))
        evidence.append(_evidence(parts, rows[n], first[a], both[n], len(parts.texts[i]), three[0]))
    return {
        "pairs": len(pairs),
        "both first": {way: float(np.mean(won)) for way, won in wins.items()},
        "own evidence": [_mean(shares) for shares in zip(*evidence, strict=True)],  # of the first facet, the second
    }


def _pairs(parts: Parts, queries: Mapping[str, str], seed: int) -> list[tuple[str, str, int, int]]:
    """Two queries and a relevant document of each that does not answer the other; short ones, so that none is cut."""
    first = {name: relevant(parts, name) for name in queries}
    usable = [name for name, found in first.items() if found and len(parts.texts[found[0]].split()) <= 2 * SHORT]
    order = [usable[i] for i in np.random.default_rng(seed).permutation(len(usable))]
    pairs = [(a, b, first[a][0], first[b][0]) for a, b in zip(order[::2], order[1::2], strict=False)]
    return [pair for pair in pairs if pair[2] not in first[pair[1]] and pair[3] not in first[pair[0]]][:PAIRS]


def _evidence(
    parts: Parts, rows: QueryRows, n_first: int, text: str, boundary: int, document: Ragged
) -> list[float | None]:
    """Of each facet the share of its words whose best match lies in its own document's part; None without words.

    The first `n_first` words of the query are the first facet's; its document ends at `boundary` in the text.
    """
    _, spans = parts.models.encoder.document_labels(text)
    places = np.array([span[0] if span else -1 for span in spans])  # [n_d] where in the text a row's token begins
    found = places[similarities(rows.vectors, document).argmax(0)][~rows.marked]  # [n_words]
    own = [(found >= 0) & (found < boundary), found >= boundary]  # [n_words] each
    return [float(part.mean()) if len(part) else None for part in (own[0][:n_first], own[1][n_first:])]


def _mean(shares: Sequence[float | None]) -> float | None:
    """Of those that there are."""
    known = [share for share in shares if share is not None]
    return float(np.mean(known)) if known else None

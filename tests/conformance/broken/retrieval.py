"""Faults in inverted lists, candidates and search."""

import numpy as np

from ..complete import held
from ..oracle import definition
from .faults import fault


@fault("26", "inverted_lists")
def document_listed_for_each_token(codes, n_centroids):
    """A document with two tokens in a cell is listed twice."""
    return [[i for i, document in enumerate(codes) for code in document if code == c] for c in range(n_centroids)]


@fault("26", "inverted_lists")
def only_the_first_token_listed(codes, n_centroids):
    """A document is only in the list of its first token."""
    return [[i for i, document in enumerate(codes) if document[0] == c] for c in range(n_centroids)]


@fault("27", "probe")
def only_the_first_query_token_probes(q, centroids, nprobe):
    """The cells of the other query tokens are not probed."""
    return definition.probe(q[:1], centroids, nprobe)


@fault("27", "probe")
def probes_beyond_all_fail_short(q, centroids, nprobe):
    """argpartition needs nprobe < n, so one cell is always left out."""
    return definition.probe(q, centroids, min(nprobe, max(len(centroids) - 1, 1)) if nprobe > 0 else nprobe)


@fault("27", "candidates")
def last_of_each_list_lost(lists, cells):
    """The end offset of a list is one too small."""
    return definition.candidates([documents[:-1] for documents in lists], cells)


@fault("28", "search")
def ties_latest_first(q, documents, codes, centroids, k, nprobe, keep):
    """Equal scores go to the later document."""
    hits = definition.search(q, documents, codes, centroids, len(documents), nprobe, keep)
    return sorted(hits, key=lambda hit: (-hit[1], -hit[0]))[:k]


@fault("28", "search")
def first_cell_never_searched(q, documents, codes, centroids, k, nprobe, keep):
    """Cell 0 is taken for padding."""
    searched = [i for i, document in enumerate(codes) if any(document)] or [0]
    scores = definition.scores(q, [documents[i] for i in searched])
    return [(searched[i], scores[i]) for i in definition.top_k(scores, k)]


@fault("29", "search")
def centroid_scores_returned(q, documents, codes, centroids, k, nprobe, keep):
    """The approximate score of pruning is returned as the score."""
    hits = definition.search(q, documents, codes, centroids, k, nprobe, keep)
    scores = [definition.maxsim(q, [centroids[c] for c in codes[i]]) for i, _ in hits]
    return [(hits[i][0], scores[i]) for i in definition.top_k(scores, k)]


@fault("29", "search")
def more_than_k_returned(q, documents, codes, centroids, k, nprobe, keep):
    """One hit too many is returned."""
    return definition.search(q, documents, codes, centroids, k + 1, nprobe, keep)


@fault("48", "search")
def ordered_by_float32(q, documents, codes, centroids, k, nprobe, keep):
    """Scores are exact, but in the order of float32 scores."""
    scores = dict(definition.search(q, documents, codes, centroids, len(documents), nprobe, keep))
    rough = {i: (documents[i] @ q.T).max(axis=0).sum(dtype=np.float32) for i in scores}
    return sorted(scores.items(), key=lambda hit: (-rough[hit[0]], hit[0]))[:k]


@fault("49", "search")
def sums_by_differences(q, documents, codes, centroids, k, nprobe, keep):
    """Scores are differences of a running sum over all documents, whose rounding they inherit."""
    total = np.cumsum([0.0, *definition.scores(q, documents)])
    hits = definition.search(q, documents, codes, centroids, k, nprobe, keep)
    return [(i, float(total[i + 1] - total[i])) for i, _ in hits]


@fault("29", "held")
def padded_search_of_an_index(documents, q, k):
    """Documents are padded with zeros when they are scored."""
    _, kept = held(documents, q, k)
    longest = max(len(d) for d in kept)
    scores = definition.scores(q, [d + [[0.0] * len(d[0])] * (longest - len(d)) for d in kept])
    return [(i, scores[i]) for i in definition.top_k(scores, k)], kept


@fault("29", "held")
def scores_of_the_originals(documents, q, k):
    """The index scores the vectors that it was given, and holds others."""
    scores = definition.scores(q, documents)
    return [(i, scores[i]) for i in definition.top_k(scores, k)], held(documents, q, k)[1]


@fault("23", "held")
def held_without_residuals(documents, q, k):
    """Tokens are stored as their centroids alone."""
    rows = np.concatenate(documents)
    centroids = rows[:: max(len(rows) // 4, 1)]
    return [], [[centroids[c] for c in definition.assign(d, centroids)] for d in documents]

"""ColBERT as written down: plain loops over Python floats (IEEE float64), one function under each equation.

This is the specification and the oracle of the tests. Nothing imports it but tests and documents, it imports nothing of
the package, and nothing in it is fast. A vector is a sequence of numbers, a matrix a sequence of rows, a document a
matrix with one row a token. What has no answer (a score of no tokens, NaN, k = 0) is a ValueError, never a number.

Sources: ColBERT (Khattab and Zaharia, SIGIR 2020), ColBERTv2 (Santhanam et al., NAACL 2022), PLAID (Santhanam et al.,
CIKM 2022), token pooling (Clavié, Chaffin and Adams, 2024), Margin-MSE (Hofstätter et al., 2020), Lloyd-Max
quantization (Lloyd, IEEE IT 1982).
"""

import math
from collections.abc import Collection, Sequence

import numpy as np

__all__ = [
    "Index",
    "assign",
    "attention",
    "best_of_groups",
    "bucket",
    "candidates",
    "check",
    "clusters",
    "decode",
    "distortion",
    "document_ids",
    "dot",
    "encode",
    "fit",
    "in_batch",
    "inverted_lists",
    "kept",
    "kl_divergence",
    "kmeans",
    "margin_mse",
    "matches",
    "maxsim",
    "maxsim_masked",
    "n_way",
    "nearest",
    "norm",
    "normalized",
    "objective",
    "pack",
    "pairwise_hinge",
    "pairwise_softmax",
    "pool",
    "probe",
    "query_ids",
    "scores",
    "search",
    "softmax",
    "spread",
    "spread_number",
    "steps",
    "top_k",
    "unpack",
    "weight",
]

Vector = Sequence[float]
Matrix = Sequence[Vector]


# ---- encoding (ColBERT, section 3.2), on token ids


def query_ids(
    body: Sequence[int], prefix: Sequence[int], suffix: Sequence[int], length: int, expansion: int | None
) -> list[int]:
    """E_q = Encoder([CLS] [Q] q_0 ... q_l [SEP] [MASK] ... [MASK]), `length` tokens in all.

    The text is cut, never its frame; without an expansion id the query ends at its suffix.
    """
    ids = list(prefix) + list(body)[: length - len(prefix) - len(suffix)] + list(suffix)
    while expansion is not None and len(ids) < length:
        ids.append(expansion)
    return ids


def document_ids(body: Sequence[int], prefix: Sequence[int], suffix: Sequence[int], length: int) -> list[int]:
    """E_d = Filter(Encoder([CLS] [D] d_0 ... d_n [SEP])), at natural length up to `length`; `kept` is the Filter."""
    return list(prefix) + list(body)[: length - len(prefix) - len(suffix)] + list(suffix)


def attention(n_framed: int, length: int, expansion_attended: bool) -> list[bool]:
    """Which of a query's tokens the others attend to: its own always, the expansion where the model was trained so."""
    return [i < n_framed or expansion_attended for i in range(length)]


def kept(ids: Sequence[int], skiplist: Collection[int]) -> list[bool]:
    """Filter: which of a document's rows count. Punctuation does not. All rows of a query do."""
    return [token not in skiplist for token in ids]


def norm(x: Vector) -> float:
    """|x| = sqrt(x . x)."""
    return math.sqrt(dot(x, x))


def normalized(x: Vector) -> list[float]:
    """x / |x|; the zero vector has no direction and stays what it is."""
    length = norm(x)
    return [float(v) / length if length > 0 else 0.0 for v in x]


# ---- scoring (ColBERT, section 3.3, equation 3)


def check(matrix: Matrix, dim: int | None = None) -> None:
    """A matrix has at least one row, rows of one length, and finite numbers. Raises ValueError."""
    if len(matrix) == 0 or len(matrix[0]) == 0:
        raise ValueError("expected at least one vector")
    dim = len(matrix[0]) if dim is None else dim
    if any(len(row) != dim for row in matrix):
        raise ValueError(f"expected vectors of dim {dim}")
    if not all(math.isfinite(value) for row in matrix for value in row):
        raise ValueError("expected finite numbers")


def dot(x: Vector, y: Vector) -> float:
    """x . y = sum over k of x_k y_k."""
    total = 0.0
    for a, b in zip(x, y, strict=True):
        total += float(a) * float(b)
    return total


def maxsim(q: Matrix, d: Matrix) -> float:
    """S(q, d) = sum over i of max over j of q_i . d_j."""
    check(q)
    check(d, len(q[0]))
    score = 0.0
    for q_i in q:
        best = -math.inf
        for d_j in d:
            best = max(best, dot(q_i, d_j))
        score += best
    return score


def maxsim_masked(q: Matrix, d: Matrix, mask: Sequence[bool]) -> float:
    """S(q, d) over the rows j with mask_j: a masked row is not there, whatever numbers it holds."""
    return maxsim(q, [d_j for d_j, counts in zip(d, mask, strict=True) if counts])


def matches(q: Matrix, d: Matrix) -> list[tuple[int, float]]:
    """(argmax over j, max over j) of q_i . d_j for each i, the lowest j among equals; the second parts add up to S."""
    check(q)
    check(d, len(q[0]))
    rows = [nearest(q_i, d) for q_i in q]
    return [(j, dot(q_i, d[j])) for q_i, j in zip(q, rows, strict=True)]


def scores(q: Matrix, documents: Sequence[Matrix]) -> list[float]:
    """S(q, d) for each document, which depends on no other document."""
    return [maxsim(q, d) for d in documents]


def top_k(scores: Vector, k: int, positions: Sequence[int] | None = None) -> list[int]:
    """The first k by score descending, then position ascending; all of them where there are fewer than k."""
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    order = range(len(scores)) if positions is None else positions
    return sorted(range(len(scores)), key=lambda i: (-scores[i], order[i]))[:k]


def best_of_groups(scores: Vector, groups: Sequence[str], k: int) -> list[int]:
    """The best document of each of the k best groups: of all in their order, the first of each group."""
    best: dict[str, int] = {}
    for i in top_k(scores, k if k < 1 else len(scores) + k):
        best.setdefault(groups[i], i)
    return list(best.values())[:k]


# ---- clustering: spherical k-means


def nearest(x: Vector, centroids: Matrix) -> int:
    """argmax over c of x . centroid_c, the lowest c among equals."""
    return max(range(len(centroids)), key=lambda c: (dot(x, centroids[c]), -c))


def assign(vectors: Matrix, centroids: Matrix) -> list[int]:
    """The nearest centroid of each vector."""
    return [nearest(x, centroids) for x in vectors]


def objective(vectors: Matrix, centroids: Matrix) -> float:
    """Sum over n of max over c of x_n . centroid_c, which k-means maximizes over unit centroids.

    For unit vectors the inertia, sum over n of |x_n - centroid|^2, is 2 n - 2 objective.
    """
    return sum(dot(x, centroids[nearest(x, centroids)]) for x in vectors)


def kmeans(vectors: Matrix, n_centroids: int, iterations: int, seed: int) -> list[list[float]]:
    """Start at drawn vectors; in each iteration centroid_c = sum of its vectors / |that sum|. Never lowers `objective`.

    A centroid without vectors, or whose vectors cancel out, stays where it was.
    """
    drawn = np.random.default_rng(seed).choice(len(vectors), n_centroids, replace=False)
    centroids = [normalized(vectors[i]) for i in drawn]
    for _ in range(iterations):
        codes = assign(vectors, centroids)
        for c in range(n_centroids):
            members = [x for x, code in zip(vectors, codes, strict=True) if code == c]
            total = [sum(column) for column in zip(*members, strict=True)] if members else [0.0]
            if norm(total) > 0:
                centroids[c] = normalized(total)
    return centroids


# ---- pooling (Clavié et al., 2024, section 2): Ward's clusters of a document's tokens


def clusters(d: Matrix, factor: int) -> list[list[int]]:
    """ceil(n_d / factor) clusters of rows, by their first rows: the cheapest two become one until so few are left.

    cost(A, B) = |A| |B| / (|A| + |B|) |mean(A) - mean(B)|^2.
    """
    check(d)
    found = [[i] for i in range(len(d))]
    while len(found) > -(-len(d) // factor):
        means = [_mean([d[i] for i in members]) for members in found]
        costs = {}
        for a, one in enumerate(found):
            for b in range(a + 1, len(found)):
                gap = [x - y for x, y in zip(means[a], means[b], strict=True)]
                costs[a, b] = len(one) * len(found[b]) / (len(one) + len(found[b])) * dot(gap, gap)
        a, b = min(costs, key=lambda pair: (costs[pair], pair))
        found[a] = sorted(found[a] + found.pop(b))
    return sorted(found)


def pool(d: Matrix, factor: int) -> list[list[float]]:
    """One row a cluster: the mean of its rows, scaled to the mean of their norms; rows that cancel out give zeros."""
    pooled = []
    for members in clusters(d, factor):
        rows = [d[i] for i in members]
        length = sum(norm(row) for row in rows) / len(rows)
        pooled.append([length * v for v in normalized(_mean(rows))])
    return pooled


def _mean(rows: Matrix) -> list[float]:
    return [sum(float(v) for v in column) / len(rows) for column in zip(*rows, strict=True)]


# ---- residual compression (ColBERTv2, section 3.3)


def spread_number(length: float) -> int:
    """n, 0 <= n < 256, with 2^(1/2 - n/32) next to the norm of a residual, on the scale of logarithms."""
    exponent = math.log2(max(length, 2.0**-8))
    return min(range(256), key=lambda n: abs(0.5 - n / 32 - exponent))


def spread(number: int) -> float:
    """s = 2^(1/2 - n/32)."""
    return math.exp2(0.5 - number / 32)


def bucket(value: float, step: float, nbits: int) -> int:
    """b(r) = floor(r / step + L / 2), kept within 0 .. L - 1, with L = 2^nbits; the middle where nothing varies."""
    levels: int = 2**nbits
    number = math.floor(value / step + levels / 2) if step > 0 else levels // 2
    return min(max(number, 0), levels - 1)


def weight(number: int, step: float, nbits: int) -> float:
    """step * (b - (L - 1) / 2): the middle of a bucket."""
    middle: float = (2**nbits - 1) / 2
    return step * (number - middle)


def distortion(residuals: Matrix, steps: Vector, nbits: int) -> float:
    """Sum over residuals r and components of (r_k - weight of its bucket)^2: what a choice of steps costs."""
    total = 0.0
    for r in residuals:
        s = spread(spread_number(norm(r)))
        for value, step in zip(r, steps, strict=True):
            total += (value - weight(bucket(value, s * step, nbits), s * step, nbits)) ** 2
    return total


def steps(residuals: Matrix, nbits: int, reaches: Vector) -> list[float]:
    """step_k = 2 reach sigma_k / L, sigma_k^2 the mean of (r_k / s)^2, with the reach that makes `distortion` least."""
    spreads = [spread(spread_number(norm(r))) for r in residuals]
    columns = zip(*([v / s for v in r] for r, s in zip(residuals, spreads, strict=True)), strict=True)
    sigmas = [math.sqrt(sum(v * v for v in column) / len(residuals)) for column in columns]
    tried = [[2 * reach * sigma / 2**nbits for sigma in sigmas] for reach in reaches]
    return min(tried, key=lambda these: distortion(residuals, these, nbits))


def fit(vectors: Matrix, n_centroids: int, nbits: int, seed: int) -> tuple[list[list[float]], list[float]]:
    """Centroids by k-means on x / |x|, steps for the residuals that they leave."""
    units = [normalized(x) for x in vectors]
    centroids = kmeans(units, n_centroids, 4, seed)
    residuals = [[v - c for v, c in zip(x, centroids[nearest(x, centroids)], strict=True)] for x in units]
    return centroids, steps(residuals, nbits, [0.5 * 1.25**i for i in range(12)])


def encode(x: Vector, centroids: Matrix, steps: Vector, nbits: int) -> tuple[int, list[int], float, int]:
    """x -> (code, buckets, scale, spread number): nearest centroid, bucketed residual of x / |x|, |x| over its norm.

    The scale is stored as a float16, at most the largest there is.
    """
    unit = normalized(x)
    code = nearest(unit, centroids)
    residual = [v - c for v, c in zip(unit, centroids[code], strict=True)]
    number = spread_number(norm(residual))
    numbers = [bucket(r, spread(number) * step, nbits) for r, step in zip(residual, steps, strict=True)]
    length = norm(decode(code, numbers, 1.0, number, centroids, steps, nbits))
    scale = min(norm(x) / length, 65504.0) if length > 0 else 0.0
    return code, numbers, float(np.float16(scale)), number


def decode(
    code: int, buckets: Sequence[int], scale: float, number: int, centroids: Matrix, steps: Vector, nbits: int
) -> list[float]:
    """x' = scale * (centroid + s * step * (b - (L - 1) / 2))."""
    s = spread(number)
    weights = [weight(b, s * step, nbits) for b, step in zip(buckets, steps, strict=True)]
    return [scale * (c + w) for c, w in zip(centroids[code], weights, strict=True)]


def pack(buckets: Sequence[int], nbits: int) -> bytes:
    """Component k takes bits k * nbits ... of the row, counted from the low bit of the first byte."""
    row = sum(int(b) << (k * nbits) for k, b in enumerate(buckets))
    return row.to_bytes(-(-len(buckets) * nbits // 8), "little")


def unpack(packed: bytes, dim: int, nbits: int) -> list[int]:
    """The inverse of `pack`."""
    row = int.from_bytes(packed, "little")
    return [(row >> (k * nbits)) % 2**nbits for k in range(dim)]


# ---- two-phase retrieval (ColBERT, section 3.6; PLAID, section 4)


def inverted_lists(codes: Sequence[Sequence[int]], n_centroids: int) -> list[list[int]]:
    """For each centroid the documents with a token in its cell, ascending; `codes` has one sequence a document."""
    return [[i for i, document in enumerate(codes) if c in document] for c in range(n_centroids)]


def probe(q: Matrix, centroids: Matrix, nprobe: int) -> set[int]:
    """The cells that are among the `nprobe` nearest of some query token, the lower number first among equals."""
    return {c for q_i in q for c in top_k([dot(q_i, centroid) for centroid in centroids], nprobe)}


def candidates(lists: Sequence[Sequence[int]], cells: Collection[int]) -> list[int]:
    """The documents in the lists of the probed cells, ascending."""
    return sorted({document for cell in cells for document in lists[cell]})


def search(
    q: Matrix,
    documents: Sequence[Matrix],  # decoded
    codes: Sequence[Sequence[int]],
    centroids: Matrix,
    k: int,
    nprobe: int,
    keep: int,
) -> list[tuple[int, float]]:
    """Probe, gather candidates, keep the best `keep` by centroids alone, rank those by MaxSim: (document, score)."""
    found = candidates(inverted_lists(codes, len(centroids)), probe(q, centroids, nprobe))
    approximate = [maxsim(q, [centroids[c] for c in codes[i]]) for i in found]
    chosen = sorted(found[i] for i in top_k(approximate, keep))
    scores = [maxsim(q, documents[i]) for i in chosen]
    return [(chosen[i], scores[i]) for i in top_k(scores, k)]


class Index:
    """What an index answers, however it does it: documents by id, in the order in which they were added.

    A call that raises has changed nothing.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.documents: dict[str, Matrix] = {}

    def add(self, ids: Sequence[str], documents: Sequence[Matrix]) -> None:
        """New documents go to the end. Raises ValueError for an id that is there or occurs twice, or bad vectors."""
        if len(ids) != len(documents) or len({*ids, *self.documents}) < len(ids) + len(self.documents):
            raise ValueError("expected one new id for each document")
        for d in documents:
            check(d, self.dim)
        self.documents.update(zip(ids, documents, strict=True))

    def delete(self, ids: Sequence[str]) -> None:
        """The documents are gone, as if never added. Raises ValueError for an id that is not there."""
        if not set(ids) <= set(self.documents):
            raise ValueError("expected ids that are in the index")
        for name in set(ids):
            del self.documents[name]

    def upsert(self, ids: Sequence[str], documents: Sequence[Matrix]) -> None:
        """What is there under an id goes, and the new one comes to the end, as any that is added."""
        if len(ids) != len(documents) or len(set(ids)) < len(ids):
            raise ValueError("expected one document for each of different ids")
        for d in documents:
            check(d, self.dim)
        self.delete([name for name in ids if name in self.documents])
        self.add(ids, documents)

    def search(self, q: Matrix, k: int, ids: Collection[str] | None = None) -> list[tuple[str, float]]:
        """The first k of all documents, or of those among `ids`, by MaxSim: (id, score)."""
        names = [name for name in self.documents if ids is None or name in ids]
        found = scores(q, [self.documents[name] for name in names])
        return [(names[i], found[i]) for i in top_k(found, k)]


# ---- training losses, on scores S and a teacher's scores T


def softmax(values: Vector) -> list[float]:
    """p_i = exp(s_i) / sum over j of exp(s_j), with the largest s taken off first, which changes nothing else."""
    largest = max(values)
    powers = [math.exp(s - largest) for s in values]
    return [p / sum(powers) for p in powers]


def _log_softmax(values: Vector) -> list[float]:
    largest = max(values)
    total = largest + math.log(sum(math.exp(s - largest) for s in values))
    return [s - total for s in values]


def pairwise_hinge(positive: float, negative: float) -> float:
    """max(0, 1 - S+ + S-)."""
    return max(0.0, 1.0 - positive + negative)


def pairwise_softmax(positive: float, negative: float) -> float:
    """-log(exp S+ / (exp S+ + exp S-)): pairwise softmax cross-entropy (ColBERT, section 3.3)."""
    return n_way([positive, negative])


def n_way(scores: Vector) -> float:
    """-log softmax(S)_0: cross-entropy over one positive, which comes first, and n - 1 negatives."""
    return -_log_softmax(scores)[0]


def in_batch(scores: Matrix, temperature: float) -> float:
    """Mean over queries i of -log softmax(S_i / temperature)_i: document i is query i's, all others are negatives."""
    losses = [-_log_softmax([s / temperature for s in row])[i] for i, row in enumerate(scores)]
    return sum(losses) / len(losses)


def kl_divergence(scores: Matrix, teacher: Matrix) -> float:
    """Mean over queries of sum over j of p_j (log p_j - log r_j), p = softmax(T), r = softmax(S) (ColBERTv2, 3.2)."""
    total = 0.0
    for s, t in zip(scores, teacher, strict=True):
        log_p, log_r = _log_softmax(t), _log_softmax(s)
        total += sum(math.exp(p) * (p - r) for p, r in zip(log_p, log_r, strict=True))
    return total / len(scores)


def margin_mse(scores: Matrix, teacher: Matrix) -> float:
    """Mean over queries and negatives j of ((S_0 - S_j) - (T_0 - T_j))^2; document 0 is the positive."""
    errors = []
    for s, t in zip(scores, teacher, strict=True):
        errors += [((s[0] - s[j]) - (t[0] - t[j])) ** 2 for j in range(1, len(s))]
    return sum(errors) / len(errors)

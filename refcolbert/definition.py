"""The definition of ColBERT retrieval: each equation with a function in plain Python loops.

Cite it as "refcolbert definition 1.2, equation 2.6", with the version in `DEFINITION_VERSION`. Numbers are not reused:
a change of meaning raises the version. The tests compare the fast code of the package with these functions, and the
conformance suite compares other engines with them. This module imports NumPy alone and none of the package.

Sections:

    1  Text and tokens: the frame around a text, the tokens that count
    2  Vectors and MaxSim: similarity, score
    3  The order of documents: top k, groups
    4  Token pooling: fewer vectors per document
    5  Clustering: spherical k-means
    6  Residual codec: one token vector in a few bytes
    7  Candidate generation: which documents are ranked
    8  The index: documents that are added, replaced and deleted
    9  Training losses
    10 Words: BM25, and the fusion of both scores

Normative. Every engine follows sections 2, 3 and 8:

    eligible  the documents that were added, not deleted and not excluded by the caller (equation 8.4)
    score     MaxSim of the query and the vectors that the engine holds (equation 2.6), up to its rounding
    order     score descending, then position ascending (equation 3.1)

An approximate engine may rank a part of the eligible documents; the scores and the order of that part follow the same
equations. An engine that encodes texts follows section 1, because a model gives other vectors in another frame. The
vectors of a text depend on that text alone, not on its batch or padding. Sections 4, 5, 6, 9 and 10 apply to an engine
that offers their functions; an engine may hold its vectors in another codec or in none. Section 10 begins with terms.
How a text is cut into terms is not defined here.

Informative. Section 7 states refcolbert's default search. All its stages but the ranking only choose which documents
are ranked, and an engine may choose them in any way.

Notation. A vector is a sequence of numbers. A matrix is a sequence of vectors, with the shape [rows, columns]. Unless a
function says otherwise, a query q is [n_q, dim], a document d is [n_d, dim], with one row q_i or d_j per token, and
centroids are [n_centroids, dim]. Numbers are Python floats (IEEE 754 float64) and integers; the one exception is the
float16 scale of equation 6.8. Indices start at 0. Input without an answer (no tokens, NaN, k = 0) is a ValueError.

Sources:

    ColBERT       Khattab and Zaharia, SIGIR 2020
    ColBERTv2     Santhanam et al., NAACL 2022
    PLAID         Santhanam et al., CIKM 2022
    pooling       Clavié, Chaffin and Adams, 2024; Ward, Journal of the American Statistical Association, 1963
    k-means       Dhillon and Modha, Machine Learning, 2001
    Lloyd-Max     Lloyd, IEEE Transactions on Information Theory, 1982
    Margin-MSE    Hofstätter et al., 2020
    BM25          Robertson and Zaragoza, Foundations and Trends in Information Retrieval, 2009
"""

import math
import re
from collections.abc import Collection, Sequence

import numpy as np

__all__ = [
    "DEFINITION_VERSION",
    "Index",
    "approximate_maxsim",
    "assign",
    "attention",
    "best_of_groups",
    "bucket",
    "candidates",
    "check",
    "clusters",
    "decode",
    "distortion",
    "document_frequency",
    "document_ids",
    "dot",
    "encode",
    "fit",
    "fuse",
    "idf",
    "in_batch",
    "in_reach",
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
    "nearest_tokens",
    "norm",
    "normalized",
    "objective",
    "pack",
    "pairwise_hinge",
    "pairwise_softmax",
    "pairwise_sum",
    "pool",
    "probe",
    "quantize_scores",
    "query_ids",
    "respelled",
    "scores",
    "search",
    "similarity",
    "softmax",
    "spread",
    "spread_number",
    "steps",
    "term_score",
    "term_weight",
    "top_k",
    "unpack",
    "weight",
    "word_scores",
]

#: The version to cite. Another meaning of any equation is another version.
DEFINITION_VERSION = "1.2"

Vector = Sequence[float]
Matrix = Sequence[Vector]
Terms = Sequence[str]


# ---- 1. Text and tokens (ColBERT, section 3.2)


def query_ids(
    body: Sequence[int], prefix: Sequence[int], suffix: Sequence[int], length: int, expansion: int | None
) -> list[int]:
    """Return the token ids that the encoder reads for a query.

    Equation 1.1: [CLS] [Q] q_0 ... q_l [SEP] [MASK] ... [MASK], `length` tokens in all

    `body` holds the ids of the text, `prefix` is [CLS] [Q], `suffix` is [SEP], `expansion` is [MASK]. A long text is
    cut at its end; the frame is never cut. If `expansion` is None, the query ends at its suffix.

        >>> query_ids([7, 8], prefix=[101, 1], suffix=[102], length=7, expansion=103)
        [101, 1, 7, 8, 102, 103, 103]
        >>> query_ids([7, 8, 9], prefix=[101, 1], suffix=[102], length=5, expansion=103)
        [101, 1, 7, 8, 102]
    """
    ids = document_ids(body, prefix, suffix, length)
    while expansion is not None and len(ids) < length:
        ids.append(expansion)
    return ids


def document_ids(body: Sequence[int], prefix: Sequence[int], suffix: Sequence[int], length: int) -> list[int]:
    """Return the token ids that the encoder reads for a document.

    Equation 1.2: [CLS] [D] d_0 ... d_n [SEP], at most `length` tokens

    The parameters are those of equation 1.1. There is no expansion.

        >>> document_ids([7, 8, 9], prefix=[101, 2], suffix=[102], length=5)
        [101, 2, 7, 8, 102]
    """
    return list(prefix) + list(body)[: length - len(prefix) - len(suffix)] + list(suffix)


def attention(n_framed: int, length: int, expansion_attended: bool) -> list[bool]:
    """Return for each of the `length` tokens of a query whether the other tokens attend to it.

    Equation 1.3: a_i = (i < n_framed) or expansion_attended

    `n_framed` counts the tokens before the expansion. The model's training decides `expansion_attended`.

        >>> attention(n_framed=3, length=5, expansion_attended=False)
        [True, True, True, False, False]
    """
    return [i < n_framed or expansion_attended for i in range(length)]


def kept(ids: Sequence[int], skiplist: Collection[int]) -> list[bool]:
    """Return for each token whether its vector is a row of the matrix. ColBERT calls this Filter.

    Equation 1.4: kept_j = id_j is not in the skiplist

    The skiplist of documents holds the ids of punctuation. The skiplist of queries is empty in the usual models.

        >>> kept([101, 2, 7, 1012, 102], skiplist={1012})
        [True, True, True, False, True]
    """
    return [token not in skiplist for token in ids]


# ---- 2. Vectors and MaxSim (ColBERT, section 3.3)


def pairwise_sum(terms: Vector) -> float:
    """Return the sum of the terms, added in one fixed order.

    Equation 2.1: fill with zeros up to a power of two; add the upper half to the lower half until one is left

    A float64 sum depends on the order of its additions. With a fixed order a score has the same bits on every machine,
    and two equal documents tie. refcolbert returns these bits; another engine may round otherwise.

        >>> pairwise_sum([1.0, 2.0, 3.0])  # (1 + 3) + (2 + 0)
        6.0
    """
    width = 1 << (len(terms) - 1).bit_length()
    sums = [*terms, *[0.0] * (width - len(terms))]
    while width > 1:
        width //= 2
        sums = [sums[i] + sums[i + width] for i in range(width)]
    return sums[0]


def dot(x: Vector, y: Vector) -> float:
    """Return the similarity of two vectors [dim]: their inner product.

    Equation 2.2: x . y = sum over k of x_k y_k, added as in equation 2.1

        >>> dot([0.6, 0.8], [1.0, 0.5])
        1.0
    """
    return pairwise_sum([float(a) * float(b) for a, b in zip(x, y, strict=True)])


def norm(x: Vector) -> float:
    """Return the length of a vector [dim].

    Equation 2.3: |x| = sqrt(x . x)

        >>> norm([3.0, 4.0])
        5.0
    """
    return math.sqrt(dot(x, x))


def normalized(x: Vector) -> list[float]:
    """Return the unit vector [dim] in the direction of x. Encoders return such vectors, so similarities are cosines.

    Equation 2.4: x / |x|, or zeros where |x| = 0

        >>> normalized([3.0, 4.0])
        [0.6, 0.8]
    """
    length = norm(x)
    return [float(v) / length if length > 0 else 0.0 for v in x]


def check(matrix: Matrix, dim: int | None = None) -> None:
    """Raise ValueError for a matrix that has no score.

    Equation 2.5: n >= 1, dim >= 1, every row has dim numbers, every number is finite

    If `dim` is None, the first row decides it.
    """
    if len(matrix) == 0 or len(matrix[0]) == 0:
        raise ValueError("expected at least one vector with at least one number, found none (equation 2.5)")
    dim = len(matrix[0]) if dim is None else dim
    for row in matrix:
        if len(row) != dim:
            raise ValueError(f"expected vectors of dim {dim}, found dim {len(row)} (equation 2.5)")
        if not all(math.isfinite(value) for value in row):
            raise ValueError("expected finite numbers, found NaN or infinity (equation 2.5)")


def maxsim(q: Matrix, d: Matrix) -> float:
    """Return the score of a document: each query token adds its similarity with its nearest document token.

    Equation 2.6: S(q, d) = sum over i of max over j of q_i . d_j

    The sum over i is added as in equation 2.1. (ColBERT, equation 3)

        >>> q = [[1.0, 0.0], [0.0, 1.0]]
        >>> d = [[0.5, 0.25], [0.0, 0.75], [-1.0, 0.0]]
        >>> maxsim(q, d)  # 0.5 from d_0, 0.75 from d_1
        1.25
    """
    check(q)
    check(d, len(q[0]))
    return pairwise_sum([max(dot(q_i, d_j) for d_j in d) for q_i in q])


def maxsim_masked(q: Matrix, d: Matrix, mask: Sequence[bool]) -> float:
    """Return the score of a padded document.

    Equation 2.7: S(q, d, mask) = S(q, the rows d_j with mask_j)

    `mask` is [n_d], False for padding. A padding row may hold any numbers, NaN included. Its similarity must not count
    as 0, because 0 is larger than a negative similarity.

        >>> maxsim_masked([[1.0]], [[-0.5], [0.0]], [True, False])
        -0.5
    """
    return maxsim(q, [d_j for d_j, counts in zip(d, mask, strict=True) if counts])


def matches(q: Matrix, d: Matrix) -> list[tuple[int, float]]:
    """Return (document row, similarity) for each query token: the explanation of the score.

    Equation 2.8: (argmax over j, max over j) of q_i . d_j, the lowest j among equals

    There are n_q pairs. Their similarities add up to equation 2.6.

        >>> matches([[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.25], [0.0, 0.75]])
        [(0, 0.5), (1, 0.75)]
    """
    check(q)
    check(d, len(q[0]))
    rows = assign(q, d)
    return [(j, dot(q_i, d[j])) for q_i, j in zip(q, rows, strict=True)]


def scores(q: Matrix, documents: Sequence[Matrix]) -> list[float]:
    """Return the score of each document.

    Equation 2.9: S(q, documents)_n = S(q, documents_n)

    A score does not depend on the other documents, nor on order, batch or padding.

        >>> scores([[1.0, 0.0]], [[[0.5, 0.5]], [[0.25, 0.0], [0.75, 0.0]]])
        [0.5, 0.75]
    """
    return [maxsim(q, d) for d in documents]


# ---- 3. The order of documents


def top_k(scores: Vector, k: int, positions: Sequence[int] | None = None) -> list[int]:
    """Return the indices of the k best documents, best first; all of them if there are fewer than k.

    Equation 3.1: a comes before b if score_a > score_b, or score_a = score_b and position_a < position_b

    `scores` is [n]. `positions` is [n], the order in which the documents were added; by default that of the indices.
    This is a total order, so there is one right answer.

        >>> top_k([1.5, 2.0, 1.5, 0.5], k=3)
        [1, 0, 2]
        >>> top_k([1.5, 2.0, 1.5, 0.5], k=3, positions=[9, 8, 7, 6])
        [1, 2, 0]
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k} (equation 3.1)")
    order = range(len(scores)) if positions is None else positions
    return sorted(range(len(scores)), key=lambda i: (-scores[i], order[i]))[:k]


def best_of_groups(scores: Vector, groups: Sequence[str], k: int) -> list[int]:
    """Return the index of the best document of each of the k best groups, best first.

    Equation 3.2: of all documents in the order of equation 3.1 the first of each group, then the first k

    `scores` and `groups` are [n]. A group is, for example, the page from which passages were cut.

        >>> best_of_groups([1.5, 2.0, 1.0], ["page 1", "page 1", "page 2"], k=2)
        [1, 2]
    """
    best: dict[str, int] = {}
    # All documents in order. A k below 1 is passed on, so that it is an error there.
    for i in top_k(scores, k if k < 1 else len(scores) + k):
        best.setdefault(groups[i], i)
    return list(best.values())[:k]


# ---- 4. Token pooling (Clavié et al., 2024, section 2)


def clusters(d: Matrix, factor: int) -> list[list[int]]:
    """Return the rows of each cluster of a document's tokens, by Ward's method.

    Equation 4.1: cost(A, B) = |A| |B| / (|A| + |B|) |mean(A) - mean(B)|^2

    Every row starts as a cluster of its own. The two clusters of lowest cost become one, the first pair among equals,
    until ceil(n_d / factor) clusters are left. Clusters come in the order of their first rows.

        >>> clusters([[1.0, 0.0], [0.0, 1.0], [0.8, 0.0]], factor=2)
        [[0, 2], [1]]
    """
    check(d)
    groups = [[i] for i in range(len(d))]
    while len(groups) > -(-len(d) // factor):
        means = [_mean([d[i] for i in members]) for members in groups]
        costs = {}
        for a, one in enumerate(groups):
            for b in range(a + 1, len(groups)):
                gap = [x - y for x, y in zip(means[a], means[b], strict=True)]
                costs[a, b] = len(one) * len(groups[b]) / (len(one) + len(groups[b])) * dot(gap, gap)
        a, b = min(costs, key=lambda pair: (costs[pair], pair))
        groups[a] = sorted(groups[a] + groups.pop(b))
    return sorted(groups)


def pool(d: Matrix, factor: int) -> list[list[float]]:
    """Return one row per cluster of a document's tokens: [ceil(n_d / factor), dim].

    Equation 4.2: normalized(mean of the rows) * (mean of their norms)

    Rows that cancel out give zeros. A mean of unit vectors is shorter than 1; the second factor restores the length.

        >>> pool([[1.0, 0.0], [0.0, 1.0], [0.5, 0.0]], factor=2)
        [[0.75, 0.0], [0.0, 1.0]]
    """
    pooled = []
    for members in clusters(d, factor):
        rows = [d[i] for i in members]
        length = sum(norm(row) for row in rows) / len(rows)
        pooled.append([length * v for v in normalized(_mean(rows))])
    return pooled


def _mean(rows: Matrix) -> list[float]:
    return [sum(float(v) for v in column) / len(rows) for column in zip(*rows, strict=True)]


# ---- 5. Clustering: spherical k-means (Dhillon and Modha, 2001)


def nearest(x: Vector, centroids: Matrix) -> int:
    """Return the number of the centroid that is most similar to a vector.

    Equation 5.1: argmax over c of x . centroid_c, the lowest c among equals

        >>> nearest([0.6, 0.8], [[1.0, 0.0], [0.0, 1.0]])
        1
    """
    return max(range(len(centroids)), key=lambda c: (dot(x, centroids[c]), -c))


def assign(vectors: Matrix, centroids: Matrix) -> list[int]:
    """Return the number of the nearest centroid of each vector, [n].

    Equation 5.2: code_n = nearest(x_n, centroids)

        >>> assign([[0.6, 0.8], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]])
        [1, 0]
    """
    return [nearest(x, centroids) for x in vectors]


def objective(vectors: Matrix, centroids: Matrix) -> float:
    """Return the sum that k-means maximizes over unit centroids.

    Equation 5.3: sum over n of max over c of x_n . centroid_c

    For unit vectors the inertia, the sum over n of |x_n - centroid|^2, is 2 n - 2 objective.

        >>> objective([[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.8]])
        1.4
    """
    return sum(dot(x, centroids[nearest(x, centroids)]) for x in vectors)


def kmeans(vectors: Matrix, n_centroids: int, iterations: int, seed: int) -> list[list[float]]:
    """Return unit centroids [n_centroids, dim], found by spherical k-means.

    Equation 5.4: centroid_c = normalized(sum of the x_n with code_n = c), repeated `iterations` times

    The start is a draw of different vectors with `np.random.default_rng(seed)`. A centroid without vectors, or whose
    vectors cancel out, stays as it is. No iteration lowers equation 5.3.

        >>> kmeans([[6.0, 0.0], [0.0, 8.0]], n_centroids=1, iterations=1, seed=0)
        [[0.6, 0.8]]
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


# ---- 6. Residual codec (ColBERTv2, section 3.3; Lloyd-Max)


def spread(number: int) -> float:
    """Return the residual length that a spread number encodes.

    Equation 6.1: s(n) = 2^(1/2 - n / 32), 0 <= n < 256

    A number fits one byte. The lengths go from sqrt(2) down to 0.0056, each 2.1 % below the one before.

        >>> spread(16), spread(48)
        (1.0, 0.5)
    """
    return math.exp2(0.5 - number / 32)


def spread_number(length: float) -> int:
    """Return the spread number of a residual of that length.

    Equation 6.2: n = argmin over n of |log2 s(n) - log2 length|, the lowest n among equals

    Lengths below 2^-8 count as 2^-8.

        >>> spread_number(0.5), spread_number(0.0)
        (48, 255)
    """
    exponent = math.log2(max(length, 2.0**-8))
    return min(range(256), key=lambda n: abs(0.5 - n / 32 - exponent))


def bucket(value: float, step: float, nbits: int) -> int:
    """Return the bucket of one component of a residual.

    Equation 6.3: b(r) = floor(r / step + L / 2), cut to 0 .. L - 1, with L = 2^nbits; L / 2 where step = 0

    All buckets are `step` wide, and two of them meet at 0. A step is 0 where no residual of the sample varies.

        >>> [bucket(r, step=0.25, nbits=2) for r in (-9.0, -0.1, 0.0, 0.3, 9.0)]
        [0, 1, 2, 3, 3]
    """
    levels: int = 2**nbits
    number = math.floor(value / step + levels / 2) if step > 0 else levels // 2
    return min(max(number, 0), levels - 1)


def weight(number: int, step: float, nbits: int) -> float:
    """Return the value in the middle of a bucket, by which it is decoded.

    Equation 6.4: w(b) = step (b - (L - 1) / 2)

        >>> [weight(b, step=0.25, nbits=2) for b in range(4)]
        [-0.375, -0.125, 0.125, 0.375]
    """
    middle: float = (2**nbits - 1) / 2
    return step * (number - middle)


def distortion(residuals: Matrix, steps: Vector, nbits: int) -> float:
    """Return the squared error of residuals [n, dim] that are stored with these steps [dim].

    Equation 6.5: sum over n and k of (r_nk - w(b(r_nk)))^2, with steps s_n step_k

    s_n is the spread of r_n by equations 6.1 and 6.2.

        >>> distortion([[1.0]], steps=[1.0], nbits=1)  # stored as 0.5
        0.25
    """
    total = 0.0
    for r in residuals:
        s = spread(spread_number(norm(r)))
        for value, step in zip(r, steps, strict=True):
            total += (value - weight(bucket(value, s * step, nbits), s * step, nbits)) ** 2
    return total


def steps(residuals: Matrix, nbits: int, reaches: Vector) -> list[float]:
    """Return the step [dim] of each component that stores the residuals [n, dim] with the least error.

    Equation 6.6: step_k = 2 reach sigma_k / L, sigma_k^2 = mean over n of (r_nk / s_n)^2

    The reach is the one in `reaches` with the least equation 6.5, the first among equals. The buckets then cover -reach
    to reach standard deviations. Lloyd's quantizer fits each border; here one number fits all of them.

        >>> steps([[1.0], [-1.0]], nbits=1, reaches=[1.0, 2.0])
        [2.0]
    """
    spreads = [spread(spread_number(norm(r))) for r in residuals]
    columns = zip(*([v / s for v in r] for r, s in zip(residuals, spreads, strict=True)), strict=True)
    sigmas = [math.sqrt(sum(v * v for v in column) / len(residuals)) for column in columns]
    choices = [[2 * reach * sigma / 2**nbits for sigma in sigmas] for reach in reaches]
    return min(choices, key=lambda choice: distortion(residuals, choice, nbits))


def fit(vectors: Matrix, n_centroids: int, nbits: int, seed: int) -> tuple[list[list[float]], list[float]]:
    """Return a codec fitted to a sample of vectors [n, dim]: centroids [n_centroids, dim] and steps [dim].

    Equation 6.7: kmeans(x / |x|) in 4 iterations, then steps(x / |x| - centroid_code), reaches 0.5 1.25^i, 0 <= i < 12

    An engine may fit otherwise. refcolbert runs k-means in two levels and tries more reaches.
    """
    units = [normalized(x) for x in vectors]
    centroids = kmeans(units, n_centroids, 4, seed)
    residuals = [_residual(x, centroids[nearest(x, centroids)]) for x in units]
    return centroids, steps(residuals, nbits, [0.5 * 1.25**i for i in range(12)])


def encode(x: Vector, centroids: Matrix, steps: Vector, nbits: int) -> tuple[int, list[int], float, int]:
    """Return the stored parts of a vector [dim]: code, buckets [dim], scale, spread number.

    Equation 6.8: u = x / |x|, code = nearest(u), r = u - centroid_code, b_k = b(r_k) with step s step_k

    s is the spread of r. The scale makes the decoded vector as long as x: it is |x| over the length that equation 6.9
    gives for scale 1, rounded to float16 and at most 65504, the largest float16.

        >>> encode([0.6, 0.8], centroids=[[1.0, 0.0], [0.0, 1.0]], steps=[0.5, 0.5], nbits=2)
        (1, [3, 1], 1.0341796875, 37)
    """
    unit = normalized(x)
    code = nearest(unit, centroids)
    residual = _residual(unit, centroids[code])
    number = spread_number(norm(residual))
    numbers = [bucket(r, spread(number) * step, nbits) for r, step in zip(residual, steps, strict=True)]
    length = norm(decode(code, numbers, 1.0, number, centroids, steps, nbits))
    scale = min(norm(x) / length, 65504.0) if length > 0 else 0.0
    return code, numbers, float(np.float16(scale)), number


def _residual(x: Vector, centroid: Vector) -> list[float]:
    return [v - c for v, c in zip(x, centroid, strict=True)]


def decode(
    code: int, buckets: Sequence[int], scale: float, number: int, centroids: Matrix, steps: Vector, nbits: int
) -> list[float]:
    """Return the vector [dim] that the stored parts stand for.

    Equation 6.9: x' = scale (centroid_code + s step (b - (L - 1) / 2))

        >>> x = decode(1, [3, 1], 1.0341796875, 37, centroids=[[1.0, 0.0], [0.0, 1.0]], steps=[0.5, 0.5], nbits=2)
        >>> [round(v, 3) for v in x]
        [0.492, 0.87]
    """
    s = spread(number)
    weights = [weight(b, s * step, nbits) for b, step in zip(buckets, steps, strict=True)]
    return [scale * (c + w) for c, w in zip(centroids[code], weights, strict=True)]


def pack(buckets: Sequence[int], nbits: int) -> bytes:
    """Return the buckets [dim] of one token in ceil(dim nbits / 8) bytes.

    Equation 6.10: bucket k takes the bits k nbits ... (k + 1) nbits - 1, from the low bit of the first byte

        >>> pack([1, 0, 3, 2, 1], nbits=2).hex()  # 0b10110001, 0b01
        'b101'
    """
    row = sum(int(b) << (k * nbits) for k, b in enumerate(buckets))
    return row.to_bytes(-(-len(buckets) * nbits // 8), "little")


def unpack(packed: bytes, dim: int, nbits: int) -> list[int]:
    """Return the buckets [dim] of one packed token.

    Equation 6.11: unpack(pack(b), dim, nbits) = b

        >>> unpack(bytes.fromhex("b101"), dim=5, nbits=2)
        [1, 0, 3, 2, 1]
    """
    row = int.from_bytes(packed, "little")
    return [(row >> (k * nbits)) % 2**nbits for k in range(dim)]


# ---- 7. Candidate generation (ColBERT, section 3.6; PLAID, section 4)


def inverted_lists(codes: Sequence[Sequence[int]], n_centroids: int) -> list[list[int]]:
    """Return for each centroid the documents with a token in its cell, ascending, each once.

    Equation 7.1: list_c = {documents with code_j = c for some j}

    `codes` holds one sequence per document: the nearest centroid of each of its tokens.

        >>> inverted_lists([[0, 2], [2, 2], [1]], n_centroids=4)
        [[0], [2], [0, 1], []]
    """
    return [[i for i, document in enumerate(codes) if c in document] for c in range(n_centroids)]


def probe(q: Matrix, centroids: Matrix, nprobe: int) -> set[int]:
    """Return the cells whose documents are candidates.

    Equation 7.2: union over i of the first nprobe cells by q_i . centroid_c, the lower c first among equals

        >>> sorted(probe([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], nprobe=1))
        [0, 1]
    """
    return {c for q_i in q for c in top_k([dot(q_i, centroid) for centroid in centroids], nprobe)}


def candidates(lists: Sequence[Sequence[int]], cells: Collection[int]) -> list[int]:
    """Return the documents in the lists of the probed cells, ascending, each once.

    Equation 7.3: union over the probed c of list_c

        >>> candidates([[0], [2], [0, 1], []], cells={0, 2})
        [0, 1]
    """
    return sorted({document for cell in cells for document in lists[cell]})


def quantize_scores(similarities: Matrix) -> list[list[int]]:
    """Return similarities with centroids [n_centroids, n_q] as integers 0 .. 255 of the same shape.

    Equation 7.4: T_ci = floor(255 max(q_i . centroid_c, 0) / largest), largest over all c and i

    With one byte per similarity, the table fits the processor's cache.

        >>> quantize_scores([[1.0, -0.5], [0.5, 0.25]])
        [[255, 0], [127, 63]]
    """
    largest = max(max(max(row) for row in similarities), 1e-30)
    return [[math.floor(max(value, 0.0) * (255 / largest)) for value in row] for row in similarities]


def approximate_maxsim(table: Sequence[Sequence[int]], cells: Sequence[int]) -> int:
    """Return the score of a document whose tokens are replaced by the centroids of these cells.

    Equation 7.5: A(cells) = sum over i of max over c in cells of T_ci

    `table` is T of equation 7.4; `cells` has the cell of each token. PLAID calls this centroid interaction.

        >>> approximate_maxsim([[255, 0], [127, 63]], cells=[0, 1, 1])
        318
    """
    return sum(max(column) for column in zip(*(table[c] for c in cells), strict=True))


def nearest_tokens(table: Sequence[Sequence[int]], cells: Sequence[int], margin: int = 8) -> list[int]:
    """Return the tokens of a document that are probably the nearest of some query token, ascending.

    Equation 7.6: {j: T_ci >= (max over j of T_ci) - margin for some i}, with c = code_j

    Refining reads the vectors of these tokens alone. `cells` has the cell of each token.

        >>> nearest_tokens([[255, 0], [127, 63], [120, 60]], cells=[0, 1, 2])
        [0, 1, 2]
        >>> nearest_tokens([[255, 0], [127, 63], [120, 30]], cells=[0, 1, 2])
        [0, 1]
    """
    best = [max(column) for column in zip(*(table[c] for c in cells), strict=True)]
    return [j for j, c in enumerate(cells) if any(t >= b - margin for t, b in zip(table[c], best, strict=True))]


def search(
    q: Matrix,
    documents: Sequence[Matrix],
    codes: Sequence[Sequence[int]],
    centroids: Matrix,
    k: int,
    nprobe: int,
    keep: int,
    first_round: int = 128,
) -> list[tuple[int, float]]:
    """Return (document, score) of the k best documents that the stages reach, best first.

    Equation 7.7: rank(refine(prune(candidates(cells))))

    `documents` has a decoded matrix [n_d, dim] per document, `codes` the cells of its tokens [n_d]. The stages are:

    - cells: equation 7.2 with `nprobe`, four times as many while there are fewer than k candidates.
    - candidates: equation 7.3. The best 4 `keep`, at most `keep` + 1024, by equation 7.5 over their probed cells go on.
    - prune: the best `keep`, and at least k, by equation 7.5 over all their tokens go on.
    - refine: the best 2 k + 12 by equation 2.6 over the tokens of equation 7.6 go on. They are scored in rounds: the
      first `first_round` by equation 7.5, and at least 2 k + 12, then twice as many of those left, and so on; and with
      each round the first, 17th, 33rd, ... of the documents that follow. After each round only those in reach by
      equation 7.8 are left. Their a_i are those of equation 7.5, in the unit of T.
    - rank: the best k by equation 2.6, in the order of equation 3.1.

    Before the last stage refcolbert rounds similarities to float32, so a document at the border of a stage may fall on
    the other side. With a filter that leaves a tenth of the documents it probes ten times as many cells. It only ranks
    if vectors are raw, if the search is exact, or if at most `keep` documents are eligible.

        >>> documents = [[[1.0, 0.0]], [[0.0, 1.0]], [[0.6, 0.8], [0.8, 0.6]]]
        >>> search([[1.0, 0.0]], documents, [[0], [1], [1, 0]], [[1.0, 0.0], [0.0, 1.0]], k=2, nprobe=1, keep=3)
        [(0, 1.0), (2, 0.8)]
    """
    lists, keep = inverted_lists(codes, len(centroids)), max(keep, k)
    cells = probe(q, centroids, nprobe)
    while len(candidates(lists, cells)) < k and len(cells) < len(centroids):
        nprobe *= 4
        cells = probe(q, centroids, nprobe)
    chosen = candidates(lists, cells)
    table = quantize_scores([[dot(q_i, centroid) for q_i in q] for centroid in centroids])
    probed = [approximate_maxsim(table, [c for c in codes[i] if c in cells]) for i in chosen]
    chosen = _best(chosen, probed, min(4 * keep, keep + 1024))
    chosen = _best(chosen, [approximate_maxsim(table, codes[i]) for i in chosen], keep)
    unit = max(max(dot(q_i, centroid) for q_i in q for centroid in centroids), 1e-30) / 255
    by_centroids = {i: approximate_maxsim(table, codes[i]) * unit for i in chosen}
    left = [chosen[i] for i in top_k(list(by_centroids.values()), len(chosen))]
    refined: dict[int, float] = {}
    size = max(first_round, 2 * k + 12)
    while left:
        for i in [*left[:size], *left[size::16]]:
            refined[i] = maxsim(q, [documents[i][j] for j in nearest_tokens(table, codes[i])])
        left, size = [i for i in left if i not in refined], 2 * size
        if left:
            scored = [(by_centroids[i], refined[i]) for i in refined]
            left = [left[place] for place in in_reach([by_centroids[i] for i in left], scored, k)]
    chosen = sorted(refined)
    chosen = _best(chosen, [refined[i] for i in chosen], 2 * k + 12)
    exact = scores(q, [documents[i] for i in chosen])
    return [(chosen[i], exact[i]) for i in top_k(exact, k)]


def in_reach(left: Vector, scored: Sequence[tuple[float, float]], k: int) -> list[int]:
    """Return the places in `left` of the documents that may still be among the k best, ascending.

    Equation 7.8: a_i + mean + 3 deviation >= the k-th largest m_j, with mean and deviation of m_j - a_j over all j

    `left` has a_i, the score by centroids, of each document that is not scored yet. `scored` has (a_j, m_j) of the
    others, m_j being the score by stored vectors. The rule is a guess from those to these, and not a bound.

        >>> in_reach([3.0, 2.0], [(5.0, 5.5), (4.0, 4.5), (3.5, 4.0)], k=2)
        []
        >>> in_reach([4.0, 3.9], [(5.0, 5.5), (4.0, 4.5), (3.5, 4.0)], k=2)
        [0]
    """
    beyond = [m - a for a, m in scored]
    mean = sum(beyond) / len(beyond)
    deviation = math.sqrt(sum((b - mean) ** 2 for b in beyond) / len(beyond))
    kth = sorted((m for _, m in scored), reverse=True)[k - 1]
    return [i for i, a in enumerate(left) if a + mean + 3 * deviation >= kth]


def _best(documents: Sequence[int], scores: Vector, n: int) -> list[int]:
    return sorted(documents[i] for i in top_k(scores, n))


# ---- 8. The index


class Index:
    """Documents by id, in the order in which they were added, and their exact search.

    This is the behaviour of every index, whatever its files and stages are. A call that raises changes nothing.
    Compacting, saving, reopening and copying change no answer. A reader that was opened before a write keeps its
    answers. Threads that share an index get the answers of one thread. A search writes nothing, the same calls write
    the same bytes, and a damaged file is an error or changes no answer.

        >>> index = Index(dim=2)
        >>> index.add(["a", "b"], [[[1.0, 0.0]], [[0.6, 0.8]]])
        >>> index.search([[1.0, 0.0]], k=2)
        [('a', 1.0), ('b', 0.6)]
        >>> index.upsert(["a"], [[[0.6, -0.8]]])
        >>> index.search([[1.0, 0.0]], k=2)  # equal scores: b was added before the new a
        [('b', 0.6), ('a', 0.6)]
        >>> index.delete(["b"])
        >>> index.search([[1.0, 0.0]], k=2)
        [('a', 0.6)]
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.documents: dict[str, Matrix] = {}
        self.terms: dict[str, Terms] = {}  # in the order of `documents`

    def add(self, ids: Sequence[str], documents: Sequence[Matrix], terms: Sequence[Terms] | None = None) -> None:
        """Append documents, each [n_d, dim].

        Equation 8.1: new documents take the next positions, in the order of the call

        `terms` holds the terms of each document (section 10). By default documents have none.

        Raises ValueError for an id that is in the index or occurs twice, and for vectors that equation 2.5 excludes.
        """
        words = [()] * len(ids) if terms is None else terms
        if len(ids) != len(documents) or len({*ids, *self.documents}) < len(ids) + len(self.documents):
            raise ValueError("expected one new id per document, found a known or repeated id (equation 8.1)")
        if len(words) != len(ids):
            raise ValueError(f"expected the terms of {len(ids)} documents, found {len(words)} (equation 8.1)")
        for d in documents:
            check(d, self.dim)
        self.documents.update(zip(ids, documents, strict=True))
        self.terms.update(zip(ids, words, strict=True))

    def delete(self, ids: Sequence[str]) -> None:
        """Remove documents.

        Equation 8.2: the index answers as if they had never been added

        Raises ValueError for an id that is not in the index.
        """
        if not set(ids) <= set(self.documents):
            raise ValueError("expected ids of the index, found an unknown id (equation 8.2)")
        for name in set(ids):
            del self.documents[name], self.terms[name]

    def upsert(self, ids: Sequence[str], documents: Sequence[Matrix], terms: Sequence[Terms] | None = None) -> None:
        """Add documents, each [n_d, dim], and remove the old ones with the same ids. `terms` is that of equation 8.1.

        Equation 8.3: delete the known ids, then add all: a replaced document takes a new position

        Raises ValueError for an id that occurs twice, and for vectors that equation 2.5 excludes.
        """
        new = Index(self.dim)
        new.add(ids, documents, terms)
        self.delete([name for name in ids if name in self.documents])
        self.documents.update(new.documents)
        self.terms.update(new.terms)

    def search(self, q: Matrix, k: int, ids: Collection[str] | None = None) -> list[tuple[str, float]]:
        """Return (id, score) of the k best eligible documents, best first; all of them if there are fewer than k.

        Equation 8.4: the first k of the eligible documents by equation 2.6, in the order of equation 3.1

        Every document in the index is eligible; with `ids`, only these. An id that is not in the index matches nothing.
        """
        names = [name for name in self.documents if ids is None or name in ids]
        exact = scores(q, [self.documents[name] for name in names])
        return [(names[i], exact[i]) for i in top_k(exact, k)]

    def search_words(self, terms: Terms, k: int, ids: Collection[str] | None = None) -> list[tuple[str, float]]:
        """Return (id, score) of the k best eligible documents by the terms of a query.

        Equation 8.5: the first k of the eligible documents with a score above 0 by equation 10.5, in the same order

        Terms are respelled (equation 10.8). A document without any of the terms is not returned. The statistics of
        equation 10.5 are those of all documents in the index, also with `ids`, and whatever their segments are.
        """
        scored = zip(self.documents, word_scores(terms, list(self.terms.values()), respell=True), strict=True)
        found = [(name, score) for name, score in scored if score > 0 and (ids is None or name in ids)]
        return [found[i] for i in top_k([score for _, score in found], k)]

    def search_hybrid(
        self, q: Matrix, terms: Terms, k: int, ids: Collection[str] | None = None
    ) -> list[tuple[str, float]]:
        """Return (id, score) of the k best eligible documents by the vectors and the terms of a query.

        Equation 8.6: the first k by equation 10.7 of (the first P by 8.4) union (the first P by 8.5), P = 2 k + 12

        Equal scores are ordered by position. Every document of the union gets both scores.
        """
        depth = 2 * k + 12
        found = dict(self.search(q, depth, ids)) | dict(self.search_words(terms, depth, ids))
        names = [name for name in self.documents if name in found]
        words = dict(zip(self.documents, word_scores(terms, list(self.terms.values()), respell=True), strict=True))
        late = scores(q, [self.documents[name] for name in names])
        fused = fuse(late, [words[name] for name in names], len(terms))
        return [(names[i], fused[i]) for i in top_k(fused, k)]


# ---- 9. Training losses (ColBERT, ColBERTv2, Margin-MSE)


def softmax(values: Vector) -> list[float]:
    """Return the probabilities of scores [n].

    Equation 9.1: p_i = exp(s_i) / sum over j of exp(s_j)

    The largest score is subtracted first, so that exp does not overflow. That does not change p.

        >>> [round(p, 6) for p in softmax([0.0, math.log(3)])]
        [0.25, 0.75]
    """
    return [math.exp(p) for p in _log_softmax(values)]


def _log_softmax(values: Vector) -> list[float]:
    largest = max(values)
    total = largest + math.log(sum(math.exp(s - largest) for s in values))
    return [s - total for s in values]


def pairwise_hinge(positive: float, negative: float) -> float:
    """Return the hinge loss of the scores of a relevant and an irrelevant document, with margin 1.

    Equation 9.2: max(0, 1 - S+ + S-)

        >>> pairwise_hinge(3.0, 2.5)
        0.5
    """
    return max(0.0, 1.0 - positive + negative)


def pairwise_softmax(positive: float, negative: float) -> float:
    """Return the cross-entropy of a relevant and an irrelevant document (ColBERT, section 3.3).

    Equation 9.3: -log(exp S+ / (exp S+ + exp S-))
    """
    return n_way([positive, negative])


def n_way(scores: Vector) -> float:
    """Return the cross-entropy of the scores [n] of a relevant document, which comes first, and n - 1 irrelevant ones.

    Equation 9.4: -log softmax(S)_0

        >>> round(n_way([math.log(3), 0.0]), 6)  # -log(3 / 4)
        0.287682
    """
    return -_log_softmax(scores)[0]


def in_batch(scores: Matrix, temperature: float) -> float:
    """Return the mean cross-entropy of a batch with the scores [n, n], query by document.

    Equation 9.5: mean over i of -log softmax(S_i / temperature)_i

    Document i is relevant to query i. The other documents are irrelevant to it.

        >>> round(in_batch([[math.log(3), 0.0], [0.0, math.log(3)]], temperature=1.0), 6)
        0.287682
    """
    losses = [-_log_softmax([s / temperature for s in row])[i] for i, row in enumerate(scores)]
    return sum(losses) / len(losses)


def kl_divergence(scores: Matrix, teacher: Matrix) -> float:
    """Return the KL divergence between the teacher's distributions and the model's (ColBERTv2, section 3.2).

    Equation 9.6: mean over queries of sum over j of p_j (log p_j - log r_j), p = softmax(T), r = softmax(S)

    `scores` S and `teacher` T are [n_queries, n_documents].

        >>> round(kl_divergence([[0.0, 0.0]], [[math.log(3), 0.0]]), 6)  # 3/4 log(3/2) + 1/4 log(1/2)
        0.130812
    """
    total = 0.0
    for s, t in zip(scores, teacher, strict=True):
        log_p, log_r = _log_softmax(t), _log_softmax(s)
        total += sum(math.exp(p) * (p - r) for p, r in zip(log_p, log_r, strict=True))
    return total / len(scores)


def margin_mse(scores: Matrix, teacher: Matrix) -> float:
    """Return the squared difference of the model's and the teacher's margins (Margin-MSE).

    Equation 9.7: mean over queries and j >= 1 of ((S_0 - S_j) - (T_0 - T_j))^2

    `scores` S and `teacher` T are [n_queries, n_documents]; document 0 is the relevant one.

        >>> margin_mse([[3.0, 1.0]], [[4.0, 1.0]])
        1.0
    """
    errors = []
    for s, t in zip(scores, teacher, strict=True):
        errors += [((s[0] - s[j]) - (t[0] - t[j])) ** 2 for j in range(1, len(s))]
    return sum(errors) / len(errors)


# ---- 10. Words (BM25)


def document_frequency(term: str, documents: Sequence[Terms]) -> int:
    """Return the number of documents that have a term.

    Equation 10.1: df = number of documents with t in document

    `documents` holds the terms of each document in the index, repetitions included. Deleted documents are not in it.

        >>> document_frequency("cat", [["cat", "dog", "cat"], ["dog"], []])
        1
    """
    return sum(term in document for document in documents)


def idf(df: int, n_docs: int) -> float:
    """Return how rare a term is that `df` of `n_docs` documents have. It is positive, even if all of them have it.

    Equation 10.2: idf = ln(1 + (N - df + .5) / (df + .5))

        >>> round(idf(1, 4), 4)  # ln(1 + 3.5 / 1.5)
        1.204
    """
    return math.log(1 + (n_docs - df + 0.5) / (df + 0.5))


def term_weight(count: float, df: int, n_docs: int) -> float:
    """Return the limit of a term's score. `count` says how often the query has the term.

    Equation 10.3: weight = count idf (K1 + 1), K1 = 1.2

        >>> round(term_weight(2, df=1, n_docs=4), 4)
        5.2975
    """
    return count * idf(df, n_docs) * (1.2 + 1)


def term_score(weight: float, count: int, length: int, mean_length: float) -> float:
    """Return the score of a term in a document of `length` terms that has it `count` times.

    Equation 10.4: weight f / (f + K1 (1 - B + B length / mean_length)), f = min(count, 255), B = .75

        >>> term_score(2.2, count=1, length=10, mean_length=10.0)
        1.0
    """
    f = float(min(count, 255))
    return weight * f / (f + 1.2 * (1 - 0.75 + 0.75 * (length / mean_length)))


def word_scores(query: Terms, documents: Sequence[Terms], *, respell: bool = False) -> list[float]:
    """Return the BM25 score of each document; 0 for one without any term of the query.

    Equation 10.5: sum over the distinct terms of the query of equation 10.4, from the largest weight to the smallest

    Equal weights are ordered by the bytes of the query's term in UTF-8. `documents` are those of equation 10.1, and the
    mean length is that of all of them. `respell` applies equation 10.8 to the query.

        >>> documents = [["cat", "dog"], ["dog", "dog"], ["fish", "fish"]]
        >>> [round(score, 2) for score in word_scores(["cat", "dog"], documents)]
        [1.45, 0.65, 0.0]
    """
    mean_length = max(sum(len(document) for document in documents), 1) / max(len(documents), 1)
    totals = [0.0] * len(documents)
    for term, limit in _weighted(query, documents, respell):
        for i, document in enumerate(documents):
            if term in document:
                totals[i] += term_score(limit, document.count(term), len(document), mean_length)
    return totals


def _weighted(query: Terms, documents: Sequence[Terms], respell: bool) -> list[tuple[str, float]]:
    """Return the distinct terms of a query, respelled, with their weights, in the order of equation 10.5."""
    weights, n_tried = [], 0
    for asked in dict.fromkeys(query):
        term, times = asked, float(query.count(asked))
        if respell and document_frequency(asked, documents) == 0 and re.fullmatch("[a-z]{4,24}", asked):
            n_tried += 1
            meant = respelled(asked, documents)
            if meant is not None and n_tried <= 8:
                term, times = meant, 0.5 * times
        weights.append((asked, term, term_weight(times, document_frequency(term, documents), len(documents))))
    weights.sort(key=lambda entry: (-entry[2], entry[0].encode()))
    return [(term, limit) for _, term, limit in weights]


def similarity(score: float, q: Matrix) -> float:
    """Return MaxSim per query token, -1 to 1 for unit vectors. It can be compared across queries.

    Equation 10.6: S(q, d) / max(1, number of rows q_i that are not zero)

        >>> similarity(1.5, [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
        0.75
    """
    return score / max(sum(any(q_i) for q_i in q), 1)


def fuse(late: Vector, words: Vector, n_terms: int) -> list[float]:
    """Return the fused score of each document of a hybrid search.

    Equation 10.7: late + .7 / sqrt(max(1, number of the query's terms, repetitions included)) words

    `late` and `words` are [n], the scores of equations 2.6 and 10.5.

        >>> [round(score, 2) for score in fuse([20.0, 21.0], [8.0, 0.0], n_terms=4)]
        [22.8, 21.0]
    """
    return [s + 0.7 / math.sqrt(max(n_terms, 1)) * w for s, w in zip(late, words, strict=True)]


def respelled(term: str, documents: Sequence[Terms]) -> str | None:
    """Return the term that a misspelt one probably stands for, or None if no document has such a term.

    Equation 10.8: of the terms of a to z that are one letter apart from t, the one with the largest df

    One letter is inserted, left out, replaced, or exchanged with the next one. Of equal df, the first in the alphabet
    is taken. The equation applies to the first 8 distinct terms of a query that have df = 0 and consist of 4 to 24
    letters a to z. Such a term counts half as often as the query has it.

        >>> respelled("parce", [["parse", "date"], ["parse"], ["part"]])
        'parse'
    """
    near = {t for document in documents for t in document if re.fullmatch("[a-z]+", t) and _one_letter_apart(t, term)}
    return min(near, key=lambda t: (-document_frequency(t, documents), t), default=None)


def _one_letter_apart(a: str, b: str) -> bool:
    if len(a) != len(b):
        short, long = sorted((a, b), key=len)
        return any(long[:i] + long[i + 1 :] == short for i in range(len(long)))
    different = [i for i in range(len(a)) if a[i] != b[i]]
    if len(different) == 2:
        i, j = different
        return j == i + 1 and a[i] == b[j] and a[j] == b[i]
    return len(different) == 1

"""Cases of clustering and residual compression."""

import math
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from .goldens import arrays_of, names, tolerance_of
from .oracle import definition
from .pairs import g, unit
from .registry import case
from .scoring import plain

NBITS = st.sampled_from([1, 2, 4, 8])
SEEDS = st.integers(0, 2**32 - 1)
STEP = 0.25


def topical(seed, n, dim, topics=6, spread=0.3):
    """[n, dim] float32 unit rows around a few directions, like token vectors."""
    rng = np.random.default_rng(seed)
    rows = unit(rng, topics, dim)[rng.integers(0, topics, n)] + spread * unit(rng, n, dim)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


# ---- packing and buckets


@case("20", "pack", "unpack", equation="6.11", nbits=NBITS, dim=st.integers(1, 40), seed=SEEDS)
def packing_loses_nothing(impl, nbits, dim, seed):
    """unpack(pack(b)) = b, and pack(b) has ceil(dim nbits / 8) bytes, for any dim."""
    buckets = np.random.default_rng(seed).integers(0, 2**nbits, dim).tolist()
    packed = impl.pack(buckets, nbits)
    assert len(packed) == -(-dim * nbits // 8)
    assert plain(impl.unpack(packed, dim, nbits)) == buckets


@case("20", "pack", "unpack", nbits=NBITS, dim=st.integers(1, 40), seed=SEEDS)
def packed_bytes_are_those_of_the_definition(impl, nbits, dim, seed):
    """Component k takes the nbits bits from bit k nbits on, counted from the low bit of the first byte."""
    buckets = np.random.default_rng(seed).integers(0, 2**nbits, dim).tolist()
    packed = definition.pack(buckets, nbits)
    assert bytes(impl.pack(buckets, nbits)) == packed
    assert plain(impl.unpack(packed, dim, nbits)) == buckets


@case("21", "bucket", nbits=NBITS, values=st.lists(st.integers(-9000, 9000), min_size=2, max_size=20))
def buckets_ascend_and_stay_in_range(impl, nbits, values):
    """r <= r' implies b(r) <= b(r'). All buckets are in 0 .. 2^nbits - 1, and values beyond the ends go to the ends."""
    buckets = [impl.bucket(v / 64, STEP, nbits) for v in sorted(values)]
    assert buckets == sorted(buckets)
    assert [impl.bucket(v, STEP, nbits) for v in (-1e6, 1e6)] == [0, 2**nbits - 1]
    assert set(buckets) <= set(range(2**nbits))


@case("21", "bucket", nbits=NBITS, value=st.integers(-9000, 9000))
def buckets_are_those_of_the_definition(impl, nbits, value):
    """b(r) = floor(r / step + L / 2), also on the borders; L / 2 where the step is 0."""
    assert impl.bucket(value / 64, STEP, nbits) == definition.bucket(value / 64, STEP, nbits)
    assert impl.bucket(value / 64, 0.0, nbits) == definition.bucket(value / 64, 0.0, nbits)


@case("22", "bucket", "weight", equation="6.4", nbits=NBITS, step=st.sampled_from([2.0**-6, 0.25, 3.0]))
def the_middle_of_a_bucket_falls_into_it(impl, nbits, step):
    """b(w(b)) = b: a decoded residual is encoded to the same bucket."""
    numbers = range(2**nbits)
    assert [impl.bucket(float(impl.weight(b, step, nbits)), step, nbits) for b in numbers] == list(numbers)


# ---- encoding


def fitted(seed, nbits, dim):
    """Vectors [40, dim], centroids [5, dim] and steps [dim], all float32."""
    vectors = topical(seed, 40, dim)
    centroids = topical(seed + 1, 5, dim)
    codes = (vectors @ centroids.T).argmax(axis=1)
    deviation = np.sqrt(np.mean((vectors - centroids[codes]) ** 2, axis=0))
    return vectors, centroids, (deviation * 4 / 2**nbits).astype(np.float32)


@case(
    "23",
    "encode",
    "decode",
    nbits=NBITS,
    dim=st.sampled_from([1, 3, 16, 48]),
    seed=SEEDS,
    norm=st.sampled_from([1.0, 0.01, 300.0]),
)
def a_decoded_component_is_off_by_half_a_bucket(impl, nbits, dim, seed, norm):
    """Inside the buckets |r_k - w_k| <= step_k / 2. The code is the nearest centroid, and the norm is kept."""
    vectors, centroids, steps = fitted(seed, nbits, dim)
    x = vectors[0] * np.float32(norm)
    code, buckets, scale, number = impl.encode(x, centroids, steps, nbits)
    exact = np.array(definition.normalized(x))
    similar = centroids.astype(np.float64) @ exact
    assert similar[int(code)] >= similar.max() - 2 * g(dim + 4), "not the nearest centroid"
    widths = definition.spread(int(number)) * steps.astype(np.float64)
    r, stored = exact - centroids[int(code)], (np.array(plain(buckets)) - (2**nbits - 1) / 2) * widths
    inside = np.abs(r) <= widths * 2 ** (nbits - 1)
    assert (np.abs(r - stored) <= widths / 2 + 8 * g(dim + 8))[inside].all(), "not the bucket that holds the residual"
    assert (np.abs(np.abs(stored) - widths * (2**nbits - 1) / 2) <= 1e-6)[~inside].all(), "not the outermost bucket"
    decoded = np.asarray(impl.decode(code, buckets, scale, number, centroids, steps, nbits), np.float64)
    if scale > 0:
        assert abs(np.linalg.norm(decoded) / np.linalg.norm(x.astype(np.float64)) - 1) <= 2.0**-11 + 8 * g(dim + 8)


@case("23", "encode", "decode", equation="6.2", nbits=NBITS, seed=SEEDS)
def spread_numbers_are_those_of_the_definition(impl, nbits, seed):
    """s(n) is the spread nearest to the residual's norm; on a border rounding may decide."""
    vectors, centroids, steps = fitted(seed, nbits, 8)
    code, _, _, number = impl.encode(vectors[1], centroids, steps, nbits)
    residual = np.array(definition.normalized(vectors[1])) - centroids[int(code)]
    exponent = math.log2(max(float(np.linalg.norm(residual)), 2.0**-8))
    assert abs(0.5 - int(number) / 32 - exponent) <= 1 / 64 + 1e-4 or int(number) in (0, 255)


@case("23", "decode", nbits=NBITS, dim=st.sampled_from([1, 3, 16, 48]), seed=SEEDS)
def decoding_is_the_definition(impl, nbits, dim, seed):
    """Any stored token decodes to x' = scale (centroid + s step (b - (L - 1) / 2))."""
    _, centroids, steps = fitted(seed, nbits, dim)
    rng = np.random.default_rng(seed)
    stored = (
        int(rng.integers(5)),
        rng.integers(0, 2**nbits, dim).tolist(),
        float(np.float16(rng.uniform(0, 3))),
        int(rng.integers(256)),
    )
    expected = np.array(definition.decode(*stored, centroids, steps, nbits))
    decoded = np.asarray(impl.decode(*stored, centroids, steps, nbits), np.float64)
    assert np.abs(decoded - expected).max() <= 16 * g(8) * stored[2] * (1 + 2**nbits * 1.5 * float(steps.max()))


@case("23", "encode", "decode", nbits=NBITS)
def the_zero_vector_comes_back_as_zero(impl, nbits):
    """The zero vector is encoded and decoded to zeros."""
    _, centroids, steps = fitted(0, nbits, 6)
    stored = impl.encode(np.zeros(6, np.float32), centroids, steps, nbits)
    assert np.abs(np.asarray(impl.decode(*stored, centroids, steps, nbits))).max() == 0


@case("23", "encode", "decode", sign=st.sampled_from([-1, 1]), gap=st.integers(-3, 3))
def what_cancels_its_centroid_stays_finite(impl, sign, gap):
    """If the residual nearly cancels the centroid, the scale is large, but scale and decoded vector are finite."""
    centroids, x = np.float32([[sign]]), np.float32([-sign])
    steps = np.float32([math.sqrt(2)]) * np.float32(1 + gap * 2.0**-23)  # of a spread sqrt(2), half of it is 1
    stored = impl.encode(x, centroids, steps, 1)
    assert np.isfinite(np.float16(stored[2]))
    assert np.isfinite(np.asarray(impl.decode(*stored, centroids, steps, 1))).all()


@case("23", "encode", "decode", "maxsim", equation="6.9", nbits=NBITS, seed=SEEDS)
def a_score_moves_no_further_than_its_tokens(impl, nbits, seed):
    """|S(q, d) - S(q, d')| <= n_q max over j of |d_j - d'_j|, for the decoded document d'."""
    vectors, centroids, steps = fitted(seed, nbits, 16)
    q, d = vectors[:3], vectors[3:9]
    decoded = np.array(
        [impl.decode(*impl.encode(x, centroids, steps, nbits), centroids, steps, nbits) for x in d], np.float32
    )
    reach = 3 * float(np.linalg.norm(decoded.astype(np.float64) - d, axis=1).max())
    assert abs(impl.maxsim(q, d) - impl.maxsim(q, decoded)) <= reach * (1 + 1e-6) + 6 * g(19) * 2


@case("24", "fit", "encode", "decode", heavy=True, seed=st.integers(0, 2**16))
def more_bits_are_more_exact(impl, seed):
    """The squared error of the vectors that a codec was fitted to falls from 1 to 2 to 4 bits."""
    vectors = topical(seed, 60, 6, spread=0.5)
    errors = []
    for nbits in (1, 2, 4):
        centroids, steps = impl.fit(vectors, 4, nbits, 0)
        decoded = [impl.decode(*impl.encode(x, centroids, steps, nbits), centroids, steps, nbits) for x in vectors]
        errors.append(float(np.square(np.array(decoded) - vectors).sum()))
    assert errors[0] > errors[1] > errors[2]


@case(
    "50",
    "similarities",
    equation="6.9",
    nbits=NBITS,
    dim=st.sampled_from([1, 5, 16]),
    seed=SEEDS,
    norm=st.sampled_from([1.0, 200.0]),
)
def similarities_without_decoding_are_those_of_the_decoded(impl, nbits, dim, seed, norm):
    """[n, n_q] products with stored tokens are those with the decoded vectors, up to float32 rounding.

    The rounded terms are at most |q| and |q| s (L - 1) |step|.
    """
    vectors, centroids, steps = fitted(seed, nbits, dim)
    q = unit(np.random.default_rng(seed), 3, dim)
    stored = [definition.encode(x, centroids, steps, nbits) for x in vectors[:6] * np.float32(norm)]
    products = np.asarray(
        impl.similarities(q, *map(list, zip(*stored, strict=True)), centroids, steps, nbits), np.float64
    )
    decoded = [definition.decode(*token, centroids, steps, nbits) for token in stored]
    terms = 1 + 2 * math.sqrt(2) * (2**nbits - 1) * float(np.linalg.norm(steps.astype(np.float64)))
    bounds = g(dim + 8) * terms * np.array([[scale] for _, _, scale, _ in stored])
    assert (np.abs(products - np.array(decoded) @ q.astype(np.float64).T) <= bounds).all()


@case("51", "encode_many", equation="6.8", nbits=NBITS, seed=SEEDS)
def a_vector_is_stored_alike_in_any_batch(impl, nbits, seed):
    """The code, buckets, scale and spread number of a row are those of the row encoded alone."""
    vectors, centroids, steps = fitted(seed, nbits, 8)
    vectors = vectors[:12] * np.float32([[0.1], [1], [40]] * 4)
    together = impl.encode_many(vectors, centroids, steps, nbits)
    assert len(together) == len(vectors)
    for x, (code, buckets, *rest) in zip(vectors, together, strict=True):
        ((own, numbers, *others),) = impl.encode_many(x[None], centroids, steps, nbits)
        assert (int(code), plain(buckets), rest) == (int(own), plain(numbers), others)


@case("51", "encode_many", equation="6.8", dim=st.sampled_from([8, 48, 96, 128]), seed=SEEDS, first=st.integers(0, 60))
def a_vector_between_two_centroids_is_stored_alike_in_any_batch(impl, dim, seed, first):
    """Also if two centroids differ by the rounding of a sum alone, like (a, b) and (b, a) for the row (x, x)."""
    rng, half = np.random.default_rng(seed), dim // 2
    one, x = unit(rng, 3, dim), unit(rng, 64, half)
    centroids = np.concatenate([one, np.roll(one, half, axis=1)])
    vectors = (np.concatenate([x, x], axis=1) / np.sqrt(2)).astype(np.float32)
    steps = np.full(dim, 0.1, np.float32)
    together = impl.encode_many(vectors, centroids, steps, 2)
    for n in (1, 3):
        few = impl.encode_many(vectors[first : first + n], centroids, steps, 2)
        assert [int(code) for code, *_ in few] == [int(code) for code, *_ in together[first : first + n]]
        assert [plain(buckets) for _, buckets, *_ in few] == [plain(b) for _, b, *_ in together[first : first + n]]


# ---- clustering


@case("25", "assign", equation="5.1", seed=SEEDS, dim=st.integers(1, 4), n=st.integers(1, 9))
def the_nearest_centroid_is_the_first_of_equals(impl, seed, dim, n):
    """The code is the argmax, the lowest number among equals, exactly, on the grid."""
    rng = np.random.default_rng(seed)
    vectors, centroids = ((rng.integers(-2, 3, (m, dim)) / 8).astype(np.float32) for m in (12, n))
    assert plain(impl.assign(vectors, centroids)) == definition.assign(vectors, centroids)


@case("25", "assign", seed=SEEDS)
def assignment_follows_a_relabelling(impl, seed):
    """If the centroids are reordered, each vector keeps its centroid under the new number."""
    rng = np.random.default_rng(seed)
    vectors, centroids = topical(seed, 20, 8), unit(rng, 7, 8)
    order = rng.permutation(7)
    codes = plain(impl.assign(vectors, centroids[order]))
    assert [int(order[c]) for c in codes] == plain(impl.assign(vectors, centroids))


@case("30", "kmeans", equation="5.3", seed=st.integers(0, 2**16), n_centroids=st.integers(1, 6))
def iterations_never_lower_the_objective(impl, seed, n_centroids):
    """The objective of k-means does not fall from one iteration to the next, up to float32 rounding."""
    vectors = topical(seed, 24, 6)
    objectives = [definition.objective(vectors, impl.kmeans(vectors, n_centroids, i, seed)) for i in (1, 2, 3, 4)]
    slack = 2 * len(vectors) * g(6 + len(vectors))
    assert all(after >= before - slack for before, after in pairwise(objectives))
    assert objectives[-1] > 0


@case("30", "kmeans", seed=st.integers(0, 2**16))
def centroids_are_unit_vectors(impl, seed):
    """Every centroid of spherical k-means has norm 1."""
    centroids = np.asarray(impl.kmeans(topical(seed, 24, 6), 5, 2, seed), np.float64)
    assert centroids.shape == (5, 6)
    assert np.abs(np.linalg.norm(centroids, axis=1) - 1).max() <= 8 * g(16)


@case("30", "kmeans", seed=st.integers(0, 2**16))
def the_same_seed_gives_the_same_centroids(impl, seed):
    """Equal seeds give equal bytes. Nothing else decides them, such as a global random state."""
    vectors = topical(seed, 24, 6)
    first = np.asarray(impl.kmeans(vectors, 4, 2, seed))
    np.random.default_rng().random(3)
    assert np.asarray(impl.kmeans(vectors, 4, 2, seed)).tobytes() == first.tobytes()


@case("30", "kmeans", seed=st.integers(0, 2**16))
def a_centroid_is_the_direction_of_its_vectors(impl, seed):
    """One iteration with one centroid gives (sum of x) / |sum of x|."""
    vectors = topical(seed, 24, 6)
    total = vectors.astype(np.float64).sum(axis=0)
    assert np.abs(np.asarray(impl.kmeans(vectors, 1, 1, seed))[0] - total / np.linalg.norm(total)).max() <= 24 * g(24)


@case("23", "encode", "decode", "pack")
def stored_tokens_are_those_of_the_goldens(impl):
    """golden/codec: equal codes, bytes and spread numbers; scales and decoded vectors to the stated tolerance."""
    for name in names("codec"):
        golden, nbits = arrays_of("codec", name), int(name[0])
        for i, x in enumerate(golden["vectors"]):
            code, buckets, scale, number = impl.encode(x, golden["centroids"], golden["steps"], nbits)
            assert (int(code), int(number)) == (golden["codes"][i], golden["spreads"][i]), (name, i)
            assert bytes(impl.pack(plain(buckets), nbits)) == golden["residuals"][i].tobytes(), (name, i)
            assert abs(float(scale) - float(golden["scales"][i])) <= tolerance_of("codec", name, "scales")
            decoded = impl.decode(code, buckets, scale, number, golden["centroids"], golden["steps"], nbits)
            assert np.abs(np.asarray(decoded) - golden["decoded"][i]).max() <= tolerance_of("codec", name, "decoded")

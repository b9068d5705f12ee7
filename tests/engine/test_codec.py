"""Residual codec: packing, buckets, error bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import topical, unit

from refcolbert import definition
from refcolbert.engine import codec, kmeans
from refcolbert.errors import InvalidInput
from tools.goldens import cases, files

NBITS = st.sampled_from(codec.NBITS)


@pytest.fixture(scope="module")
def vectors():
    """Token vectors of 80 documents: about 1,300 unit rows of dim 12."""
    return topical(np.random.default_rng(5), 80, 12).vectors


@pytest.fixture(scope="module")
def codecs(vectors):
    """A codec of 48 centroids for each nbits."""
    return {nbits: codec.fit(vectors, 48, nbits, seed=0) for nbits in codec.NBITS}


def one_centroid(centroid, steps, nbits):
    """A codec whose only centroid is this one [dim], so that residuals are known."""
    centroids = np.float32([centroid])
    return codec.Codec(centroids, centroids, np.array([0, 1]), np.full(len(centroid), steps, np.float32), nbits)


def buckets_of(encoded, fitted):
    """The bucket numbers [n_tokens, dim] of encoded vectors."""
    return codec.unpack(encoded.residuals, fitted.dim, fitted.nbits)


@given(NBITS, st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_pack_is_a_bijection_and_the_documented_one(nbits, dim, n, seed):
    """unpack(pack(b)) = b, bytes as the definition lays them out, length ceil(dim nbits / 8) (20)."""
    buckets = np.random.default_rng(seed).integers(0, 2**nbits, (n, dim)).astype(np.uint8)
    packed = codec.pack(buckets, nbits)
    assert packed.shape == (n, codec.row_bytes(dim, nbits))
    assert [row.tobytes() for row in packed] == [definition.pack(row.tolist(), nbits) for row in buckets]
    assert np.array_equal(codec.unpack(packed, dim, nbits), buckets)
    assert [definition.unpack(row.tobytes(), dim, nbits) for row in packed] == buckets.tolist()


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_encode_and_decode_equal_definition(vectors, codecs, nbits):
    """Codes, spreads, buckets, scales and decoded vectors are those of the plain loops, for vectors of any norm."""
    fitted = codecs[nbits]
    vectors = np.concatenate([vectors[:40], 7 * vectors[40:45], np.zeros((1, 12), np.float32)])
    with np.errstate(all="raise"):
        encoded = fitted.encode(vectors)
    decoded = fitted.decode(encoded)
    buckets = buckets_of(encoded, fitted)
    agree = 0
    for i, x in enumerate(vectors.tolist()):
        code, expected, scale, number = definition.encode(x, fitted.centroids, fitted.steps, nbits)
        stored = (int(encoded.codes[i]), buckets[i].tolist(), float(encoded.scales[i]), int(encoded.spreads[i]))
        y = definition.decode(*stored, fitted.centroids, fitted.steps, nbits)
        assert np.abs(np.array(y) - decoded[i]).max() <= 1e-5 * max(1, np.linalg.norm(vectors[i]))
        if (encoded.codes[i], encoded.spreads[i]) == (code, number):
            agree += 1
            unit = np.array(x) / max(np.linalg.norm(x), 1e-9)
            numbers = (unit - fitted.centroids[code]) / (definition.spread(number) * fitted.steps)
            clear = np.abs(numbers - np.rint(numbers)) > 1e-4
            assert (buckets[i] == np.array(expected))[clear].all()
            assert float(encoded.scales[i]) == pytest.approx(scale, rel=2e-3)
    assert agree >= 0.9 * len(vectors)


@pytest.mark.parametrize("nbits", codec.NBITS)
@pytest.mark.parametrize("dim", [5, 12])
def test_similarities_are_those_of_the_decoded_vectors(nbits, dim):
    """Similarities with encoded tokens are the products with the decoded ones, within the bound, at any norm."""
    rng = np.random.default_rng(1)
    vectors = unit(rng, 60, dim) * rng.choice([1, 0.01, 300], (60, 1)).astype(np.float32)
    fitted = codec.fit(vectors, 7, nbits, seed=0)
    encoded = fitted.encode(vectors)
    q = rng.standard_normal((4, dim)).astype(np.float32)
    exact = fitted.decode(encoded).astype(np.float64) @ q.T.astype(np.float64)  # [n, n_q]
    prepared = fitted.prepare(q)
    bounds = np.array([prepared.error_bound(float(scale)).sum() for scale in encoded.scales])
    assert (np.abs(prepared.similarities(encoded) - exact).sum(axis=1) <= bounds).all()
    assert (bounds <= 1e-3 * (1 + np.linalg.norm(vectors, axis=1)) * np.linalg.norm(q, axis=1).sum()).all()


@pytest.mark.parametrize("nbits", codec.NBITS)
@pytest.mark.parametrize("dim", [1, 2, 3, 5, 8, 9, 16, 17, 48, 96, 130])
def test_decoded_vectors_keep_their_norm(nbits, dim):
    """A decoded vector has the original's norm to float16 rounding, for any dim; zero stays zero."""
    vectors = unit(np.random.default_rng(0), 40, dim) * np.repeat(np.float32([[1], [3], [0.01], [0]]), 10, axis=0)
    fitted = codec.fit(vectors, 4, nbits, seed=0)
    norms = np.linalg.norm(fitted.decode(fitted.encode(vectors)), axis=1)
    assert np.abs(norms - np.linalg.norm(vectors, axis=1)).max() <= 3 * 2.0**-11 + 1e-6
    assert (norms[30:] == 0).all()


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_error_is_bounded_by_half_a_bucket(vectors, codecs, nbits):
    """A component that lies within the buckets is off by at most half of one's width before it is scaled (23)."""
    fitted = codecs[nbits]
    encoded = fitted.encode(vectors)
    widths = codec.SPREADS[encoded.spreads][:, None] * fitted.steps  # [n, dim]
    residuals = vectors - fitted.centroids[encoded.codes]
    restored = (buckets_of(encoded, fitted) - fitted.middle) * widths
    inside = np.abs(residuals) <= widths * 2 ** (nbits - 1)
    assert inside.mean() > 0.6
    assert (np.abs(residuals - restored) <= widths / 2 + 1e-6)[inside].all()
    assert (np.abs(restored) <= np.abs(residuals) + 1e-6)[~inside].all()


def test_more_bits_are_more_exact(vectors, codecs):
    """The mean squared error falls with every doubling of nbits (24)."""
    errors = [float(((vectors - c.decode(c.encode(vectors))) ** 2).mean()) for c in codecs.values()]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_buckets_are_monotone_and_the_middle_of_one_falls_into_it(nbits):
    """Bucket numbers ascend with the value, reach both ends, and keep the middle of each bucket (21, 22)."""
    step, last = 2.0**-nbits, 2**nbits - 1
    plain = one_centroid([0, 0], step, nbits)  # a residual is the unit vector itself, and has spread 1

    def first_buckets(values):
        return buckets_of(plain.encode(np.stack([values, np.sqrt(1 - values**2)], axis=1)), plain)[:, 0].tolist()

    values = np.linspace(-1, 1, 999, dtype=np.float32)
    numbers = first_buckets(values)
    assert numbers == sorted(numbers)
    assert (numbers[0], numbers[-1]) == (0, last)
    expected = [definition.bucket(float(v), step, nbits) for v in values]
    clear = np.abs(values / step - np.rint(values / step)) > 1e-4
    assert np.array(numbers)[clear].tolist() == np.array(expected)[clear].tolist()
    middles = np.float32([definition.weight(b, step, nbits) for b in range(last + 1)])
    assert first_buckets(middles) == list(range(last + 1))


def test_a_residual_gets_the_nearest_spread():
    """A norm gets the spread next to it on the scale of logarithms, and the last one beyond either end."""
    norms = np.outer(codec.SPREADS, np.exp2(np.array([-0.499, 0, 0.499]) / 32)).ravel()  # nearly to either border
    norms = np.concatenate([norms, [2, 0, 0.001]])
    vectors = np.stack([1 - norms**2 / 2, norms * np.sqrt(1 - norms**2 / 4)], axis=1)  # as far from (1, 0) as that
    encoded = one_centroid([1, 0], 1, 2).encode(vectors.astype(np.float32))
    assert encoded.spreads.tolist() == [*np.repeat(np.arange(256), 3).tolist(), 0, 255, 255]


def test_spreads_are_those_of_the_definition():
    """s = 2^(1/2 - n/32) for 0 <= n < 256, rounded to float32."""
    assert codec.SPREADS.tolist() == np.float32([definition.spread(n) for n in range(256)]).tolist()


def test_same_seed_same_bytes(vectors, codecs):
    """Fitting and encoding are reproducible to the byte (34)."""
    again = codec.fit(vectors, 48, 4, seed=0)
    assert again.centroids.tobytes() == codecs[4].centroids.tobytes()
    assert again.encode(vectors).residuals.tobytes() == codecs[4].encode(vectors).residuals.tobytes()
    assert codec.fit(vectors, 48, 4, seed=1).centroids.tobytes() != again.centroids.tobytes()


def test_bad_input_is_refused(vectors, codecs):
    """Another nbits, nothing to fit, and a norm that float16 cannot hold are typed errors."""
    with pytest.raises(InvalidInput, match="nbits"):
        codec.fit(vectors, 4, 3, 0)
    with pytest.raises(InvalidInput, match="zero"):
        codec.fit(np.zeros((4, 12), np.float32), 4, 2, 0)
    with pytest.raises(InvalidInput, match="norm"):
        codecs[4].encode(np.full((1, 12), 1e5, np.float32))


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_encoding_does_not_depend_on_the_batch(monkeypatch, vectors, codecs, nbits):
    """A vector is stored in the same bytes alone, among a few and among many."""
    together = codecs[nbits].encode(vectors[:60])
    for chunk in (1, 7):
        monkeypatch.setattr(codec, "CHUNK", chunk)
        parts = codecs[nbits].encode(vectors[:60])
        for name in ("codes", "residuals", "scales", "spreads"):
            assert getattr(parts, name).tobytes() == getattr(together, name).tobytes()


def test_queries_that_float32_cannot_multiply_are_refused(vectors, codecs):
    """A norm of 1e30 is compared with compressed vectors, more is an error."""
    q = np.zeros((2, 12), np.float32)
    q[1, :2] = 3e29, 4e29
    assert np.isfinite(codecs[4].prepare(np.float32(1.9) * q).similarities(codecs[4].encode(vectors[:9]))).all()
    with pytest.raises(InvalidInput, match=r"found 1.5e\+30"):
        codecs[4].prepare(3 * q)


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_the_error_bound_is_the_derived_one(codecs, nbits):
    """gamma(dim + 8) |q_i| (1 + 2 s (L - 1) |steps|) scale, with the largest spread s, to float64 rounding."""
    q, fitted = np.random.default_rng(3).standard_normal((5, 12)).astype(np.float32), codecs[nbits]
    u = (12 + 8) * 2.0**-24
    norms = np.linalg.norm(q.astype(np.float64), axis=1)
    terms = 1 + 2 * float(codec.SPREADS[0]) * (2**nbits - 1) * float(np.linalg.norm(fitted.steps))
    assert fitted.prepare(q).error_bound(3.0) == pytest.approx(u / (1 - u) * norms * terms * 3, rel=1e-12)


def test_norms_up_to_half_of_float16_are_stored(codecs):
    """A norm of 32752 is stored, a larger one refused."""
    direction = np.zeros((1, 12), np.float32)
    direction[0, 3] = 32752
    assert float(codecs[8].encode(direction).scales[0]) > 3e4
    with pytest.raises(InvalidInput, match="norm at most 32752"):
        codecs[8].encode(direction * np.float32(1.001))
    with pytest.raises(InvalidInput, match="norm at most"):
        codecs[8].encode(np.concatenate([direction, 2 * direction]))


def test_taking_tokens_takes_all_of_their_arrays(vectors, codecs):
    """Tokens are taken by number and by slice, and joined parts are the whole again."""
    encoded = codecs[4].encode(vectors[:20])
    assert len(encoded) == 20
    for rows in (slice(3, 9), np.array([7, 0, 7])):
        part = encoded.take(rows)
        assert np.array_equal(codecs[4].decode(part), codecs[4].decode(encoded)[rows])
        assert part.residuals.tolist() == encoded.residuals[rows].tolist()
    both = codec.join([encoded.take(slice(0, 5)), encoded.take(slice(5, 20))])
    assert both.spreads.tolist() == encoded.spreads.tolist()


def expected_steps(units, fitted):
    """The steps that the definition finds for the residuals of these unit vectors."""
    residuals = units - fitted.centroids[definition.assign(units.tolist(), fitted.centroids.tolist())]
    return definition.steps(residuals.tolist(), fitted.nbits, codec.HALF_WIDTHS.tolist())


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_steps_are_those_of_least_error(vectors, nbits):
    """`fit` gives the steps that the definition finds for the residuals, and 0 where nothing varies."""
    vectors = np.concatenate([vectors[:60], np.zeros((60, 1), np.float32)], axis=1)
    fitted = codec.fit(vectors, 6, nbits, seed=0)
    assert np.allclose(fitted.steps, expected_steps(vectors, fitted), rtol=1e-4)
    assert fitted.steps[12] == 0


@pytest.mark.parametrize(("largest", "size"), [(1 << 20, 24), (20, 20)])
def test_fit_samples_vectors_by_the_seed(monkeypatch, vectors, largest, size):
    """k-means and the steps see rows drawn by NumPy's generator of [seed, 1] from the vectors that are not zero."""
    monkeypatch.setattr(codec, "POINTS_PER_CENTROID", 4)
    monkeypatch.setattr(codec, "SAMPLE", largest)
    monkeypatch.setattr(codec, "RESIDUAL_SAMPLE", 33)
    fitted = codec.fit(np.concatenate([np.zeros((10, 12), np.float32), np.float32(0.5) * vectors[:300]]), 6, 2, seed=9)
    rng = np.random.default_rng([9, 1])
    points, residual_points = (vectors[np.sort(rng.choice(300, n, replace=False))] for n in (size, 33))
    assert np.allclose(fitted.centroids, kmeans.fit(points, 6, 9).fine, atol=1e-6)
    assert np.allclose(fitted.steps, expected_steps(residual_points, fitted), rtol=1e-4)


def test_fewer_vectors_than_centroids_are_a_centroid_each(vectors):
    """The number of centroids is at most that of the vectors that are not zero."""
    fitted = codec.fit(np.concatenate([np.zeros((10, 12), np.float32), vectors[:3]]), 50, 2, seed=9)
    assert np.allclose(sorted(fitted.centroids.tolist()), sorted(vectors[:3].tolist()), atol=1e-6)


def test_of_equal_errors_the_smaller_steps_are_taken(monkeypatch):
    """Where two half widths restore residuals equally well, the first of the ladder is taken."""
    monkeypatch.setattr(codec, "HALF_WIDTHS", np.array([1.0, 3.0]))
    monkeypatch.setattr(codec, "RESIDUAL_SAMPLE", 1)
    monkeypatch.setattr(kmeans, "ITERATIONS", 0)  # the centroid is one of the two vectors
    fits = [codec.fit(np.float32([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]]), 1, 1, seed) for seed in range(9)]
    assert {tuple(fitted.steps.tolist()) for fitted in fits} == {(0.0,) * 4, (0.5,) * 4}


def test_components_that_do_not_vary_go_to_the_middle():
    """A component whose step is 0 takes the upper middle bucket, and a token that decodes to zero the scale 0."""
    with np.errstate(all="raise"):
        plain = one_centroid([0, 0], 0, 2)
        encoded = plain.encode(np.float32([[1, 0], [-0.6, 0.8]]))
    assert buckets_of(encoded, plain).tolist() == [[2, 2], [2, 2]]
    assert encoded.scales.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("case", cases.CASES["codec"])
def test_stored_bytes_are_the_goldens(case):
    """Codes, packed residuals and spreads are those of golden/codec exactly, scales to a unit, vectors to float16."""
    golden = files.read("codec", case)
    expected, tolerance = golden.arrays, golden.about["tolerance"]
    starts = np.array([0, len(expected["centroids"])])
    fitted = codec.Codec(expected["centroids"], expected["centroids"][:1], starts, expected["steps"], int(case[0]))
    encoded = fitted.encode(expected["vectors"])
    for name in ("codes", "residuals", "spreads"):
        assert getattr(encoded, name).tobytes() == expected[name].tobytes()
    assert np.abs(encoded.scales.astype(float) - expected["scales"]).max() <= tolerance["scales"]
    assert np.abs(fitted.decode(encoded) - expected["decoded"]).max() <= tolerance["decoded"]

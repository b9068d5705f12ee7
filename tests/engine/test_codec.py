"""Residual codec: packing, buckets, error bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import topical, unit

from refcolbert import definition
from refcolbert.engine import codec
from refcolbert.errors import InvalidInput
from tools.goldens import cases, files

NBITS = st.sampled_from(codec.NBITS)
VECTORS = topical(np.random.default_rng(5), 80, 12).vectors
CODECS = {nbits: codec.fit(VECTORS, 48, nbits, seed=0) for nbits in codec.NBITS}


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
def test_encode_and_decode_equal_definition(nbits):
    """Codes, spreads, buckets, scales and decoded vectors are those of the plain loops, for vectors of any norm."""
    fitted = CODECS[nbits]
    vectors = np.concatenate([VECTORS[:40], 7 * VECTORS[40:45], np.zeros((1, 12), np.float32)])
    encoded = fitted.encode(vectors)
    decoded = fitted.decode(encoded)
    buckets = codec.unpack(encoded.residuals, 12, nbits)
    agree = 0
    for i, x in enumerate(vectors.tolist()):
        code, expected, scale, number = definition.encode(x, fitted.centroids, fitted.steps, nbits)
        held = (int(encoded.codes[i]), buckets[i].tolist(), float(encoded.scales[i]), int(encoded.spreads[i]))
        y = definition.decode(*held, fitted.centroids, fitted.steps, nbits)
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
    """What a query is told of encoded tokens is the product with the decoded ones, within the bound, at any norm."""
    rng = np.random.default_rng(1)
    vectors = unit(rng, 60, dim) * rng.choice([1, 0.01, 300], (60, 1)).astype(np.float32)
    fitted = codec.fit(vectors, 7, nbits, seed=0)
    encoded = fitted.encode(vectors)
    q = rng.standard_normal((4, dim)).astype(np.float32)
    exact = fitted.decode(encoded).astype(np.float64) @ q.T.astype(np.float64)  # [n, n_q]
    found = fitted.prepare(q).similarities(encoded)
    bounds = np.array([fitted.prepare(q).error_bound(float(scale)).sum() for scale in encoded.scales])
    assert (np.abs(found - exact).sum(axis=1) <= bounds).all()
    assert (bounds <= 1e-3 * (1 + np.linalg.norm(vectors, axis=1)) * np.linalg.norm(q, axis=1).sum()).all()


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_decoded_vectors_keep_their_norm(nbits):
    """A decoded vector has the original's norm to float16 rounding; zero stays zero."""
    vectors = np.concatenate([VECTORS[:50], 3 * VECTORS[50:100], np.zeros((2, 12), np.float32)])
    decoded = CODECS[nbits].decode(CODECS[nbits].encode(vectors))
    norms, found = np.linalg.norm(vectors, axis=1), np.linalg.norm(decoded, axis=1)
    assert np.abs(found - norms).max() <= 3 * 2.0**-11 + 1e-6
    assert (found[-2:] == 0).all()


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_error_is_bounded_by_half_a_bucket(nbits):
    """A component that lies within the buckets is off by at most half of one's width before it is scaled (23)."""
    fitted = CODECS[nbits]
    encoded = fitted.encode(VECTORS)
    widths = codec.SPREADS[encoded.spreads][:, None] * fitted.steps  # [n, dim]
    residuals = VECTORS - fitted.centroids[encoded.codes]
    held = (codec.unpack(encoded.residuals, 12, nbits) - fitted.middle) * widths
    inside = np.abs(residuals) <= widths * 2 ** (nbits - 1)
    assert inside.mean() > 0.6
    assert (np.abs(residuals - held) <= widths / 2 + 1e-6)[inside].all()
    assert (np.abs(held) <= np.abs(residuals) + 1e-6)[~inside].all()


def test_more_bits_are_more_exact():
    """The mean squared error falls with every doubling of nbits (24)."""
    errors = [float(((VECTORS - c.decode(c.encode(VECTORS))) ** 2).mean()) for c in CODECS.values()]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_buckets_are_monotone_and_the_middle_of_one_falls_into_it(nbits):
    """Bucket numbers ascend with the value, reach both ends, and keep the middle of each bucket (21, 22)."""
    steps, spreads = np.full(1, 0.25, np.float32), np.ones(999, np.float32)
    values = np.linspace(-40, 40, 999, dtype=np.float32)[:, None]
    numbers = codec._buckets(values, steps, spreads, nbits)[:, 0]
    assert (np.diff(numbers.astype(int)) >= 0).all()
    assert (numbers[0], numbers[-1]) == (0, 2**nbits - 1)
    assert numbers.tolist() == [definition.bucket(float(v), 0.25, nbits) for v in values[:, 0]]
    middles = np.array([[definition.weight(b, 0.25, nbits)] for b in range(2**nbits)], np.float32)
    assert codec._buckets(middles, steps, spreads[: 2**nbits], nbits)[:, 0].tolist() == list(range(2**nbits))


def test_spreads_are_the_nearest_powers():
    """A residual norm gets the spread next to it on the scale of logarithms, and what is out of range the last one."""
    norms = np.concatenate([codec.SPREADS, np.geomspace(1e-4, 3, 200), [0.0]]).astype(np.float32)
    numbers = codec._spread_numbers(norms)
    assert numbers.tolist() == [definition.spread_number(float(norm)) for norm in norms]
    assert codec.SPREADS[numbers[:256]].tolist() == codec.SPREADS.tolist()


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_steps_are_those_of_least_error(nbits):
    """The fitted steps are the best of the ladder by the definition's own count, and 0 where nothing varies."""
    residuals = np.random.default_rng(2).standard_normal((30, 4)).astype(np.float32) * np.float32([0.3, 0.1, 0.2, 0])
    fitted = codec._fit_steps(residuals, nbits)
    expected = definition.steps(residuals.tolist(), nbits, codec.HALF_WIDTHS.tolist())
    assert np.allclose(fitted, expected, rtol=1e-6)
    assert fitted[3] == 0


def test_same_seed_same_bytes():
    """Fitting and encoding are reproducible to the byte (34)."""
    again = codec.fit(VECTORS, 48, 4, seed=0)
    assert again.centroids.tobytes() == CODECS[4].centroids.tobytes()
    assert again.encode(VECTORS).residuals.tobytes() == CODECS[4].encode(VECTORS).residuals.tobytes()
    assert codec.fit(VECTORS, 48, 4, seed=1).centroids.tobytes() != again.centroids.tobytes()


@pytest.mark.parametrize("dim", [1, 3, 48, 96, 130])
@pytest.mark.parametrize("nbits", codec.NBITS)
def test_any_dim(dim, nbits):
    """Dims that do not fill whole bytes encode and decode too."""
    vectors = unit(np.random.default_rng(0), 40, dim)
    fitted = codec.fit(vectors, 4, nbits, seed=0)
    assert fitted.decode(fitted.encode(vectors)).shape == (40, dim)


def test_bad_input_is_refused():
    """Another nbits, nothing to fit, and a norm that float16 cannot hold are typed errors."""
    with pytest.raises(InvalidInput, match="nbits"):
        codec.fit(VECTORS, 4, 3, 0)
    with pytest.raises(InvalidInput, match="zero"):
        codec.fit(np.zeros((4, 12), np.float32), 4, 2, 0)
    with pytest.raises(InvalidInput, match="norm"):
        CODECS[4].encode(np.full((1, 12), 1e5, np.float32))


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_encoding_does_not_depend_on_the_batch(nbits):
    """A vector alone and among others is stored in the same bytes, unless two centroids are equally near."""
    fitted, together = CODECS[nbits], CODECS[nbits].encode(VECTORS[:60])
    alone = codec.join([fitted.encode(x[None]) for x in VECTORS[:60]])
    same = together.codes == alone.codes
    assert same.mean() > 0.95
    for name in ("residuals", "scales", "spreads"):
        assert getattr(together, name)[same].tobytes() == getattr(alone, name)[same].tobytes()


def test_queries_that_float32_cannot_multiply_are_refused():
    """A norm of 1e30 is compared with compressed vectors, more is an error."""
    q = np.zeros((2, 12), np.float32)
    q[1, :2] = 3e29, 4e29
    assert np.isfinite(CODECS[4].prepare(np.float32(1.9) * q).similarities(CODECS[4].encode(VECTORS[:9]))).all()
    with pytest.raises(InvalidInput, match=r"found 1.5e\+30"):
        CODECS[4].prepare(3 * q)


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_slack_is_the_derived_one(nbits):
    """gamma(dim + 8) |q_i| (1 + 2 s (L - 1) |steps|) scale, with the largest spread s, to float64 rounding."""
    q, fitted = np.random.default_rng(3).standard_normal((5, 12)).astype(np.float32), CODECS[nbits]
    u = (12 + 8) * 2.0**-24
    norms = np.linalg.norm(q.astype(np.float64), axis=1)
    terms = 1 + 2 * float(codec.SPREADS[0]) * (2**nbits - 1) * float(np.linalg.norm(fitted.steps))
    assert fitted.prepare(q).error_bound(3.0) == pytest.approx(u / (1 - u) * norms * terms * 3, rel=1e-12)


def test_spreads_are_the_documented_powers():
    """s = 2^(1/2 - n/32) for 0 <= n < 256, parted in the middle on the scale of logarithms."""
    exponents = 0.5 - np.arange(256) / 32
    assert codec.SPREADS.tolist() == np.exp2(exponents).astype(np.float32).tolist()
    middles = np.exp2((exponents[:-1] + exponents[1:]) / 2)[::-1].astype(np.float32)
    assert codec.SPREAD_BORDERS.tolist() == middles.tolist()
    assert (float(np.finfo(np.float16).max), (1, 2, 4, 8)) == (codec.LARGEST_SCALE, codec.NBITS)
    assert (codec.HALF_WIDTHS[0], codec.HALF_WIDTHS[-1], len(codec.HALF_WIDTHS)) == pytest.approx((0.8, 8, 32))


def test_norms_up_to_half_of_float16_are_stored():
    """A norm of 32752 is stored, a larger one refused, and no vector at all is no error."""
    direction = np.zeros((1, 12), np.float32)
    direction[0, 3] = codec.LARGEST_SCALE / 2
    assert float(CODECS[8].encode(direction).scales[0]) > 3e4
    with pytest.raises(InvalidInput, match="norm at most 32752"):
        CODECS[8].encode(direction * np.float32(1.001))
    with pytest.raises(InvalidInput, match="norm at most"):
        CODECS[8].encode(np.concatenate([direction, 2 * direction]))


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 8, 9, 16, 17])
def test_norms_are_exact_and_alone_as_in_a_batch(dim):
    """Folding halves gives the norm to a few units of the last place, with the same bits in any batch."""
    vectors = np.random.default_rng(dim).standard_normal((50, dim)).astype(np.float32)
    found = codec._norms(vectors)
    assert np.abs(found / np.linalg.norm(vectors.astype(np.float64), axis=1) - 1).max() <= 6 * 2.0**-24
    assert found.tolist() == [float(codec._norms(x[None])[0]) for x in vectors]


def test_taking_tokens_takes_all_of_them():
    """Rows by number and by slice, with their length, and pieces joined again."""
    encoded = CODECS[4].encode(VECTORS[:20])
    assert len(encoded) == 20
    for rows in (slice(3, 9), np.array([7, 0, 7])):
        part = encoded.take(rows)
        assert np.array_equal(CODECS[4].decode(part), CODECS[4].decode(encoded)[rows])
        assert part.residuals.tolist() == encoded.residuals[rows].tolist()
    both = codec.join([encoded.take(slice(0, 5)), encoded.take(slice(5, 20))])
    assert both.spreads.tolist() == encoded.spreads.tolist()


def test_chunks_are_joined(monkeypatch):
    """Encoding in small pieces gives what one piece gives."""
    whole = CODECS[2].encode(VECTORS[:50])
    monkeypatch.setattr(codec, "CHUNK", 7)
    parts = CODECS[2].encode(VECTORS[:50])
    for name in codec.Encoded.__slots__:
        assert np.array_equal(getattr(parts, name), getattr(whole, name))


def test_fit_draws_samples_of_the_vectors_that_are_not_zero(monkeypatch):
    """k-means and the steps look at no more vectors than allowed, none of them zero, and there are few centroids."""
    seen, kmeans_fit, fit_steps = [], codec.kmeans.fit, codec._fit_steps
    monkeypatch.setattr(
        codec.kmeans, "fit", lambda v, n, seed: seen.append((len(v), n, seed)) or kmeans_fit(v, n, seed)
    )
    monkeypatch.setattr(codec, "_fit_steps", lambda r, nbits: seen.append((len(r), nbits)) or fit_steps(r, nbits))
    vectors = np.concatenate([np.zeros((10, 12), np.float32), np.float32(0.5) * VECTORS[:300]])
    monkeypatch.setattr(codec, "POINTS_PER_CENTROID", 4)
    monkeypatch.setattr(codec, "RESIDUAL_SAMPLE", 33)
    fitted = codec.fit(vectors, 6, 2, seed=9)
    assert seen == [(24, 6, 9), (33, 2)]
    assert np.isfinite(fitted.centroids).all()
    seen.clear()
    monkeypatch.setattr(codec, "SAMPLE", 20)
    codec.fit(vectors, 6, 2, seed=9)
    assert seen[0] == (20, 6, 9)
    seen.clear()
    monkeypatch.setattr(codec, "RESIDUAL_SAMPLE", 300)
    assert len(codec.fit(vectors[:13], 50, 2, seed=9).centroids) == 3
    assert seen == [(3, 3, 9), (3, 2)]


def test_a_sample_is_drawn_without_repetition_in_order():
    """A smaller sample is distinct rows in their order, one as large or larger is everything."""
    rows = np.arange(40, dtype=np.float32)[:, None]
    drawn = codec._sample(rows, 12, np.random.default_rng(0))[:, 0]
    assert len(set(drawn.tolist())) == 12
    assert drawn.tolist() == sorted(drawn.tolist())
    for size in (40, 41):
        assert codec._sample(rows, size, np.random.default_rng(0)) is rows


def test_rows_are_normalized_whatever_their_norm():
    """Rows of any norm get norm 1 and a zero row stays zero, without a warning."""
    scales = np.float32([[0.01], [0.99], [1], [300], [0]])
    with np.errstate(all="raise"):
        units, norms = codec._normalize(VECTORS[:5] * scales)
    assert np.allclose(units, VECTORS[:5] * (scales > 0), atol=1e-6)
    assert np.allclose(norms, scales[:, 0], rtol=1e-5)


def test_what_does_not_vary_goes_to_the_middle():
    """A component whose step is 0 takes the middle bucket, and a token that decodes to nothing the scale 0."""
    with np.errstate(all="raise"):
        found = codec._buckets(np.float32([[-0.3, 0.2], [0, 0]]), np.zeros(2, np.float32), np.ones(2, np.float32), 2)
        nothing = codec.Codec(*(np.zeros((1, 2), np.float32),) * 2, np.array([0, 1]), np.zeros(2, np.float32), 2)
        encoded = nothing.encode(np.float32([[1, 0]]))
    assert found.tolist() == [[2, 2], [2, 2]]
    assert encoded.scales.tolist() == [0.0]


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_fitted_steps_are_of_the_residuals(nbits):
    """`fit` gives the steps that the definition finds for the vectors less their centroids."""
    vectors = VECTORS[:60]
    fitted = codec.fit(vectors, 6, nbits, seed=0)
    residuals = vectors - fitted.centroids[definition.assign(vectors, fitted.centroids)]
    expected = definition.steps(residuals.tolist(), nbits, codec.HALF_WIDTHS.tolist())
    assert np.allclose(fitted.steps, expected, rtol=1e-4)


def test_of_equal_errors_the_smaller_steps_are_taken(monkeypatch):
    """Where two reaches bring residuals back equally well, the first of the ladder stays."""
    monkeypatch.setattr(codec, "HALF_WIDTHS", np.array([1.0, 3.0]))
    assert codec._fit_steps(np.float32([[1.0]]), 1).tolist() == [1.0]
    assert definition.steps([[1.0]], 1, [1.0, 3.0]) == [1.0]


def test_samples_are_those_of_the_seed(monkeypatch):
    """k-means sees the rows drawn by NumPy's generator of [seed, 1]: the same in every release."""
    seen, kmeans_fit = [], codec.kmeans.fit
    monkeypatch.setattr(codec.kmeans, "fit", lambda v, n, seed: seen.append(v) or kmeans_fit(v, n, seed))
    monkeypatch.setattr(codec, "POINTS_PER_CENTROID", 2)
    codec.fit(VECTORS[:100], 6, 2, seed=9)
    rows = np.sort(np.random.default_rng([9, 1]).choice(100, 12, replace=False))
    assert np.allclose(seen[0], VECTORS[rows], atol=1e-6)


@pytest.mark.parametrize("case", cases.CASES["codec"])
def test_stored_bytes_are_the_goldens(case):
    """Codes, packed residuals and spreads are those of golden/codec exactly, scales to a unit, vectors to float16."""
    golden = files.read("codec", case)
    held, tolerance = golden.arrays, golden.about["tolerance"]
    starts = np.array([0, len(held["centroids"])])
    fitted = codec.Codec(held["centroids"], held["centroids"][:1], starts, held["steps"], int(case[0]))
    encoded = fitted.encode(held["vectors"])
    for name in ("codes", "residuals", "spreads"):
        assert getattr(encoded, name).tobytes() == held[name].tobytes()
    assert np.abs(encoded.scales.astype(float) - held["scales"]).max() <= tolerance["scales"]
    assert np.abs(fitted.decode(encoded) - held["decoded"]).max() <= tolerance["decoded"]

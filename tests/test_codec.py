"""Residual codec: packing, buckets, error bounds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import topical, unit

from refcolbert import codec, definition
from refcolbert.errors import InvalidInput

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
    """Codes, buckets, scales and decoded vectors are those of the plain loops, for vectors of any norm."""
    fitted = CODECS[nbits]
    vectors = np.concatenate([VECTORS[:40], 7 * VECTORS[40:45], np.zeros((1, 12), np.float32)])
    encoded = fitted.encode(vectors)
    decoded = fitted.decode(encoded)
    buckets = codec.unpack(encoded.residuals, 12, nbits)
    exact = codec.kmeans.assign(vectors / np.maximum(np.linalg.norm(vectors, axis=1), 1e-9)[:, None], fitted._cells, 99)
    agree = 0
    for i, x in enumerate(vectors.tolist()):
        code, expected, scale = definition.encode(x, fitted.centroids, fitted.cutoffs, fitted.weights)
        y = definition.decode(
            int(encoded.codes[i]), buckets[i].tolist(), float(encoded.scales[i]), fitted.centroids, fitted.weights
        )
        assert np.abs(np.array(y) - decoded[i]).max() <= 1e-5 * max(1, np.linalg.norm(vectors[i]))
        if encoded.codes[i] == code:
            agree += 1
            near_cutoff = (
                np.abs(
                    vectors[i][:, None] / max(np.linalg.norm(vectors[i]), 1e-9)
                    - fitted.centroids[code][:, None]
                    - fitted.cutoffs
                ).min(1)
                < 1e-6
            )
            assert (buckets[i] == np.array(expected))[~near_cutoff].all()
            assert float(encoded.scales[i]) == pytest.approx(scale, rel=2e-3)
    assert agree >= 0.9 * len(vectors)
    assert exact[0] == definition.nearest(vectors[0].tolist(), fitted.centroids)


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_decoded_vectors_keep_their_norm(nbits):
    """A decoded vector has the original's norm to float16 rounding; zero stays zero."""
    vectors = np.concatenate([VECTORS[:50], 3 * VECTORS[50:100], np.zeros((2, 12), np.float32)])
    decoded = CODECS[nbits].decode(CODECS[nbits].encode(vectors))
    norms, found = np.linalg.norm(vectors, axis=1), np.linalg.norm(decoded, axis=1)
    assert np.abs(found - norms).max() <= 3 * 2.0**-11 + 1e-6
    assert (found[-2:] == 0).all()


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_error_is_bounded_inside_the_fitted_range(nbits):
    """Each component is off by no more than its bucket is wide (23)."""
    fitted = CODECS[nbits]
    encoded = fitted.encode(VECTORS)
    residuals = VECTORS - fitted.centroids[encoded.codes]
    edges = np.concatenate([[residuals.min()], fitted.cutoffs, [residuals.max()]])
    widest = np.maximum(edges[1:] - fitted.weights, fitted.weights - edges[:-1])  # [2^nbits]
    buckets = codec.unpack(encoded.residuals, 12, nbits)
    error = np.abs(residuals - fitted.weights[buckets])
    assert (error <= widest[buckets] + 1e-6).all()
    per_vector = np.sqrt((widest[buckets] ** 2).sum(axis=1))
    decoded = fitted.decode(encoded)
    assert (np.linalg.norm(VECTORS - decoded, axis=1) <= 2 * per_vector + 2e-3).all()


def test_more_bits_are_more_exact():
    """The mean squared error falls with every doubling of nbits (24)."""
    errors = [float(((VECTORS - c.decode(c.encode(VECTORS))) ** 2).mean()) for c in CODECS.values()]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-4


@pytest.mark.parametrize("nbits", codec.NBITS)
def test_buckets_are_monotone_and_weights_lie_in_theirs(nbits):
    """Cutoffs and weights ascend and each weight falls into its own bucket (21, 22)."""
    fitted = CODECS[nbits]
    assert (np.diff(fitted.cutoffs) >= 0).all()
    assert (np.diff(fitted.weights) >= 0).all()
    assert [definition.bucket(w, fitted.cutoffs.tolist()) for w in fitted.weights.tolist()] == list(range(2**nbits))
    assert fitted.nbits == nbits


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


def test_codes_take_the_smallest_dtype():
    """Up to 65,536 centroids a code is two bytes."""
    assert codec.code_dtype(65536) == np.uint16
    assert codec.code_dtype(65537) == np.uint32

"""Faults in clustering and compression."""

import numpy as np

from ..complete import encode_many, similarities
from ..oracle import definition
from .faults import fault


@fault("20", "pack")
def residual_bits_reversed(buckets, nbits):
    """The bits of each bucket are reversed, as np.unpackbits would give them."""
    return definition.pack([int(f"{int(b):0{nbits}b}"[::-1], 2) for b in buckets], nbits)


@fault("20", "pack")
def first_bucket_in_the_high_bits(buckets, nbits):
    """Bits are counted from the high bit of each byte."""
    packed = definition.pack(buckets, nbits)
    return bytes(int("".join(f"{byte:08b}"[i : i + nbits] for i in range(8 - nbits, -1, -nbits)), 2) for byte in packed)


@fault("20", "unpack")
def tail_of_a_byte_lost(packed, dim, nbits):
    """The components in an incomplete last byte come back as 0."""
    whole = (
        len(packed) * 8 // nbits // (8 // nbits) * (8 // nbits)
        if dim % (8 // nbits) == 0
        else dim // (8 // nbits) * (8 // nbits)
    )
    return definition.unpack(packed, dim, nbits)[:whole] + [0] * (dim - whole)


@fault("21", "bucket")
def bucket_rounded(value, step, nbits):
    """Rounded instead of floored: the borders are off by half a bucket."""
    return min(max(round(value / step + 2 ** (nbits - 1)) if step else 2 ** (nbits - 1), 0), 2**nbits - 1)


@fault("21", "bucket")
def bucket_wraps_around(value, step, nbits):
    """Overflow: a value above the last bucket goes to the first bucket."""
    return int(value // step + 2 ** (nbits - 1)) % 2**nbits if step else 2 ** (nbits - 1)


@fault("22", "weight")
def weight_at_the_upper_border(number, step, nbits):
    """A bucket decodes to its upper border, which belongs to the next bucket."""
    return step * (number + 1 - 2 ** (nbits - 1))


@fault("23", "encode")
def norm_forgotten(x, centroids, steps, nbits):
    """All decoded vectors are unit vectors."""
    code, buckets, scale, number = definition.encode(x, centroids, steps, nbits)
    length = definition.norm(x)
    return code, buckets, scale / length if length else 0.0, number


@fault("23", "encode")
def farthest_centroid(x, centroids, steps, nbits):
    """argmin instead of argmax."""
    order = list(reversed(range(len(centroids))))
    code = min(order, key=lambda c: definition.dot(x, centroids[c]))
    _, buckets, scale, number = definition.encode(x, [centroids[code]], steps, nbits)
    return code, buckets, scale, number


@fault("23", "decode")
def residual_added_twice(code, buckets, scale, number, centroids, steps, nbits):
    """The vector is scale (centroid + 2 residual)."""
    return definition.decode(code, buckets, scale, number, centroids, [2 * step for step in steps], nbits)


@fault("23", "encode")
def scale_overflows(x, centroids, steps, nbits):
    """If a residual nearly cancels its centroid, the scale becomes infinity in float16."""
    code, buckets, scale, number = definition.encode(x, centroids, steps, nbits)
    return code, buckets, scale if scale < 65504 else float("inf"), number


@fault("50", "similarities")
def middle_forgotten(q, codes, buckets, scales, numbers, centroids, steps, nbits):
    """Weights are counted from bucket 0, not from the middle."""
    lifted = [[b + (2**nbits - 1) / 2 for b in row] for row in buckets]
    return similarities(q, codes, lifted, scales, numbers, centroids, steps, nbits)


@fault("51", "encode_many")
def spread_of_the_batch(vectors, centroids, steps, nbits):
    """All rows of a batch get the spread of the last row."""
    last = definition.encode(vectors[-1], centroids, steps, nbits)[3]
    return [(*encoded[:3], last) for encoded in encode_many(vectors, centroids, steps, nbits)]


@fault("51", "encode_many")
def summed_otherwise_in_a_batch(vectors, centroids, steps, nbits):
    """float32 sums run in the other direction if the batch has more than one row."""
    encoded = []
    for x in vectors:
        products = np.asarray(centroids, np.float32) * np.asarray(x, np.float32)
        ordered = products if len(vectors) == 1 else products[:, ::-1]
        code = int(np.cumsum(ordered, axis=1, dtype=np.float32)[:, -1].argmax())
        _, *stored = definition.encode(x, [centroids[code]], steps, nbits)
        encoded.append((code, *stored))
    return encoded


@fault("24", "fit")
def steps_for_one_bit(vectors, n_centroids, nbits, seed):
    """Buckets are as wide as for one bit, whatever `nbits` is."""
    return definition.fit(vectors, n_centroids, 1, seed)


@fault("25", "assign")
def ties_to_the_last_centroid(vectors, centroids):
    """Of equal centroids the last one is taken."""
    backwards = definition.assign(vectors, centroids[::-1])
    return [len(centroids) - 1 - c for c in backwards]


@fault("25", "assign")
def low_centroids_preferred(vectors, centroids):
    """Lower centroid numbers get a bonus."""
    similar = np.asarray(vectors, np.float64) @ np.asarray(centroids, np.float64).T
    return (similar - 0.2 * np.arange(len(centroids))).argmax(axis=1)


@fault("30", "kmeans")
def centroids_not_normalized(vectors, n_centroids, iterations, seed):
    """Centroids are means, not unit vectors."""
    return [[0.5 * v for v in centroid] for centroid in definition.kmeans(vectors, n_centroids, iterations, seed)]


@fault("30", "kmeans")
def global_random_state(vectors, n_centroids, iterations, seed):
    """The start depends on a global random state, not on the seed."""
    return definition.kmeans(vectors, n_centroids, iterations, int(np.random.default_rng().integers(2**31)))


@fault("30", "kmeans")
def centroids_drawn_anew(vectors, n_centroids, iterations, seed):
    """Every iteration starts again from other vectors."""
    return definition.kmeans(vectors, n_centroids, 0, seed + iterations)

"""What a token becomes in an index, by the definition's loops: python -m tools.goldens.codec OUT.

Centroids and steps lie on a grid, and vectors too near to a border between two codes, spreads or buckets are drawn
again: float32 and float64 must agree on every bit that is stored.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refcolbert import definition

from .record import write

SEED, DIM, N_CENTROIDS, N = 5, 20, 8, 24
MARGIN = 1e-4


def main() -> None:
    """One case for each number of bits."""
    out = Path(sys.argv[1])
    for nbits in (1, 2, 4, 8):
        rng = np.random.default_rng([SEED, nbits])
        centroids = np.sign(rng.standard_normal((N_CENTROIDS, DIM))) / 4  # [n_centroids, dim]
        centroids[:, DIM - 4 :] = 0  # sixteen quarters: unit rows
        steps = np.ldexp(rng.integers(4, 8, DIM) / 8, 1 - nbits)  # [dim]
        vectors = [_clear(rng, centroids, steps, nbits) for _ in range(N)]
        encoded = [definition.encode(x.tolist(), centroids.tolist(), steps.tolist(), nbits) for x in vectors]
        decoded = [definition.decode(*kept, centroids.tolist(), steps.tolist(), nbits) for kept in encoded]
        packed = [np.frombuffer(definition.pack(kept[1], nbits), np.uint8) for kept in encoded]
        arrays: dict[str, NDArray[Any]] = {
            "centroids": centroids.astype(np.float32),
            "steps": steps.astype(np.float32),
            "vectors": np.array(vectors, np.float32),
            "codes": np.array([kept[0] for kept in encoded], np.uint16),
            "residuals": np.array(packed),
            "scales": np.array([kept[2] for kept in encoded], np.float16),
            "spreads": np.array([kept[3] for kept in encoded], np.uint8),
            "decoded": np.array(decoded),
        }
        write(
            out,
            "codec",
            f"{nbits}bits",
            arrays,
            source="refcolbert/definition.py, float64 loops that share nothing with codec.py",
            tools=["tools/goldens/codec.py", "refcolbert/definition.py"],
            packages=["numpy"],
            seed=SEED,
            # scales are float16: a float32 quotient may round to the neighbour
            tolerance=dict.fromkeys(arrays, 0.0) | {"scales": 2.0**-10, "decoded": 2.0**-9},
        )


def _clear(
    rng: np.random.Generator, centroids: NDArray[np.float64], steps: NDArray[np.float64], nbits: int
) -> NDArray[np.float32]:
    """[dim] a vector whose code, spread and buckets are not in doubt."""
    while True:
        x: NDArray[np.float32] = (centroids[rng.integers(N_CENTROIDS)] + 0.12 * rng.standard_normal(DIM)).astype(
            np.float32
        )
        unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64))
        similar = np.sort(centroids @ unit)
        residual = unit - centroids[int(np.argmax(centroids @ unit))]
        level = (0.5 - np.log2(np.linalg.norm(residual))) * 32
        spread = 2.0 ** (0.5 - round(level) / 32)
        places = residual / (spread * steps) + 2 ** (nbits - 1)
        doubts = np.abs(places - np.rint(places)).min(), abs(level % 1 - 0.5), similar[-1] - similar[-2]
        if min(doubts) > MARGIN:
            return x


if __name__ == "__main__":
    main()

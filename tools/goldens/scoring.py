"""MaxSim of the same vectors by one engine, where it is: python -m tools.goldens.scoring OUT ADAPTER PACKAGE."""

import importlib
import itertools
import sys
from pathlib import Path

import numpy as np

from .record import write

SEED, N_Q, DIM, N_DOCS = 11, 12, 48, 16


def main() -> None:
    """Unit vectors; the last four documents have negative similarities alone."""
    out, adapter, package = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    rng = np.random.default_rng(SEED)
    lengths = rng.integers(1, 12, N_DOCS)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    q, vectors = rng.standard_normal((N_Q, DIM)), rng.standard_normal((int(offsets[-1]), DIM))
    q[:, 0] = np.abs(q[:, 0]) + 9
    vectors[offsets[-5] :, 0] -= 9  # far from every query token
    unit = [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (q, vectors)]
    engine = importlib.import_module(f"tools.conformance.{adapter}")
    scores = [engine.maxsim(unit[0], unit[1][a:b]) for a, b in itertools.pairwise(offsets)]
    rounding = (DIM + N_Q) * 2.0**-24
    write(
        out,
        "scoring",
        package,
        {"q": unit[0], "vectors": unit[1], "offsets": offsets, "scores": np.array(scores, np.float64)},
        source=f"{package}, one document at a time",
        tools=["tools/goldens/scoring.py", f"tools/conformance/{adapter}.py"],
        packages=[package, "torch", "numpy"],
        seed=SEED,
        # n_q g(dim + n_q) for unit vectors: float32 products, and a float32 sum over query tokens
        tolerance={"q": 0.0, "vectors": 0.0, "offsets": 0.0, "scores": N_Q * rounding / (1 - rounding) * 1.000001},
    )


if __name__ == "__main__":
    main()

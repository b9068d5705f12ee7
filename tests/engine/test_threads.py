"""Products that BLAS does not divide among its threads."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refcolbert.engine.threads import multiply

# Prints how often other threads of the process ran while it searched. BLAS has two threads.
SEARCH = """
import os, sys, time
from pathlib import Path
import numpy as np
from refcolbert import Index

def switches():
    return {
        task.name: [line for line in (task / "status").read_text().splitlines() if "ctxt_switches" in line]
        for task in Path("/proc/self/task").iterdir() if task.name != str(os.getpid())
    }

rng = np.random.default_rng(0)
documents = rng.standard_normal((200, 30, 128), np.float32)
q = rng.standard_normal((int(sys.argv[2]), 128), np.float32)
index = Index.create(sys.argv[1], dim=128, nbits=4, train_at=1)
index.add([{"id": str(i)} for i in range(200)], vectors=list(documents))
before = None
while before != switches():  # after a product, BLAS's threads take a moment to fall asleep
    before = switches()
    time.sleep(0.3)
for options in ({"candidates": 50}, {"exact": True}):
    index.search(q, 5, **options)
print(len(before), switches() == before)
"""


@pytest.mark.parametrize(
    ("n", "dim", "n_q"), [(1, 128, 32), (64, 128, 32), (65, 128, 32), (500, 48, 7), (300, 128, 1), (9, 64, 2000)]
)
def test_a_product_in_blocks_is_the_product(n, dim, n_q):
    """Blocks of rows give the matrix product, whatever is left for the last block."""
    rng = np.random.default_rng(n)
    rows, columns = rng.standard_normal((n, dim), np.float32), rng.standard_normal((dim, n_q), np.float32)
    exact = rows.astype(np.float64) @ columns.astype(np.float64)
    np.testing.assert_allclose(multiply(rows, columns), exact, rtol=0, atol=dim * 2.0**-24 * 32)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux does")
@pytest.mark.parametrize("n_q", [1, 32])
def test_a_search_wakes_no_thread_of_blas(tmp_path, n_q):
    """A search runs in the calling thread alone when BLAS has two threads."""
    command = [sys.executable, "-c", SEARCH, str(tmp_path / "i"), str(n_q)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    n_others, undisturbed = done.stdout.split()  # Python may have threads besides those of BLAS
    assert int(n_others) >= 1
    assert undisturbed == "True"

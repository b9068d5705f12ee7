"""No operation holds the whole index in memory: a child with little room for data of its own does each of them."""

import subprocess
import sys

import pytest

ROOM = 40 << 20
CHILD = """
import resource, sys
import numpy as np
from refcolbert import Index

def used():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmData"))) << 10

def records(first):
    rng = np.random.default_rng(first)
    names = [f"{first + i}-{'x' * 500}" for i in range(100)]
    return [{"id": n, "text": rng.bytes(30_000).hex(), "metadata": {"n": 1}} for n in names]

vectors = [np.random.default_rng(i).standard_normal((40, 64)) for i in range(100)]
index = Index.create(sys.argv[1], dim=64, nbits="float32")
index.add([{"id": "first"}], vectors=vectors[:1])
index.compact()
room = used() + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (room, room))
for first in range(0, 2_000, 100):
    index.add(records(first), vectors=vectors)
index.delete(index.ids()[:7])
index.compact()
index.check()
index.snapshot(sys.argv[1] + "-copy")
print(index.info()["bytes"], index.info()["segments"], len(index))
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux limits the memory of a process without its mapped files"
)
def test_merging_checking_and_copying_take_less_memory_than_the_index(scratch):
    """An index of over 120 MiB is made, compacted, checked and copied by a process that may allocate 40 MiB."""
    arguments = [sys.executable, "-c", CHILD, str(scratch), str(ROOM)]
    found = subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=300)
    size, n_segments, n_docs = map(int, found.stdout.split())
    assert size > 3 * ROOM
    assert (n_segments, n_docs) == (1, 1994)

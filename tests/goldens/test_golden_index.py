"""Indexes of every released format version, opened forever (tools/goldens/index.py makes one for each version)."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from refcolbert import Index
from refcolbert.storage.format import FORMAT_VERSION
from tools.goldens.index import DIM, INDEXES, answers, grid

FOLDERS = sorted(p.parent for p in INDEXES.glob("v*/*/manifest.json"))


def test_every_version_has_its_index():
    """A new format version comes with an index of its own."""
    assert {p.parent.name for p in FOLDERS} == {f"v{n}" for n in range(1, FORMAT_VERSION + 1)}


@pytest.mark.parametrize("path", FOLDERS, ids=lambda p: "-".join(p.parts[-2:]))
def test_an_index_of_a_released_version_answers_as_it_did(path):
    """Every byte verifies; ids, order, texts and metadata are those of then, scores to the rounding of a sum."""
    index = Index.open(path, verify="full")
    expected = json.loads(path.with_suffix(".json").read_text())
    found = answers(index)
    assert (found["ids"], found["metadata"]) == (expected["ids"], expected["metadata"])
    assert found.keys() == expected.keys()
    for name in found.keys() & {"hits", "even", "words"}:
        assert [[h[0], *h[2:]] for h in found[name]] == [[h[0], *h[2:]] for h in expected[name]]
        assert [h[1] for h in found[name]] == pytest.approx([h[1] for h in expected[name]], rel=1e-12)
    assert index.check()["documents"] == 18


@pytest.mark.parametrize("path", FOLDERS, ids=lambda p: "-".join(p.parts[-2:]))
def test_an_index_of_a_released_version_can_be_written(path, tmp_path):
    """A copy takes new documents and compaction, and everything else stays in it."""
    shutil.copytree(path, tmp_path / "i")
    index = Index.open(tmp_path / "i")
    before = index.ids()
    index.add([{"id": "new"}], vectors=[grid(200, 2)])
    index.compact(refit=True)
    assert index.ids() == [*before, "new"]
    assert index.info()["dim"] == DIM
    index.check()


SEARCH = """
import sys
import numpy as np
from refcolbert import Index
index = Index.open(sys.argv[1])
for q in np.random.default_rng(0).standard_normal((20, 7, index.info()["dim"])).astype(np.float32):
    print([(hit.id, hit.score.hex()) for hit in index.search(q, 10)])
"""


@pytest.mark.parametrize("path", FOLDERS, ids=lambda p: "-".join(p.parts[-2:]))
def test_scores_are_the_same_bits_whatever_multiplies(path):
    """OpenBLAS's kernels for old and new processors add in other orders; hits and the bits of scores are the same."""
    found = []
    for kernel in ("Prescott", "Nehalem", ""):
        wanted = os.environ | ({"OPENBLAS_CORETYPE": kernel} if kernel else {})
        done = subprocess.run([sys.executable, "-c", SEARCH, path], env=wanted, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
    assert found[0].count("0x") == 200
    assert found == found[:1] * 3


def test_reading_changes_nothing():
    """The committed folders hold what a snapshot writes, without a lock file."""
    for path in FOLDERS:
        assert {p.name for p in path.iterdir()} == {"manifest.json", "data"}
    assert sum(p.stat().st_size for p in INDEXES.rglob("*") if p.is_file()) < 140_000 * FORMAT_VERSION

"""The goldens as a whole: nothing orphaned, nothing missing, all of known origin; the ranking of texts, end to end."""

import json

import numpy as np
import pytest

from refcolbert import Index
from tools.goldens import cases, files

GOLDEN = files.GOLDEN


def test_goldens_are_as_they_were_made():
    """Files, checksums, provenance and tolerances are complete; `python -m tools.goldens check` says the same."""
    assert files.faults(cases.CASES) == [], 'meant so? python -m tools.goldens manifest --reason "..."'


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """Goldens of one suite alone, in a folder where they can be damaged."""
    monkeypatch.setattr(files, "GOLDEN", tmp_path)
    monkeypatch.setattr(files, "MANIFEST", tmp_path / "MANIFEST.json")
    (tmp_path / "losses").mkdir()
    for name in cases.LOSSES:
        for suffix in (".json", ".npz"):
            content = (GOLDEN / "losses" / f"{name}{suffix}").read_bytes()
            (tmp_path / "losses" / f"{name}{suffix}").write_bytes(content)
    files.write_manifest("a copy")
    return tmp_path


def test_what_is_wrong_is_found(copied):
    """A changed, an orphaned, a missing file, and provenance with a gap are each named."""
    suites = {"losses": cases.LOSSES}
    assert files.faults(suites) == []
    path = copied / "losses" / "n_way.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in about.items() if key != "seed"}))
    (copied / "losses" / "stray.json").write_text("{}")
    (copied / "losses" / "in_batch.npz").rename(copied / "losses" / "stray.npz")
    (copied / "losses" / "in_batch.json").unlink()
    found = "\n".join(files.faults(suites))
    for expected in (
        "n_way.json: changed",
        "losses/n_way: says nothing of seed",
        "stray.npz: not in MANIFEST",
        "in_batch.npz: missing",
        "losses/stray: no command makes it",
        "losses/in_batch: missing",
    ):
        assert expected in found


def test_what_is_wrong_with_checkpoints_is_found(copied):
    """A checkpoint that no command makes, one that is missing, a folder of unknown origin are named."""
    (copied / "encode" / "stray").mkdir(parents=True)
    (copied / "encode" / "stray" / "expected.json").write_text("{}")
    (copied / "encode" / "pylate.json").write_text(json.dumps(dict.fromkeys(files.KEYS - {"seed"})))
    found = "\n".join(files.tree_faults(["wanted"]))
    for expected in (
        "encode/stray: no command makes it",
        "encode/wanted: missing",
        "encode/pylate.json: says nothing of seed",
        "index/provenance.json: missing",
    ):
        assert expected in found


def test_differences_name_numbers_units_and_ranks():
    """A changed array is described by max-abs and ULP, a changed order by its ranks, equal ones not at all."""
    old = files.Golden("s", "c", {"x": np.float32([1, 2]), "order": np.arange(3), "same": np.ones(2)}, {})
    new = files.Golden("s", "c", {"x": np.float32([1, 2.5]), "order": np.array([1, 0, 2]), "same": np.ones(2)}, {})
    first, second = files.differences(old, new)
    assert "max-abs 0.5" in first
    assert "ULP" in first
    assert "2 of 3 ranks changed" in second
    assert files.differences(old, old) == []


def test_texts_are_ranked_as_colbert_ai_ranks_them(encoder, tmp_path):
    """40 docstrings added as texts and 12 questions asked as texts give colbert-ai's scores and first ten."""
    held = files.read("rankings", "docstrings")
    bound = held.about["tolerance"]["scores"]
    index = Index.create(tmp_path / "i", encoder, nbits="float32")
    names = index.add([str(text) for text in held.arrays["documents"]])
    rows = list(zip(held.arrays["queries"], held.arrays["scores"], held.arrays["order"], strict=True))
    for question, scores, order in rows:
        hits = index.search(str(question), 10)
        assert [hit.score for hit in hits] == pytest.approx(scores[order[:10]].tolist(), abs=2 * bound)
        assert all(abs(hit.score - scores[names.index(hit.id)]) <= bound for hit in hits)
    firsts = [index.search(str(question), 1)[0].id == names[order[0]] for question, _, order in rows]
    assert sum(firsts) >= 0.9 * len(firsts)  # ties within the bound may fall either way


def test_the_vectors_are_colbert_ais(encoder):
    """The tiny model's ONNX vectors of the docstrings are those that colbert-ai computed with torch, to 1e-5."""
    held = files.read("rankings", "docstrings").arrays
    found = encoder.encode_documents([str(text) for text in held["documents"]])
    assert found.lengths.tolist() == held["lengths"].tolist()
    assert np.abs(found.vectors - held["vectors"]).max() <= 1e-5
    queries = encoder.encode_queries([str(text) for text in held["queries"]])
    assert np.abs(np.array(queries) - held["query_vectors"]).max() <= 1e-5

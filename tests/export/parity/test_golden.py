"""Checkpoints that the originals made give the originals' ids and vectors after our export.

golden/encode holds, for each case, a checkpoint saved by colbert-ai, PyLate or Sentence-Transformers and what that
package answered; `tools.goldens` writes it.
"""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from refcolbert.encoding.encoder import Encoder
from refcolbert_export.conversion.colbert import export_checkpoint
from tools.goldens import __main__ as command
from tools.goldens import files

GOLDEN = Path(__file__).parents[3] / "golden" / "encode"
CASES = sorted(path.name for path in GOLDEN.iterdir() if (path / "expected.json").is_file())


@pytest.mark.parametrize("case", CASES)
def test_the_export_equals_the_original(case, tmp_path):
    """Ids, attention and kept rows are equal and vectors within 1e-5 when the original's checkpoint is exported."""
    export_checkpoint(GOLDEN / case / "checkpoint", tmp_path / "out")
    encoder = Encoder.load(tmp_path / "out")
    expected = json.loads((GOLDEN / case / "expected.json").read_text())
    vectors = np.load(GOLDEN / case / "expected.npz")
    sides = {
        "query": (encoder.tokenizer.queries, encoder.encode_queries),
        "document": (encoder.tokenizer.documents, encoder.encode_documents),
    }
    for side, (tokenize, encode) in sides.items():
        for i, (text, tokens) in enumerate(zip(expected["texts"][side], expected["tokens"][side], strict=True)):
            (ours,) = tokenize([text])
            assert ours.ids.tolist() == tokens["ids"], (side, text)
            assert ours.attention.astype(int).tolist() == tokens["attention"], (side, text)
            assert np.flatnonzero(ours.keep).tolist() == tokens["kept"], (side, text)
            if tokens["kept"]:
                np.testing.assert_allclose(next(iter(encode([text]))), vectors[f"{side}_{i}"], atol=1e-5, rtol=0)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """One golden in a folder of its own, and an original that answers it with vectors a little off."""
    monkeypatch.setattr(files, "GOLDEN", tmp_path)
    monkeypatch.setattr(files, "MANIFEST", tmp_path / "MANIFEST.json")
    shutil.copytree(GOLDEN / "pylate-bert", tmp_path / "encode" / "pylate-bert")
    files.write_manifest("a copy")

    def run(name, python, out, only):
        shutil.copytree(GOLDEN / "pylate-bert", out / "pylate-bert")
        with np.load(GOLDEN / "pylate-bert" / "expected.npz") as held:
            vectors = {key: rows + np.float32(only == "off") for key, rows in held.items()}
        np.savez_compressed(out / "pylate-bert" / "expected.npz", **vectors)

    monkeypatch.setattr(command, "run_original", run)
    return tmp_path


def test_an_original_that_answers_alike_changes_nothing(copied):
    """Running it again leaves files, provenance and manifest as they are."""
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    assert command.encode("pylate", Path(sys.executable), "again") == []
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


def test_an_original_that_answers_otherwise_is_shown_and_kept(copied):
    """Each array that changes has a line with max-abs and ULP; files, provenance and manifest are the new ones."""
    lines = command.encode("pylate", Path(sys.executable), "a new release", "off")
    assert len(lines) == 16
    assert all("max-abs 1," in line and "ULP" in line for line in lines)
    about = json.loads((copied / "encode" / "pylate.json").read_text())
    assert set(about) >= files.KEYS
    assert (about["reason"], about["versions"]["pylate"]) == ("a new release", "1.6.0")
    assert files.faults({}) == []
    with np.load(copied / "encode" / "pylate-bert" / "expected.npz") as new:
        assert np.abs(new["query_0"]).max() > 1


def test_the_command_line_checks_and_refuses(monkeypatch, capsys):
    """`check` finds the committed goldens whole; without a reason, or with a blank one, nothing is made again."""
    for line, code, said in (
        ("check", 0, "as they were made"),
        ("regen", 2, "--reason"),
        ("regen --reason ", 2, "a reason is needed"),
        ("regen --suite nowhere --reason x", 2, "invalid choice"),
        ("encode pylate python", 2, "--reason"),
    ):
        monkeypatch.setattr(sys, "argv", ["golden", *line.split(" ")])
        with pytest.raises(SystemExit) as end:
            command.main()
        found = "".join(capsys.readouterr())
        assert (end.value.code, said in found) == (code, True), (line, found)


def test_a_run_that_changed_goldens_fails(copied, monkeypatch, capsys):
    """The exit code is 1, and what changed is on stdout."""
    monkeypatch.setattr(sys, "argv", ["golden", "encode", "pylate", sys.executable, "--only", "off", "--reason", "so"])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 1
    assert "encode/pylate-bert query_0: max-abs 1," in capsys.readouterr().out

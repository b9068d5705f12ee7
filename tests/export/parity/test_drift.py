"""What both paths of the parity check share is compared with the checkpoint's own files and its author's vectors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from refcolbert.errors import InvalidInput, ParityError
from refcolbert_export.cli import export
from refcolbert_export.conversion.colbert import export_checkpoint

GOLDEN = Path(__file__).parents[3] / "golden" / "encode" / "stanford-bert"
SIDES = ("query", "document")


@pytest.fixture
def stored():
    """The golden's vectors as an author would store them, by the names of `--expected`."""
    texts = json.loads((GOLDEN / "expected.json").read_text())["texts"]
    with np.load(GOLDEN / "expected.npz") as rows:
        return {**{f"{side}_texts": np.array(texts[side]) for side in SIDES}, **rows}


def _file(tmp_path, arrays):
    np.savez(tmp_path / "author.npz", **arrays)
    return tmp_path / "author.npz"


def test_a_tokenizer_class_that_differs_from_its_file_is_noted(tmp_path, caplog):
    """Log, report and card name the texts and both releases when the class gives other ids than tokenizer.json."""
    own = shutil.copytree(GOLDEN / "checkpoint", tmp_path / "own")
    settings = json.loads((own / "tokenizer_config.json").read_text())
    (own / "tokenizer_config.json").write_text(json.dumps({**settings, "do_lower_case": False}))
    report = export_checkpoint(own, tmp_path / "out")
    assert "mixed case" in report["tokenizer_drift"]
    assert "plain" not in report["tokenizer_drift"]
    for text in (caplog.text, (tmp_path / "out" / "README.md").read_text()):
        assert "gives other ids than the checkpoint's tokenizer.json" in text
        assert f"saved with transformers {report['saved_with']}" in text


def test_the_report_names_both_releases(tmp_path):
    """The card says which release saved the checkpoint and which one exported it."""
    report = export_checkpoint(GOLDEN / "checkpoint", tmp_path / "out")
    assert report["tokenizer_drift"] == []
    assert (
        report["saved_with"] == json.loads((GOLDEN / "checkpoint" / "config.json").read_text())["transformers_version"]
    )
    versions = f"| transformers | saved with {report['saved_with']}, exported with {report['transformers']} |"
    assert versions in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_authors_vectors_are_compared(tmp_path, stored, dtype):
    """The report and the card have the difference when stored vectors agree up to their own rounding."""
    arrays = {key: a.astype(dtype) if a.dtype == np.float32 else a for key, a in stored.items()}
    arguments = [
        str(GOLDEN / "checkpoint"),
        str(tmp_path / "out"),
        "--expected",
        str(_file(tmp_path, arrays)),
        "--json",
    ]
    report = json.loads(CliRunner().invoke(export, arguments, catch_exceptions=False).stdout)
    assert (report["expected"]["file"], report["expected"]["texts"]) == ("author.npz", 16)
    assert report["expected"]["worst"]["max_abs"] < 1e-5 + np.finfo(dtype).eps / 2
    assert "author's vectors of 16 texts" in (tmp_path / "out" / "README.md").read_text()


def test_other_vectors_than_the_authors_are_refused(tmp_path, stored):
    """Nothing is written and the text is named when the author's vectors differ."""
    stored["document_3"][2] *= -1
    with pytest.raises(ParityError, match="document 'every query token scores"):
        export_checkpoint(GOLDEN / "checkpoint", tmp_path / "out", expected=_file(tmp_path, stored))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [{"extra": np.zeros(1)}, {"query_texts": np.array(["a"] * 99)}])
def test_a_file_of_another_form_is_refused(tmp_path, stored, change):
    """The message says what belongs into the file when it holds something else."""
    with pytest.raises(InvalidInput, match="texts"):
        export_checkpoint(GOLDEN / "checkpoint", tmp_path / "out", expected=_file(tmp_path, {**stored, **change}))

"""Checkpoints that bring their own Python code run it only where that is asked for."""

import pytest
from click.testing import CliRunner

from refcolbert.encoding.encoder import Encoder
from refcolbert.errors import UnsupportedCheckpoint
from refcolbert_export.cli import export, verify
from refcolbert_export.conversion.colbert import export_checkpoint
from tools.export_checks.custom_code import write_checkpoint


@pytest.fixture
def own(tmp_path):
    """A checkpoint with code that leaves a trace when it runs."""
    folder = write_checkpoint(tmp_path / "checkpoint")
    code = folder / "own_model.py"
    code.write_text(code.read_text() + f"\nopen({str(tmp_path / 'ran')!r}, 'w').close()\n")
    return folder


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """transformers copies such code into its cache; here into a folder of the test."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))


def test_code_is_refused_by_name_and_does_not_run(own, tmp_path):
    """The refusal names the classes and the option, and no code has run, when nothing was said about trust."""
    with pytest.raises(UnsupportedCheckpoint, match=r"own_model\.OwnModel.*--trust-remote-code"):
        export_checkpoint(own, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "ran").exists()


def test_trusted_code_is_exported(own, tmp_path):
    """The model folder needs neither torch nor the code when the checkpoint was exported with trust."""
    out = str(tmp_path / "out")
    done = CliRunner().invoke(export, [str(own), out, "--trust-remote-code"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "ran").exists()
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".onnx", ".json", ".md"}
    assert Encoder.load(out).encode_queries(["what color is amber urine"])[0].shape == (12, 8)
    against = [out, "--against", str(own), "--trust-remote-code"]
    assert "max-abs" in CliRunner().invoke(verify, against, catch_exceptions=False).output


def test_every_key_of_trusted_code_is_accounted_for(own, tmp_path):
    """Trust does not mean that unknown settings are passed over."""
    text = (own / "config.json").read_text()
    (own / "config.json").write_text(text.replace('"gain"', '"new_switch": 1, "gain"'))
    with pytest.raises(UnsupportedCheckpoint, match="new_switch"):
        export_checkpoint(own, tmp_path / "out", trust_remote_code=True)

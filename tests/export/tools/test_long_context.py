"""Long inputs: rotary positions and local attention far beyond the shapes that the exporter traced."""

from refcolbert.encoding.encoder import Encoder
from refcolbert_export.conversion.colbert import export_checkpoint
from tools.export_checks.long_context import write_checkpoint


def test_a_long_context_passes_the_gate(tmp_path):
    """A ModernBERT exports with its whole length when that is many windows of local attention."""
    checkpoint = write_checkpoint(tmp_path / "checkpoint", length=768, hidden=32, layers=4, heads=2)
    report = export_checkpoint(checkpoint, tmp_path / "out")
    assert report["shapes"][-1]["shape"] == [1, 768]
    assert report["worst"]["max_abs"] < 1e-5
    assert len(Encoder.load(tmp_path / "out").tokenizer.documents(["word " * 5000])[0].ids) == 768

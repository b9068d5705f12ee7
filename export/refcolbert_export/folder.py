"""A checkpoint becomes a model folder: written beside its place, proved equal, then renamed into it."""

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

from refcolbert.errors import ExportError

from .card import model_card
from .checkpoints import Checkpoint, layout_of, read_checkpoint
from .origins import reference_for
from .parity import REPORT, Tolerance, check_report, measure
from .to_onnx import to_onnx

__all__ = ["export_checkpoint", "verify_against"]


def export_checkpoint(checkpoint: Path, out: Path, *, trust_remote_code: bool = False) -> dict[str, Any]:
    """Write the model folder `out` and return the parity report.

    Raises `ExportError` when `out` exists, `UnsupportedCheckpoint`, and `ParityError` when the model differs from its
    checkpoint; then there is nothing at `out`.
    """
    if out.exists() or out.is_symlink():
        raise ExportError(f"there is already something at {out}; remove it or choose another place")
    out.parent.mkdir(parents=True, exist_ok=True)
    source = read_checkpoint(checkpoint, trust_remote_code)
    staged = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        staged.chmod(0o755)
        _write(source, staged)
        report = _prove(staged, checkpoint, source.layout, trust_remote_code)
        _save(staged / REPORT, json.dumps(report, indent=1) + "\n")
        _save(staged / "README.md", model_card(checkpoint.name, source, report))
        staged.rename(out)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return report


def verify_against(folder: Path, checkpoint: Path, *, trust_remote_code: bool = False) -> dict[str, Any]:
    """Compare an exported folder with a checkpoint anew. Raises `ParityError`."""
    return _prove(folder, checkpoint, layout_of(checkpoint).name, trust_remote_code)


def _write(source: Checkpoint, staged: Path) -> None:
    (staged / "model.onnx").write_bytes(to_onnx(source.model))
    _save(staged / "tokenizer.json", source.tokenizer_json)
    _save(staged / "encoding.json", source.spec.to_json())


def _prove(folder: Path, checkpoint: Path, layout: str, trust_remote_code: bool) -> dict[str, Any]:
    tolerance = Tolerance()
    report = measure(folder, reference_for(checkpoint, layout, trust_remote_code))
    check_report(report, tolerance)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"layout": layout, "variant": "float32", "tolerance": asdict(tolerance), **versions, **report}


def _save(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")

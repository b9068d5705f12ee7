"""A checkpoint becomes a model folder: written beside its place, proved equal, then renamed into it."""

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from onnx import ModelProto

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import ExportError, InvalidModel, ParityError, UnsupportedCheckpoint

from ..graph.gptq import samples
from ..graph.to_onnx import LARGEST_FILE, to_onnx, write_model
from ..graph.variants import VARIANTS
from ..layouts.checkpoints import layout_of, read_checkpoint
from ..layouts.overrides import Choices
from ..parity.origins import reference_for
from ..parity.report import REPORT, Origin, check_report, measure, read_report
from .card import model_card
from .next_plaid import LAYOUT as NEXT_PLAID
from .next_plaid import NextPlaidReference, is_next_plaid, read_next_plaid
from .speed import measure_speed

__all__ = ["export_checkpoint", "verify_against"]


NO_DIRECTION = (
    "the exported model cannot encode every text: {error}. A checkpoint whose head ends in an activation such as ReLU "
    "gives some tokens a vector of zeros, which has no direction and cannot be scored"
)


@dataclass(frozen=True, slots=True)
class Source:
    """What goes into a model folder, whatever it was read from."""

    layout: str
    spec: EncodingSpec
    tokenizer_json: str
    graph: ModelProto  # float32
    notes: tuple[str, ...]  # what the user must know of where it came from


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    variant: str = "float32",
    trust_remote_code: bool = False,
    choices: Choices | None = None,
) -> dict[str, Any]:
    """Write the model folder `out` and return the parity report. `variant` is a key of `VARIANTS`.

    `choices` are what is wanted otherwise than the checkpoint says: prompts, a longer query.

    Raises `ExportError` when `out` exists, `UnsupportedCheckpoint`, and `ParityError` when the model differs from its
    checkpoint; then there is nothing at `out`.
    """
    if variant not in VARIANTS:
        raise ExportError(f"expected one of the variants {', '.join(VARIANTS)}, found {variant!r}")
    if out.exists() or out.is_symlink():
        raise ExportError(f"there is already something at {out}; remove it or choose another place")
    out.parent.mkdir(parents=True, exist_ok=True)
    choices = choices or Choices()
    source = _read(checkpoint, trust_remote_code, choices)
    staged = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        staged.chmod(0o755)
        _write(source, staged, variant)
        report = _prove(staged, checkpoint, source.layout, trust_remote_code, variant, choices)
        report["speed"] = measure_speed(staged)
        _save(staged / REPORT, json.dumps(report, indent=1) + "\n")
        _save(staged / "README.md", model_card(checkpoint.name, source.spec, report, source.notes))
        staged.rename(out)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    return report


def verify_against(folder: Path, checkpoint: Path, *, trust_remote_code: bool = False) -> dict[str, Any]:
    """Compare an exported folder with a checkpoint anew. Raises `ParityError`."""
    report: dict[str, Any] = read_report(folder) if (folder / REPORT).is_file() else {"variant": "float32"}
    variant = report["variant"]
    if variant not in VARIANTS:
        raise ParityError(f"{REPORT} says variant {variant!r}; expected one of {', '.join(VARIANTS)}")
    choices = Choices(prompts=report.get("prompts", {}), query_length=report.get("query_length"))
    layout = NEXT_PLAID if is_next_plaid(checkpoint) else layout_of(checkpoint).name
    return _prove(folder, checkpoint, layout, trust_remote_code, variant, choices)


def _read(checkpoint: Path, trust_remote_code: bool, choices: Choices) -> Source:
    if is_next_plaid(checkpoint):
        if choices != Choices():
            raise UnsupportedCheckpoint("a next-plaid folder has no prompts, and its query length is its own")
        graph, spec, tokenizer_json, notes = read_next_plaid(checkpoint)
        return Source(NEXT_PLAID, spec, tokenizer_json, graph, notes)
    found = read_checkpoint(checkpoint, trust_remote_code, choices)
    return Source(found.layout, found.spec, found.tokenizer_json, to_onnx(found.model), ())


def _origin(checkpoint: Path, layout: str, trust_remote_code: bool, choices: Choices) -> Origin:
    if layout == NEXT_PLAID:
        return NextPlaidReference(checkpoint)
    return reference_for(checkpoint, layout, trust_remote_code, choices)


def _write(source: Source, staged: Path, variant: str) -> None:
    sample = samples(source.spec, source.tokenizer_json) if "int8" in variant else []
    write_model(VARIANTS[variant].make(source.graph, sample), staged, LARGEST_FILE)
    _save(staged / "tokenizer.json", source.tokenizer_json)
    _save(staged / "encoding.json", source.spec.to_json())


def _prove(
    folder: Path, checkpoint: Path, layout: str, trust_remote_code: bool, variant: str, choices: Choices
) -> dict[str, Any]:
    tolerance = VARIANTS[variant].tolerance
    try:
        report = measure(folder, _origin(checkpoint, layout, trust_remote_code, choices))
    except InvalidModel as error:
        raise ParityError(NO_DIRECTION.format(error=error)) from error
    check_report(report, tolerance)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    about = {"layout": layout, "variant": variant, **asdict(choices), "tolerance": asdict(tolerance)}
    return {**about, **versions, **report}


def _save(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")

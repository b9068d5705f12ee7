"""A ColBERT checkpoint becomes a model folder, which appears only after the parity check passed."""

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import ExportError, InvalidModel, ParityError, UnsupportedCheckpoint

from ..graph.gptq import samples
from ..graph.to_onnx import LARGEST_FILE, to_onnx, write_model
from ..graph.variants import VARIANTS
from ..hub import source_of
from ..layouts.backbones import keep_language
from ..layouts.checkpoints import layout_of, read_checkpoint
from ..layouts.overrides import Choices
from ..layouts.single_file import as_folder
from ..parity.drift import compare_expected, drift, drift_note
from ..parity.origins import reference_for
from ..parity.report import REPORT, check_report, measure, read_report
from ..replace_folder import new_folder
from ..tensors import Reading
from .card import model_card
from .next_plaid import LAYOUT as NEXT_PLAID
from .next_plaid import NextPlaidReference, Parts, is_next_plaid, read_next_plaid
from .speed import measure_speed

__all__ = ["export_checkpoint", "verify_against"]

log = logging.getLogger("refcolbert")

NO_DIRECTION = (
    "expected a model that encodes every text: {error}. A checkpoint whose head ends in an activation such as ReLU "
    "gives some tokens a vector of zeros, which cannot be scored; such a checkpoint cannot be exported"
)


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    variant: str = "float32",
    trust_remote_code: bool = False,
    choices: Choices | None = None,
    tokenizer: Path | None = None,
    expected: Path | None = None,
) -> dict[str, Any]:
    """Write the model folder `out` and return the parity report.

    variant            a key of `VARIANTS`: how weights are stored and products computed
    trust_remote_code  run Python code that the checkpoint contains
    choices            settings that replace the checkpoint's: prompts, a longer query
    tokenizer          folder with config.json and tokenizer, for a checkpoint that is a single .dnn file
    expected           vectors of the checkpoint's author, as `parity.drift.compare_expected` reads them

    Raises `ExportError` when `out` exists, `UnsupportedCheckpoint`, and `ParityError` when the model differs from its
    checkpoint. Then nothing is written at `out`.
    """
    if variant not in VARIANTS:
        raise ExportError(f"expected one of the variants {', '.join(VARIANTS)}, found {variant!r}")

    def write(folder: Path) -> dict[str, Any]:
        wanted = choices or Choices()
        with as_folder(checkpoint, tokenizer) as source:
            layout, spec, reading = _write(folder, source, trust_remote_code, wanted, variant)
            reading.warn(checkpoint.name)
            report = _compare(folder, source, layout, trust_remote_code, variant, wanted)
        if expected is not None:
            report["expected"] = compare_expected(folder, expected, VARIANTS[variant].tolerance)
        notes = [*reading.notes, *([drift_note(report)] if report["tokenizer_drift"] else ())]
        report |= {"unread_keys": reading.unread, "speed": measure_speed(folder), "source": source_of(checkpoint)}
        _save(folder / REPORT, json.dumps(report, indent=1) + "\n")
        _save(folder / "README.md", model_card(checkpoint.stem if tokenizer else checkpoint.name, spec, report, notes))
        return report

    return new_folder(out, write)


def verify_against(
    folder: Path, checkpoint: Path, *, trust_remote_code: bool = False, tokenizer: Path | None = None
) -> dict[str, Any]:
    """Compare an exported folder with a checkpoint and return the new report. Raises `ParityError`."""
    report: dict[str, Any] = read_report(folder) if (folder / REPORT).is_file() else {"variant": "float32"}
    variant = report["variant"]
    if variant not in VARIANTS:
        raise ParityError(f"expected one of the variants {', '.join(VARIANTS)} in {REPORT}, found {variant!r}")
    others = {key: report.get(key) for key in ("query_length", "document_length", "language")}
    choices = Choices(prompts=report.get("prompts", {}), **others)
    with as_folder(checkpoint, tokenizer) as source:
        layout = NEXT_PLAID if is_next_plaid(source) else layout_of(source).name
        return _compare(folder, source, layout, trust_remote_code, variant, choices)


def _write(
    folder: Path, checkpoint: Path, trust_remote_code: bool, choices: Choices, variant: str
) -> tuple[str, EncodingSpec, Reading]:
    """Write a model folder, and return layout, spec and what the readers collected. The graph's memory ends here."""
    layout, (graph, spec, tokenizer_json, reading) = _read(checkpoint, trust_remote_code, choices)
    sample = samples(spec, tokenizer_json) if "int8" in variant else []
    write_model(VARIANTS[variant].make(graph, sample), folder, LARGEST_FILE)
    _save(folder / "tokenizer.json", tokenizer_json)
    _save(folder / "encoding.json", spec.to_json())
    return layout, spec, reading


def _read(checkpoint: Path, trust_remote_code: bool, choices: Choices) -> tuple[str, Parts]:
    """The layout, and graph, spec, tokenizer.json and what the readers collected."""
    if is_next_plaid(checkpoint):
        if choices != Choices():
            raise UnsupportedCheckpoint(
                "expected no other prompts, lengths or language for a next-plaid folder, which has its own"
            )
        return NEXT_PLAID, read_next_plaid(checkpoint)
    read = read_checkpoint(checkpoint, trust_remote_code, choices)
    keep_language(read.model.backbone, choices.language)
    return read.layout, (to_onnx(read.model, release=True), read.spec, read.tokenizer_json, read.reading)


def _compare(
    folder: Path, checkpoint: Path, layout: str, trust_remote_code: bool, variant: str, choices: Choices
) -> dict[str, Any]:
    """The parity report of a model folder. Raises `ParityError` when it exceeds the variant's tolerance."""
    tolerance = VARIANTS[variant].tolerance
    try:
        if layout == NEXT_PLAID:
            report = {"tokenizer_drift": [], **measure(folder, NextPlaidReference(checkpoint))}
        else:
            reference = reference_for(checkpoint, layout, trust_remote_code, choices)
            report = {**drift(reference.folder, trust_remote_code), **measure(folder, reference)}
    except InvalidModel as error:
        raise ParityError(NO_DIRECTION.format(error=error)) from error
    check_report(report, tolerance)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    about = {"layout": layout, "variant": variant, **asdict(choices), "tolerance": asdict(tolerance)}
    report = {**about, **versions, **report}
    if report["tokenizer_drift"]:
        log.warning("%s: %s", checkpoint.name, drift_note(report))
    return report


def _save(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")

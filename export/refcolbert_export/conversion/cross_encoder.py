"""A cross-encoder checkpoint becomes a model folder, which appears only after the parity check passed."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn

from refcolbert.errors import ParityError

from ..cross_encoder import INPUTS, SETTINGS, CrossEncoder
from ..graph.to_onnx import trace
from ..hub import source_of
from ..layouts.tokenizers import plain_json
from ..parity.awkward_texts import FIXED
from ..parity.report import LIMIT, REPORT
from ..replace_folder import new_folder
from ..training.cross_encoder import CrossStart, pair_scores, read_cross_start

__all__ = ["export_cross_encoder"]

# Longer texts are left out: transformers' tokenizer keeps every way to cut both texts of a pair.
MAX_CHARACTERS = 4096


def export_cross_encoder(checkpoint: Path, out: Path) -> dict[str, Any]:
    """Write the folder `out` that `CrossEncoder.load` reads, and return the parity report.

    Raises `ExportError` when `out` exists, `UnsupportedCheckpoint`, and `ParityError` when the scores differ from
    transformers' by more than the limit. Then nothing is written at `out`.
    """

    def write(folder: Path) -> dict[str, Any]:
        start = read_cross_start(checkpoint)
        (folder / "model.onnx").write_bytes(_graph(start))
        (folder / "tokenizer.json").write_text(plain_json(start.tokenizer), encoding="utf-8", newline="\n")
        settings = {"max_length": start.max_length, "pad_id": start.tokenizer.pad_token_id or 0}
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8", newline="\n")
        report = _compare(start, folder) | {"source": source_of(checkpoint)}
        (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8", newline="\n")
        return report

    return new_folder(out, write)


class _Scores(nn.Module):
    """The scorer with positional inputs and its one output as a vector."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tensor:  # [batch, length] each -> [batch]
        return pair_scores(self.model, dict(zip(INPUTS, inputs, strict=False)))


def _graph(start: CrossStart) -> bytes:
    # Attention as plain matrix products gives a shorter graph.
    start.model.set_attn_implementation("eager")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        n_types = getattr(start.model.config, "type_vocab_size", 1)
        trace(_Scores(start.model), INPUTS, {"scores": {0: "batch"}}, path, n_types)
        return path.read_bytes()


def _compare(start: CrossStart, folder: Path) -> dict[str, Any]:
    """The parity report: every awkward text as a document of two queries and as a query. Raises `ParityError`."""
    texts = [text[:MAX_CHARACTERS] for text in FIXED.values()]
    pairs = [(query, text) for query in (FIXED["plain"], FIXED["long"][:MAX_CHARACTERS]) for text in texts]
    pairs += [(text, FIXED["accents"]) for text in texts]
    scores = CrossEncoder(folder).score_pairs(pairs)  # [n_pairs]
    expected = np.concatenate([_expected(start, pair) for pair in pairs])  # [n_pairs]
    worst = float(np.abs(scores - expected).max())
    if not worst <= LIMIT * max(1.0, float(np.abs(expected).max())):
        raise ParityError(f"expected scores within {LIMIT:.0e} of the checkpoint's, they differ by up to {worst:.1e}")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"architecture": "cross-encoder", "pairs": len(pairs), "worst": {"max_abs": worst}, **versions}


def _expected(start: CrossStart, pair: tuple[str, str]) -> NDArray[np.float32]:  # -> [1]
    """The score by transformers' own tokenizer and model."""
    options = {"truncation": "longest_first", "max_length": start.max_length, "return_tensors": "pt"}
    with torch.inference_mode():
        logits: Tensor = start.model.eval()(**start.tokenizer([pair[0]], [pair[1]], **options)).logits  # [1, 1]
    scores: NDArray[np.float32] = logits[:, 0].numpy()
    return scores

"""A trained cross-encoder becomes ONNX, proved equal to its checkpoint on awkward pairs before anything is at `out`."""

import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn

from refcolbert.errors import ExportError, ParityError

from ..cross_encoder import INPUTS, SETTINGS, CrossEncoder
from ..graph.to_onnx import OPSET
from ..layouts.tokenizers import plain_json
from ..parity.awkward_texts import FIXED
from ..parity.report import LIMIT, REPORT
from ..replace_folder import replace_folder
from ..training.cross_encoder import CrossStart, pair_scores, read_cross_start

__all__ = ["export_cross_encoder"]

LONGEST = 4096  # characters: transformers' tokenizer keeps every way to cut both texts of a pair


def export_cross_encoder(checkpoint: Path, out: Path) -> dict[str, Any]:
    """Write the folder `out` that `CrossEncoder.load` reads, and return the parity report.

    Raises `ExportError` when `out` exists, `UnsupportedCheckpoint`, and `ParityError` when the scores differ from
    transformers' by more than the limit; then there is nothing at `out`.
    """
    if out.exists() or out.is_symlink():
        raise ExportError(f"there is already something at {out}; remove it or choose another place")
    out.parent.mkdir(parents=True, exist_ok=True)
    start = read_cross_start(checkpoint)
    report: dict[str, Any] = {}

    def write(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(_graph(start))
        (folder / "tokenizer.json").write_text(plain_json(start.tokenizer), encoding="utf-8", newline="\n")
        settings = {"max_length": start.max_length, "pad_id": start.tokenizer.pad_token_id or 0}
        (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8", newline="\n")
        report.update(_compare(start, folder))
        (folder / REPORT).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8", newline="\n")

    replace_folder(out, write)
    return report


class _Scores(nn.Module):
    """The scorer with its inputs in order and its one output as a vector."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, *given: Tensor) -> Tensor:  # [batch, length] each -> [batch]
        return pair_scores(self.model, dict(zip(INPUTS, given, strict=False)))


def _graph(start: CrossStart) -> bytes:
    start.model.set_attn_implementation("eager")  # plain products: a shorter graph
    ids = torch.full((2, 7), 5, dtype=torch.int64)
    mask, types = torch.ones_like(ids), torch.zeros_like(ids)
    mask[1, 5:] = 0  # so that no branch for an all-ones mask is traced
    types[:, 3:] = 1 if getattr(start.model.config, "type_vocab_size", 1) > 1 else 0
    axes = {0: "batch", 1: "length"}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracer notes about Python branches; parity at other shapes is the judge
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            _Scores(start.model).eval(),
            (ids, mask, types),
            str(path),
            input_names=list(INPUTS),
            output_names=["scores"],
            dynamic_axes={**dict.fromkeys(INPUTS, axes), "scores": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()


def _compare(start: CrossStart, folder: Path) -> dict[str, Any]:
    """Every awkward text as a document of two queries and as a query, by transformers' own tokenizer and model too."""
    texts = [text[:LONGEST] for text in FIXED.values()]
    pairs = [(query, text) for query in (FIXED["plain"], FIXED["long"][:LONGEST]) for text in texts]
    pairs += [(text, FIXED["accents"]) for text in texts]
    found = CrossEncoder(folder).score_pairs(pairs)  # [n_pairs]
    expected = np.concatenate([_expected(start, pair) for pair in pairs])  # [n_pairs]
    worst = float(np.abs(found - expected).max())
    if not worst <= LIMIT * max(1.0, float(np.abs(expected).max())):
        raise ParityError(f"scores differ from the checkpoint's by up to {worst:.1e}; expected at most {LIMIT:.0e}")
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    return {"architecture": "cross-encoder", "pairs": len(pairs), "worst": {"max_abs": worst}, **versions}


def _expected(start: CrossStart, pair: tuple[str, str]) -> NDArray[np.float32]:  # -> [1]
    how = {"truncation": "longest_first", "max_length": start.max_length, "return_tensors": "pt"}
    with torch.inference_mode():
        logits: Tensor = start.model.eval()(**start.tokenizer([pair[0]], [pair[1]], **how)).logits  # [1, 1]
    scores: NDArray[np.float32] = logits[:, 0].numpy()
    return scores

"""Torch module -> ONNX bytes, with dynamic batch and length."""

import tempfile
import warnings
from pathlib import Path

import torch

from .colbert import ColbertModel

__all__ = ["OPSET", "to_onnx"]

OPSET = 17  # has LayerNormalization, and runs on every ONNX Runtime that the core allows


def to_onnx(model: ColbertModel) -> bytes:
    """The model as one ONNX file: input_ids, attention_mask [batch, length] int64 -> vectors [batch, length, dim]."""
    ids = torch.full((2, 7), 5, dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0  # so that no branch for an all-ones mask is traced
    axes = {0: "batch", 1: "length"}
    names = ("input_ids", "attention_mask", "vectors")
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracer notes about Python branches; parity at other shapes is the judge
        torch.onnx.export(
            model.eval(),
            (ids, mask),
            Path(folder) / "model.onnx",
            input_names=list(names[:2]),
            output_names=[names[2]],
            dynamic_axes=dict.fromkeys(names, axes),
            opset_version=OPSET,
            dynamo=False,
        )
        return (Path(folder) / "model.onnx").read_bytes()

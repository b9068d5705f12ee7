"""Saves a trained model in the layout of its checkpoint: the folder copied, its weights replaced.

Every file except the weights is copied unchanged, so the original package reads the result. Files with the same
weights in other formats are left out, because they would hold the old values.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from refcolbert.errors import UnsupportedCheckpoint

from ..layouts.bge_m3 import LINEAR
from ..layouts.checkpoints import layout_of
from ..layouts.sentence_transformers import read_modules
from ..layouts.xtr import DENSE
from ..model import ColbertModel, Dense
from ..tensors import read_tensors

__all__ = ["save_weights", "write_as_it_came"]

STALE = ("*.safetensors", "*.bin", "*.index.json", "*.h5", "*.msgpack", "*.onnx", "*.onnx_data", "onnx", "openvino")
LEGACY = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))


def write_as_it_came(model: ColbertModel, source: Path, folder: Path) -> None:
    """Fill `folder` with the files of the checkpoint `source` and the weights of `model`.

    Raises `UnsupportedCheckpoint` naming weights of the model that the checkpoint's weight file lacks.
    """
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*STALE))
    transformer, dense = _places(source)
    backbone: Any = model.backbone
    head: Any = list(model.head)
    weights = backbone.state_dict()
    # Stanford's head is in the transformer's weight file. Beside a Dense folder some checkpoints repeat it there.
    named = {**weights, "linear.weight": head[-1].weight} if head else weights
    tensors = dict(_renamed(read_tensors(source / transformer), named, f"{backbone.base_model_prefix}."))
    kept = {t.data_ptr() for t in tensors.values()}
    if lost := [name for name, t in weights.items() if t.data_ptr() not in kept and not name.startswith("pooler.")]:
        raise UnsupportedCheckpoint(f"expected every weight in the checkpoint's file, it lacks {', '.join(lost[:4])}")
    save_weights(tensors, folder / transformer)
    if (source / LINEAR).is_file():
        torch.save(
            {key.removeprefix("linear."): t.detach() for key, t in _dense_tensors(head[-1]).items()}, folder / LINEAR
        )
    for place, layer in zip(dense, head if dense else (), strict=True):
        save_weights(_dense_tensors(layer), folder / place)


def save_weights(tensors: dict[str, Tensor], folder: Path) -> None:
    """Write model.safetensors, readable by all users. A tensor with two names is stored under both."""
    path = folder / "model.safetensors"
    save_file({name: t.detach().clone().contiguous() for name, t in tensors.items()}, path)
    # safetensors makes the file readable by its owner only.
    path.chmod(0o644)


def _places(source: Path) -> tuple[Path, list[Path]]:
    """The folder of the transformer and of each Dense, relative to the checkpoint."""
    if layout_of(source).name in ("stanford", "xtr", "bge-m3"):
        return Path(), [Path(DENSE)] if layout_of(source).name == "xtr" else []
    modules = read_modules(source)
    places = [module.folder.relative_to(source) for module in modules]
    return places[0], [place for place, module in zip(places, modules, strict=True) if module.kind == "Dense"]


def _renamed(stored: dict[str, Tensor], weights: dict[str, Tensor], prefix: str) -> Iterator[tuple[str, Tensor]]:
    """The model's tensors by their names in the file. Tensors that the model lacks stay unchanged."""
    for key, tensor in stored.items():
        name = key if key in weights else key.removeprefix(prefix)
        for new, old in LEGACY:
            name = name if name in weights else name.replace(old, new)
        yield key, weights.get(name, tensor)


def _dense_tensors(layer: Any) -> dict[str, Tensor]:
    dense: Dense = layer
    named = {"linear.weight": dense.weight, "linear.bias": dense.bias, "residual.weight": dense.residual}
    return {name: t for name, t in named.items() if t is not None}

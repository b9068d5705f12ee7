"""A trained model back in the layout of the checkpoint that it came from: its folder copied, its weights replaced.

Every file but the weights is copied as it is, so the origin's own package reads the result. Files in other formats of
the same weights are left out: they would be stale.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from refcolbert.errors import UnsupportedCheckpoint

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

    Raises `UnsupportedCheckpoint` naming weights of the model that the checkpoint has no place for.
    """
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*STALE))
    transformer, dense = _places(source)
    backbone: Any = model.backbone
    head: Any = list(model.head)
    own = backbone.state_dict()
    if not dense:  # Stanford's head lies beside the transformer
        own["linear.weight"] = head.pop().weight
    tensors = dict(_renamed(read_tensors(source / transformer), own, f"{backbone.base_model_prefix}."))
    kept = {t.data_ptr() for t in tensors.values()}
    if lost := [name for name, t in own.items() if t.data_ptr() not in kept and not name.startswith("pooler.")]:
        raise UnsupportedCheckpoint(f"the checkpoint's weight file has no place for {', '.join(lost[:4])}")
    save_weights(tensors, folder / transformer)
    for place, layer in zip(dense, head, strict=True):
        save_weights(_dense_tensors(layer), folder / place)


def save_weights(tensors: dict[str, Tensor], folder: Path) -> None:
    """Write model.safetensors, readable by all; a tensor that has two names is stored under both."""
    path = folder / "model.safetensors"
    save_file({name: t.detach().clone().contiguous() for name, t in tensors.items()}, path)
    path.chmod(0o644)  # safetensors gives it to its owner alone


def _places(source: Path) -> tuple[Path, list[Path]]:
    """Where the transformer's weights and each Dense's lie, relative to the checkpoint."""
    if layout_of(source).name in ("stanford", "xtr"):
        return Path(), [Path(DENSE)] if layout_of(source).name == "xtr" else []
    root, modules = source.resolve(), read_modules(source)
    places = [module.folder.resolve().relative_to(root) for module in modules]
    return places[0], [place for place, module in zip(places, modules, strict=True) if module.kind == "Dense"]


def _renamed(found: dict[str, Tensor], own: dict[str, Tensor], prefix: str) -> Iterator[tuple[str, Tensor]]:
    """The file's names with the model's tensors; what the model does not have stays as it was."""
    for key, tensor in found.items():
        name = key if key in own else key.removeprefix(prefix)
        for new, old in LEGACY:
            name = name if name in own else name.replace(old, new)
        yield key, own.get(name, tensor)


def _dense_tensors(layer: Any) -> dict[str, Tensor]:
    dense: Dense = layer
    named = {"linear.weight": dense.weight, "linear.bias": dense.bias, "residual.weight": dense.residual}
    return {name: t for name, t in named.items() if t is not None}

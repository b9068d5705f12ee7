"""The folder format of sentence-transformers: modules.json, numbered Dense folders, prompts.

PyLate and Sentence-Transformers' MultiVectorEncoder both save it. They differ in what its settings mean, so their
readers interpret them.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from refcolbert.errors import UnsupportedCheckpoint

from ..model import ColbertModel, Dense
from ..tensors import Account, Reading, read_json, read_json_list, read_tensors
from .backbones import WEIGHT_FILE, build_backbone, fill_backbone, read_config

__all__ = ["CONFIG", "INERT", "Module", "as_texts", "named_prompt", "read_model", "read_modules", "read_settings"]

CONFIG = "config_sentence_transformers.json"
INERT = ("model_type|similarity_fn_name|__version__|truncate_dim|_.*",)
TRANSFORMER_SETTINGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)


@dataclass(frozen=True, slots=True)
class Module:
    """One entry of modules.json: the last part of its class's import path, and its folder."""

    kind: str
    folder: Path


def read_modules(folder: Path) -> list[Module]:
    """The modules in order. Raises `UnsupportedCheckpoint` unless the first and no other is a Transformer."""
    entries = read_json_list(folder / "modules.json")
    modules = [Module(str(e["type"]).rsplit(".", 1)[-1], _subfolder(folder, str(e["path"]))) for e in entries]
    kinds = [module.kind for module in modules]
    if kinds[:1] != ["Transformer"] or "Transformer" in kinds[1:]:
        raise UnsupportedCheckpoint(f"expected one Transformer in modules.json, in first place, found {kinds}")
    return modules


def read_settings(transformer: Path) -> dict[str, Any]:
    """The Transformer's own settings (sentence_bert_config.json or its older names); {} without such a file."""
    for name in TRANSFORMER_SETTINGS:
        if (transformer / name).is_file():
            return read_json(transformer / name)
    return {}


def read_model(modules: list[Module], default_activation: str | None, reading: Reading) -> ColbertModel:
    """The Transformer, which comes first, and all Dense layers. Raises `UnsupportedCheckpoint` when two do not fit."""
    backbone: Any = build_backbone(read_config(modules[0].folder, reading), reading.trust_remote_code)
    tensors = read_tensors(modules[0].folder)
    dense = [module.folder for module in modules if module.kind == "Dense"]
    head = [read_dense(folder, default_activation, reading) for folder in dense]
    # Checkpoints that Stanford's package reads too have the projection in both places.
    leftover = tensors.pop("linear.weight", None) if head else None
    if leftover is not None and not torch.equal(leftover, head[-1].weight):
        reading.notes.append(
            f"linear.weight in {WEIGHT_FILE} is not the weight in {dense[-1].name}, which has the last word here; "
            "Stanford's package would use the former"
        )
    fill_backbone(backbone, tensors)
    columns = backbone.config.hidden_size
    for layer in head:
        if layer.weight.shape[1] != columns:
            raise UnsupportedCheckpoint(f"expected a Dense of {columns} columns, found one of {layer.weight.shape[1]}")
        columns = layer.weight.shape[0]
    return ColbertModel(backbone, head)


def read_dense(folder: Path, default_activation: str | None, reading: Reading) -> Dense:
    """One Dense folder. Every tensor is accounted for. Raises `UnsupportedCheckpoint`."""
    config = Account(read_json(folder / "config.json"), f"{folder.name}/config.json")
    shape = (config.take("out_features"), config.take("in_features"))
    with_bias, with_residual = config.take("bias", True), config.take("use_residual", False)
    activation = _activation(config.take("activation_function", default_activation), folder.name)
    for key in ("module_input_name", "module_output_name"):
        if config.take(key, "token_embeddings") not in ("token_embeddings", "sentence_embedding"):
            raise UnsupportedCheckpoint(
                f"{folder.name}: expected token_embeddings as {key}, found {config.values[key]!r}"
            )
    config.close(reading)
    tensors = Account(read_tensors(folder), f"the weights of {folder.name}")
    weight, bias, residual = (tensors.take(key) for key in ("linear.weight", "linear.bias", "residual.weight"))
    tensors.close()
    projected = with_residual and shape[0] != shape[1]
    if weight is None or weight.shape != shape or (bias is None) == with_bias or (residual is None) == projected:
        raise UnsupportedCheckpoint(
            f"{folder.name}: expected weights of {shape[1]} -> {shape[0]}, bias {with_bias}, residual {with_residual}, "
            f"as config.json says; found { ({key: tuple(t.shape) for key, t in tensors.values.items()}) }"
        )
    return Dense(weight, bias, activation, residual if projected else bool(with_residual))


def _activation(path: Any, place: str) -> nn.Module:
    """An activation by the import path of its class. Only torch's own classes without parameters are allowed."""
    name = str(path).rsplit(".", 1)[-1]
    if not str(path).startswith("torch.nn.modules."):
        raise UnsupportedCheckpoint(f"{place}: expected an activation_function of torch.nn, found {path!r}")
    try:
        activation = getattr(importlib.import_module(str(path).rsplit(".", 1)[0]), name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise UnsupportedCheckpoint(f"{place}: activation_function {path!r} cannot be created: {error}") from error
    if not isinstance(activation, nn.Module) or any(True for _ in activation.parameters()):
        raise UnsupportedCheckpoint(f"{place}: expected an activation_function without parameters, found {path!r}")
    return activation


def _subfolder(folder: Path, name: str) -> Path:
    # By name: in the cache of the hub the files themselves are links to another folder.
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UnsupportedCheckpoint(f"expected modules inside the checkpoint folder, modules.json names {name!r}")
    return folder / name


def as_texts(value: Any, file: str) -> dict[str, str]:
    """Prompts by name, without null ones. Raises `UnsupportedCheckpoint`, naming the file."""
    prompts = {key: text for key, text in (value or {}).items() if text is not None}
    if not all(isinstance(text, str) for text in prompts.values()):
        raise UnsupportedCheckpoint(f"{file}: expected texts as prompts, found {value!r}")
    return prompts


def named_prompt(folder: Path, name: str) -> str:
    """The text of one of the checkpoint's prompts, as `prompt_name` chooses it in both packages.

    Raises `UnsupportedCheckpoint` naming the prompts of the checkpoint.
    """
    prompts = as_texts(read_json(folder / CONFIG).get("prompts"), CONFIG) if (folder / CONFIG).is_file() else {}
    if name not in prompts:
        known = ", ".join(map(repr, prompts)) or "none"
        raise UnsupportedCheckpoint(f"the checkpoint has no prompt named {name!r}; it has {known}")
    return prompts[name]

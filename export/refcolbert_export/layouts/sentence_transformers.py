"""The folder format of sentence-transformers: modules.json, numbered Dense folders, prompts.

PyLate and Sentence-Transformers' MultiVectorEncoder both save it; what they mean by it differs and is theirs to say.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from refcolbert.errors import UnsupportedCheckpoint

from ..model import Dense
from ..tensors import Account, read_json, read_json_list, read_tensors

__all__ = ["CONFIG", "Module", "as_texts", "check_head", "named_prompt", "read_dense", "read_modules", "read_settings"]

CONFIG = "config_sentence_transformers.json"
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
    """The modules in their order. Raises `UnsupportedCheckpoint` unless a Transformer in some folder comes first."""
    entries = read_json_list(folder / "modules.json")
    modules = [Module(str(e["type"]).rsplit(".", 1)[-1], _subfolder(folder, str(e["path"]))) for e in entries]
    kinds = [module.kind for module in modules]
    if kinds[:1] != ["Transformer"] or "Transformer" in kinds[1:]:
        raise UnsupportedCheckpoint(f"modules.json must start with its one Transformer, found {kinds}")
    return modules


def read_settings(transformer: Path) -> dict[str, Any]:
    """The Transformer's own settings file (sentence_bert_config.json or an older name of it), {} when there is none."""
    for name in TRANSFORMER_SETTINGS:
        if (transformer / name).is_file():
            return read_json(transformer / name)
    return {}


def read_dense(folder: Path, default_activation: str | None) -> Dense:
    """One Dense folder; every key and tensor accounted for. Raises `UnsupportedCheckpoint`."""
    config = Account(read_json(folder / "config.json"), f"{folder.name}/config.json")
    shape = (config.take("out_features"), config.take("in_features"))
    with_bias, with_residual = config.take("bias", True), config.take("use_residual", False)
    activation = _activation(config.take("activation_function", default_activation), folder.name)
    for key in ("module_input_name", "module_output_name"):
        if config.take(key, "token_embeddings") not in ("token_embeddings", "sentence_embedding"):
            raise UnsupportedCheckpoint(f"{folder.name}: {key} is {config.values[key]!r}, not the token embeddings")
    config.close()
    tensors = Account(read_tensors(folder), f"the weights of {folder.name}")
    weight, bias, residual = (tensors.take(key) for key in ("linear.weight", "linear.bias", "residual.weight"))
    tensors.close()
    projected = with_residual and shape[0] != shape[1]
    if weight is None or weight.shape != shape or (bias is None) == with_bias or (residual is None) == projected:
        raise UnsupportedCheckpoint(
            f"{folder.name}: config.json says {shape[1]} -> {shape[0]}, bias {with_bias}, residual {with_residual}; "
            f"its weights are { ({key: tuple(t.shape) for key, t in tensors.values.items()}) }"
        )
    return Dense(weight, bias, activation, residual if projected else bool(with_residual))


def _activation(path: Any, what: str) -> nn.Module:
    """An activation by the import path of its class; only torch's own, and only without parameters."""
    name = str(path).rsplit(".", 1)[-1]
    if not str(path).startswith("torch.nn.modules."):
        raise UnsupportedCheckpoint(f"{what}: activation_function {path!r} is not a class of torch.nn")
    try:
        found = getattr(importlib.import_module(str(path).rsplit(".", 1)[0]), name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise UnsupportedCheckpoint(f"{what}: activation_function {path!r} cannot be made: {error}") from error
    if not isinstance(found, nn.Module) or any(True for _ in found.parameters()):
        raise UnsupportedCheckpoint(f"{what}: activation_function {path!r} is no activation without parameters")
    return found


def _subfolder(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise UnsupportedCheckpoint(f"modules.json names {name!r}, which is outside the checkpoint folder")
    return path


def check_head(head: list[Dense], hidden: int) -> int:
    """The columns that come out of the chain. Raises `UnsupportedCheckpoint` when two layers do not fit."""
    for layer in head:
        if layer.weight.shape[1] != hidden:
            raise UnsupportedCheckpoint(f"a Dense takes {layer.weight.shape[1]} columns where {hidden} arrive")
        hidden = layer.weight.shape[0]
    return hidden


def as_texts(value: Any, what: str) -> dict[str, str]:
    """Prompts by name, null ones left out. Raises `UnsupportedCheckpoint`."""
    prompts = {key: text for key, text in (value or {}).items() if text is not None}
    if not all(isinstance(text, str) for text in prompts.values()):
        raise UnsupportedCheckpoint(f"{what}: prompts must be texts, found {value!r}")
    return prompts


def named_prompt(folder: Path, name: str) -> str:
    """The text of one of the checkpoint's prompts, as `prompt_name` chooses it in both packages.

    Raises `UnsupportedCheckpoint` naming those that there are.
    """
    prompts = as_texts(read_json(folder / CONFIG).get("prompts"), CONFIG) if (folder / CONFIG).is_file() else {}
    if name not in prompts:
        known = ", ".join(map(repr, prompts)) or "none"
        raise UnsupportedCheckpoint(f"the checkpoint has no prompt named {name!r}; it has {known}")
    return prompts[name]

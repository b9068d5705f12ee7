"""Weights and JSON from a checkpoint folder, and the account of every key in them.

A tensor or setting that nobody reads is how exports go wrong silently. So what is read here is handed out through an
`Account`: a key is taken, or is on a list of names known to carry no meaning, or the checkpoint is refused.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from refcolbert.errors import UnsupportedCheckpoint

__all__ = ["Account", "read_json", "read_json_list", "read_tensors"]

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"


class Account:
    """The keys of one file; every one must be taken or ignored by name before `close`."""

    def __init__(self, values: dict[str, Any], what: str) -> None:
        self.values, self.what = dict(values), what
        self._open = set(values)

    def take(self, key: str, default: Any = None) -> Any:
        """Return the value and mark it as read; `default` when it is absent or null."""
        self._open.discard(key)
        value = self.values.get(key)
        return default if value is None else value

    def take_prefix(self, prefix: str) -> dict[str, Any]:
        """Return and mark all keys under `prefix`, without it."""
        keys = [key for key in self.values if key.startswith(prefix)]
        return {key.removeprefix(prefix): self.take(key) for key in keys}

    def ignore(self, patterns: Iterable[str]) -> None:
        """Mark every key that one of the regular expressions matches in full."""
        self._open = {key for key in self._open if not any(re.fullmatch(p, key) for p in patterns)}

    def close(self) -> None:
        """Raise `UnsupportedCheckpoint` naming the keys that nobody accounted for."""
        if self._open:
            names = ", ".join(sorted(self._open)[:8]) + (", ..." if len(self._open) > 8 else "")
            raise UnsupportedCheckpoint(
                f"{self.what} holds {len(self._open)} entries that this export does not understand: {names}; "
                "exporting without them could change the vectors, so it is refused"
            )


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises `UnsupportedCheckpoint` when it is missing or something else."""
    found = _load_json(path)
    if not isinstance(found, dict):
        raise UnsupportedCheckpoint(f"{path.name} must hold one object, found {type(found).__name__}")
    return found


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """The JSON list of objects in a file. Raises `UnsupportedCheckpoint` when it is missing or something else."""
    found = _load_json(path)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise UnsupportedCheckpoint(f"{path.name} must hold a list of objects")
    return found


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnsupportedCheckpoint(f"expected the file {path.name} in {path.parent}, found none") from None
    except ValueError as error:
        raise UnsupportedCheckpoint(f"{path.name} is not JSON: {error}") from error


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder in float32, safetensors before pickles as transformers has it, shards joined.

    Pickles are read with weights_only: a checkpoint cannot run code. Raises `UnsupportedCheckpoint`.
    """
    for name in (SAFETENSORS, PICKLED):
        if (folder / name).is_file():
            return _floats(_read_file(folder / name))
        if (folder / f"{name}.index.json").is_file():
            shards = sorted(set(read_json(folder / f"{name}.index.json").get("weight_map", {}).values()))
            return _floats({key: t for shard in shards for key, t in _read_file(_inside(folder, shard)).items()})
    raise UnsupportedCheckpoint(f"expected {SAFETENSORS} or {PICKLED} in {folder}, found neither")


def _inside(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise UnsupportedCheckpoint(f"the index of shards names {name!r}; shards must lie in the checkpoint folder")
    return folder / name


def _read_file(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UnsupportedCheckpoint(f"{path.name} cannot be read as tensors: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(t, torch.Tensor) for t in found.values()):
        raise UnsupportedCheckpoint(f"{path.name} must hold tensors by name, found something else")
    return found


def _floats(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Half-precision weights in float32: the model computes in float32."""
    return {key: t.float() if t.is_floating_point() else t for key, t in tensors.items()}

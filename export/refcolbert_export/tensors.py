"""Weights and JSON files of a checkpoint folder, and the account of every key in them.

An export goes wrong silently when a tensor is not read. So every reader opens an `Account` per file. Each key is taken,
or ignored because it is known not to change a vector. A tensor that is left over refuses the checkpoint. A setting that
is left over is reported: publishers carry their trainers' settings along, and parity decides.
"""

import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from refcolbert.errors import UnsupportedCheckpoint

__all__ = ["Account", "Reading", "read_json", "read_json_list", "read_pickle", "read_tensor_file", "read_tensors"]

log = logging.getLogger("refcolbert")

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"


@dataclass(frozen=True, slots=True)
class Reading:
    """How a checkpoint is read, and what the readers collect about it."""

    trust_remote_code: bool = False
    unread: dict[str, list[str]] = field(default_factory=dict)  # JSON file -> its keys that no reader takes
    notes: list[str] = field(default_factory=list)  # what its user should know

    def warn(self, name: str) -> None:
        """Log both, with the checkpoint's name."""
        for file, keys in self.unread.items():
            log.warning("%s: %s has keys that are not known here: %s", name, file, ", ".join(keys))
        for note in self.notes:
            log.warning("%s: %s", name, note)


class Account:
    """The keys of one file. Every key must be taken or ignored by name before `close`."""

    def __init__(self, values: dict[str, Any], name: str) -> None:
        """`name` says in error messages where the values come from."""
        self.values, self.name = dict(values), name
        self._open = set(values)

    def take(self, key: str, default: Any = None) -> Any:
        """Return the value of `key` and mark it as read. Return `default` when it is absent or null."""
        self._open.discard(key)
        value = self.values.get(key)
        return default if value is None else value

    def take_prefix(self, prefix: str) -> dict[str, Any]:
        """Return all values under `prefix`, by the rest of their names, and mark them as read."""
        keys = [key for key in self.values if key.startswith(prefix)]
        return {key.removeprefix(prefix): self.take(key) for key in keys}

    def ignore(self, patterns: Iterable[str]) -> None:
        """Mark every key as read that one of the regular expressions matches in full."""
        self._open = {key for key in self._open if not any(re.fullmatch(p, key) for p in patterns)}

    def close(self, reading: Reading | None = None) -> None:
        """Collect the keys that were neither taken nor ignored in `reading`.

        Without one, as for weights, raise `UnsupportedCheckpoint` naming them.
        """
        if self._open and reading is None:
            names = ", ".join(sorted(self._open)[:8]) + (", ..." if len(self._open) > 8 else "")
            raise UnsupportedCheckpoint(
                f"expected only known tensors in {self.name}, found {len(self._open)} others: {names}. They could "
                "change the vectors, so the checkpoint is refused. Remove them if they do not"
            )
        if self._open and reading is not None:
            reading.unread[self.name] = sorted(self._open)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises `UnsupportedCheckpoint` when the file is missing or holds no object."""
    value = _load_json(path)
    if not isinstance(value, dict):
        raise UnsupportedCheckpoint(f"expected a JSON object in {path.name}, found {type(value).__name__}")
    return value


def read_json_list(path: Path) -> list[dict[str, Any]]:
    """The JSON list of objects in a file. Raises `UnsupportedCheckpoint` when there is no such file or list."""
    entries = _load_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UnsupportedCheckpoint(f"expected a JSON list of objects in {path.name}, found something else")
    return entries


def _load_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UnsupportedCheckpoint(f"expected the file {path.name} in {path.parent}, found none") from None
    except ValueError as error:
        raise UnsupportedCheckpoint(f"expected JSON in {path.name}: {error}") from error


def read_tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a folder in float32, shards joined. As in transformers, safetensors files go before pickles.

    Pickles are read with weights_only, so a checkpoint cannot run code. Raises `UnsupportedCheckpoint`.
    """
    for name in (SAFETENSORS, PICKLED):
        if (folder / name).is_file():
            return read_tensor_file(folder / name)
        if (folder / f"{name}.index.json").is_file():
            shards = sorted(set(read_json(folder / f"{name}.index.json").get("weight_map", {}).values()))
            return {key: t for shard in shards for key, t in read_tensor_file(_inside(folder, shard)).items()}
    raise UnsupportedCheckpoint(f"expected {SAFETENSORS} or {PICKLED} in {folder}, found neither")


def _inside(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise UnsupportedCheckpoint(f"expected shards in the checkpoint folder, the index of shards names {name!r}")
    return folder / name


def read_tensor_file(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of one file, half-precision ones in float32, in which the model computes.

    Raises `UnsupportedCheckpoint`.
    """
    try:
        tensors = dict(load_file(path)) if path.suffix == ".safetensors" else read_pickle(path)
    except (OSError, SafetensorError) as error:
        raise UnsupportedCheckpoint(f"{path.name} cannot be read as tensors: {error}") from error
    if not all(isinstance(t, torch.Tensor) for t in tensors.values()):
        raise UnsupportedCheckpoint(f"expected tensors by name in {path.name}, found something else")
    return {key: t.float() if t.is_floating_point() else t for key, t in tensors.items()}


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a pickled file, without running code. Raises `UnsupportedCheckpoint`."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UnsupportedCheckpoint(f"{path.name} cannot be read as tensors: {error}") from error
    if not isinstance(stored, dict):
        raise UnsupportedCheckpoint(f"expected tensors by name in {path.name}, found {type(stored).__name__}")
    return stored

"""The model that training starts from, and the checkpoint folder that it becomes.

A start is a ColBERT checkpoint in any layout that `layouts` reads. It is saved in the same layout. Or it is a sentence
encoder (config.json, weights, tokenizer.json), which gets a new projection to `dim` columns. It is saved in Stanford's
layout.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import TrainingError, UnsupportedCheckpoint

from ..cross_encoder import is_cross_encoder
from ..layouts.backbones import longest_input, read_backbone
from ..layouts.checkpoints import LAYOUTS, read_checkpoint
from ..layouts.stanford import METADATA, spec_of
from ..layouts.tokenizers import load_tokenizer, plain_json
from ..model import ColbertModel, Dense
from ..replace_folder import replace_folder
from ..tensors import Reading
from .saving import save_weights, write_as_it_came

__all__ = ["Head", "Start", "for_training", "read_start", "read_teacher", "save_start"]

MARKERS = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]"}


@dataclass(frozen=True, slots=True)
class Start:
    """A model to train, its encoding, and the function that writes its checkpoint."""

    model: ColbertModel
    spec: EncodingSpec
    tokenizer_json: str
    write: Callable[[Path], None]  # fills a folder with the model's present weights
    new_head: bool  # random, not read


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Settings of a new projection, for a start that has none."""

    dim: int = 128
    query_length: int = 32
    document_length: int = 512
    mask_punctuation: bool = True
    attend_to_mask_tokens: bool = False


def read_start(folder: Path, head: Head, seed: int = 0) -> Start:
    """Read a checkpoint, or a sentence encoder with a random head from `seed`. Raises `UnsupportedCheckpoint`."""
    if not folder.is_dir():
        raise UnsupportedCheckpoint(
            f"expected the folder of a checkpoint or a sentence encoder at {folder}, found none"
        )
    if is_cross_encoder(folder):
        raise UnsupportedCheckpoint(f"{folder} is a cross-encoder; train it further with --architecture cross-encoder")
    if any(layout.recognizes(folder) for layout in LAYOUTS):
        read = read_checkpoint(folder)
        read.reading.warn(folder.name)
        write = partial(write_as_it_came, read.model, folder)
        start = Start(read.model, read.spec, read.tokenizer_json, write, False)
    else:
        start = _sentence_encoder(folder, head, seed)
    _check_saved(start)
    return start


def read_teacher(folder: Path) -> Start:
    """Read a trained ColBERT checkpoint. Raises `UnsupportedCheckpoint` for anything else."""
    if not any(layout.recognizes(folder) for layout in LAYOUTS):
        raise UnsupportedCheckpoint(f"expected a trained ColBERT checkpoint as teacher, {folder} is none")
    read = read_checkpoint(folder)
    return Start(read.model, read.spec, read.tokenizer_json, partial(write_as_it_came, read.model, folder), False)


def _sentence_encoder(folder: Path, head: Head, seed: int) -> Start:
    """A transformer with a new projection, in Stanford's layout."""
    backbone: Any = read_backbone(folder, Reading())
    tokenizer = load_tokenizer(folder)
    longest = longest_input(backbone) or head.document_length
    settings = {
        **MARKERS,
        "dim": head.dim,
        "query_maxlen": head.query_length,
        "doc_maxlen": min(head.document_length, longest),
        "mask_punctuation": head.mask_punctuation,
        "attend_to_mask_tokens": head.attend_to_mask_tokens,
        "similarity": "cosine",
    }
    model = ColbertModel(backbone, [Dense(_projection(head.dim, backbone.config.hidden_size, seed))])
    write = partial(_write_stanford, model, settings, tokenizer)
    return Start(model, spec_of(settings, tokenizer), plain_json(tokenizer), write, True)


def _projection(dim: int, hidden: int, seed: int) -> torch.Tensor:  # -> [dim, hidden]
    """Random orthogonal rows, which keep inner products well on average."""
    if not 1 <= dim <= hidden:
        raise TrainingError(f"expected a dim of 1 to {hidden}, the width of the transformer's states; found {dim}")
    random = torch.randn(hidden, dim, generator=torch.Generator().manual_seed(seed))  # [hidden, dim]
    rows: torch.Tensor = torch.linalg.qr(random).Q.T.contiguous()
    return rows


def save_start(start: Start, out: Path) -> None:
    """Write the checkpoint folder. When that fails, the previous content of `out` stays."""
    replace_folder(out, start.write)


def _write_stanford(model: ColbertModel, settings: dict[str, Any], tokenizer: Any, folder: Path) -> None:
    backbone: Any = model.backbone
    head: Any = model.head[0]
    config = {**backbone.config.to_dict(), "architectures": ["HF_ColBERT"]}
    config.pop("_name_or_path", None)
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    (folder / METADATA).write_text(json.dumps(settings, indent=1) + "\n")
    weights = {key: t for key, t in backbone.state_dict().items() if not key.startswith("pooler.")}
    tensors = {f"{backbone.base_model_prefix}.{key}": t for key, t in weights.items()}
    save_weights({**tensors, "linear.weight": head.weight}, folder)


def _check_saved(start: Start) -> None:
    """Save and read the model before training. Raises `UnsupportedCheckpoint` when it is not the same afterwards."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        folder.mkdir()
        start.write(folder)
        saved = read_checkpoint(folder)
    weights, read = start.model.state_dict(), saved.model.state_dict()
    changed = [name for name in start.spec.__slots__ if getattr(saved.spec, name) != getattr(start.spec, name)]
    changed += [name for name, t in weights.items() if "pooler." not in name and not torch.equal(t, read[name])]
    if changed:
        raise UnsupportedCheckpoint(
            f"expected the same model after saving and reading, found other values of {', '.join(changed)}; this "
            "checkpoint cannot be trained"
        )


def for_training(start: Start, query_length: int | None, document_length: int) -> EncodingSpec:
    """The spec for training: documents may be cut earlier than in use, queries later.

    Raises `TrainingError` for a query length above the model's positions.
    """
    spec, positions = start.spec, longest_input(start.model.backbone)
    filled = spec.expansion_length or spec.query_length
    longest = spec.query_length if query_length is None else max(query_length, filled)
    if positions is not None and longest > positions:
        raise TrainingError(
            f"expected a query_length of at most the model's {positions} positions, found {query_length}"
        )
    document_length = min(document_length, spec.document_length)
    return replace(spec, query_length=longest, expansion_length=filled, document_length=document_length)

"""What training starts from, and the folder that it leaves, which `export` reads.

A start is a ColBERT checkpoint in any layout that `checkpoints` reads, saved in the same layout, or a sentence encoder
(config.json, weights, tokenizer.json), whose states a new projection takes to `dim` columns, saved in Stanford's.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import TrainingError, UnsupportedCheckpoint

from ..cross_encoder import is_cross_encoder
from ..layouts.backbones import build_backbone, fill_backbone, longest_input, read_config
from ..layouts.checkpoints import LAYOUTS, read_checkpoint
from ..layouts.stanford import METADATA, spec_of
from ..layouts.tokenizers import load_tokenizer, plain_json
from ..model import ColbertModel, Dense
from ..replace_folder import replace_folder
from ..tensors import read_tensors
from .saving import save_weights, write_as_it_came

__all__ = ["Head", "Start", "for_training", "read_start", "save_start"]

MARKERS = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]"}


@dataclass(frozen=True, slots=True)
class Start:
    """A model to train, how it encodes, and how its folder is written."""

    model: ColbertModel
    spec: EncodingSpec
    tokenizer_json: str
    write: Callable[[ColbertModel, Path], None]  # fills a folder
    new_head: bool  # drawn, not read


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A new projection and the conventions that come with it, for a start that has none."""

    dim: int = 128
    query_length: int = 32
    document_length: int = 512
    mask_punctuation: bool = True
    attend_to_mask_tokens: bool = False


def read_start(folder: Path, head: Head, seed: int = 0) -> Start:
    """Read a checkpoint, or a sentence encoder with a new head drawn from `seed`. Raises `UnsupportedCheckpoint`."""
    if not folder.is_dir():
        raise UnsupportedCheckpoint(
            f"expected the folder of a checkpoint or a sentence encoder, found none at {folder}"
        )
    if is_cross_encoder(folder):
        raise UnsupportedCheckpoint(f"{folder} is a cross-encoder; train it further with --architecture cross-encoder")
    start = (
        _checkpoint(folder) if any(layout.recognizes(folder) for layout in LAYOUTS) else _encoder(folder, head, seed)
    )
    _check_saved(start)
    return start


def _checkpoint(folder: Path) -> Start:
    found = read_checkpoint(folder)

    def write(model: ColbertModel, out: Path) -> None:
        write_as_it_came(model, folder, out)

    return Start(found.model, found.spec, found.tokenizer_json, write, False)


def _encoder(folder: Path, head: Head, seed: int) -> Start:
    config = read_config(folder)
    backbone = build_backbone(config)
    fill_backbone(backbone, read_tensors(folder), "the weight file")
    tokenizer = load_tokenizer(folder)
    longest = longest_input(config) or head.document_length
    settings = {
        **MARKERS,
        "dim": head.dim,
        "query_maxlen": head.query_length,
        "doc_maxlen": min(head.document_length, longest),
        "mask_punctuation": head.mask_punctuation,
        "attend_to_mask_tokens": head.attend_to_mask_tokens,
        "similarity": "cosine",
    }

    def write(model: ColbertModel, out: Path) -> None:
        _write_stanford(model, settings, tokenizer, out)

    model = ColbertModel(backbone, [Dense(_projection(head.dim, config.hidden_size, seed))])
    return Start(model, spec_of(settings, tokenizer), plain_json(tokenizer), write, True)


def _projection(dim: int, hidden: int, seed: int) -> torch.Tensor:  # -> [dim, hidden]
    """Orthogonal rows in a random direction: of all linear maps, one that keeps inner products best on the average."""
    if not 1 <= dim <= hidden:
        raise TrainingError(f"expected a dim of 1 to {hidden}, the width of the transformer's states; found {dim}")
    drawn = torch.randn(hidden, dim, generator=torch.Generator().manual_seed(seed))  # [hidden, dim]
    rows: torch.Tensor = torch.linalg.qr(drawn).Q.T.contiguous()
    return rows


def save_start(start: Start, out: Path) -> None:
    """Write the model's folder; on failure what was at `out` stays."""
    replace_folder(out, lambda folder: start.write(start.model, folder))


def _write_stanford(model: ColbertModel, settings: dict[str, Any], tokenizer: Any, folder: Path) -> None:
    backbone: Any = model.backbone
    head: Any = model.head[0]
    config = {**backbone.config.to_dict(), "architectures": ["HF_ColBERT"]}
    config.pop("_name_or_path", None)
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    (folder / METADATA).write_text(json.dumps(settings, indent=1) + "\n")
    used = {key: t for key, t in backbone.state_dict().items() if not key.startswith("pooler.")}
    tensors = {f"{backbone.base_model_prefix}.{key}": t for key, t in used.items()}
    save_weights({**tensors, "linear.weight": head.weight}, folder)


def _check_saved(start: Start) -> None:
    """Refuse a model that would come back as another one. Raises `UnsupportedCheckpoint` before any work is done."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        folder.mkdir()
        start.write(start.model, folder)
        found = read_checkpoint(folder)
    own, read = start.model.state_dict(), found.model.state_dict()
    other = [name for name, t in own.items() if "pooler." not in name and not torch.equal(t, read[name])]
    if found.spec != start.spec or other:
        names = [name for name in start.spec.__slots__ if getattr(found.spec, name) != getattr(start.spec, name)]
        raise UnsupportedCheckpoint(
            f"a checkpoint like this one would come back with another {', '.join(names + other)}"
        )


def for_training(start: Start, query_length: int | None, document_length: int) -> EncodingSpec:
    """The spec for training: documents may be cut earlier than in use, queries later; short ones are filled as ever.

    Raises `TrainingError` for queries longer than the model's positions.
    """
    spec, positions = start.spec, longest_input(start.model.backbone.config)
    filled = spec.expansion_length or spec.query_length
    longest = spec.query_length if query_length is None else max(query_length, filled)
    if positions is not None and longest > positions:
        raise TrainingError(
            f"expected a query_length of at most the model's {positions} positions, found {query_length}"
        )
    document_length = min(document_length, spec.document_length)
    return replace(spec, query_length=longest, expansion_length=filled, document_length=document_length)

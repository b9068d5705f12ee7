"""What training starts from, and the folder that it leaves: a checkpoint in Stanford's layout, which `export` reads.

A start is a ColBERT checkpoint in any layout that `checkpoints` reads, or a sentence encoder (config.json, weights,
tokenizer.json), whose states a new projection takes to `dim` columns.
"""

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from refcolbert.errors import TrainingError, UnsupportedCheckpoint
from refcolbert.spec import EncodingSpec

from .backbones import build_backbone, fill_backbone, longest_input, read_config
from .checkpoints import LAYOUTS, read_checkpoint
from .colbert import ColbertModel, Dense
from .cross_encoder import is_cross_encoder
from .frames import load_tokenizer, plain_json
from .replacing import replace_folder
from .stanford import METADATA, read_stanford, spec_of
from .tensors import read_tensors

__all__ = ["Head", "Start", "for_training", "read_start", "save_stanford"]

MARKERS = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]"}


@dataclass(frozen=True, slots=True)
class Start:
    """A model to train, how it encodes, and what its folder says besides the weights."""

    model: ColbertModel
    spec: EncodingSpec
    tokenizer_json: str
    tokenizer: Any  # transformers'
    settings: dict[str, Any]  # of artifact.metadata
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
    tokenizer, spec = load_tokenizer(folder), found.spec
    name = tokenizer.convert_ids_to_tokens
    settings = {
        "query_token_id": name(spec.query_prefix_ids[1]) if len(spec.query_prefix_ids) > 1 else None,
        "doc_token_id": name(spec.document_prefix_ids[1]) if len(spec.document_prefix_ids) > 1 else None,
        "dim": spec.dim,
        "query_maxlen": spec.query_length,
        "doc_maxlen": spec.document_length,
        "mask_punctuation": len(spec.skiplist) > 1,
        "attend_to_mask_tokens": spec.expansion_attended,
        "similarity": "cosine",
    }
    return Start(found.model, spec, found.tokenizer_json, tokenizer, settings, False)


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
    model = ColbertModel(backbone, [Dense(_projection(head.dim, config.hidden_size, seed))])
    return Start(model, spec_of(settings, tokenizer), plain_json(tokenizer), tokenizer, settings, True)


def _projection(dim: int, hidden: int, seed: int) -> torch.Tensor:  # -> [dim, hidden]
    """Orthogonal rows in a random direction: of all linear maps, one that keeps inner products best on the average."""
    if not 1 <= dim <= hidden:
        raise TrainingError(f"expected a dim of 1 to {hidden}, the width of the transformer's states; found {dim}")
    drawn = torch.randn(hidden, dim, generator=torch.Generator().manual_seed(seed))  # [hidden, dim]
    rows: torch.Tensor = torch.linalg.qr(drawn).Q.T.contiguous()
    return rows


def save_stanford(start: Start, out: Path) -> None:
    """Write the model's folder; on failure what was at `out` stays."""
    replace_folder(out, lambda folder: _write(start, folder))


def _write(start: Start, folder: Path) -> None:
    backbone: Any = start.model.backbone
    head: Any = start.model.head[0]
    config = {**backbone.config.to_dict(), "architectures": ["HF_ColBERT"]}
    config.pop("_name_or_path", None)
    start.tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    (folder / METADATA).write_text(json.dumps(start.settings, indent=1) + "\n")
    prefix = backbone.base_model_prefix
    used = {
        key: t for key, t in backbone.state_dict().items() if not key.startswith("pooler.")
    }  # ColBERT has no pooler
    tensors = {f"{prefix}.{key}": t.detach().contiguous() for key, t in used.items()}
    weights = folder / "model.safetensors"
    save_file({**tensors, "linear.weight": head.weight.detach().contiguous()}, weights)
    weights.chmod(0o644)  # safetensors gives it to its owner alone


def _check_saved(start: Start) -> None:
    """Refuse a model that would come back as another one. Raises `UnsupportedCheckpoint` before any work is done."""
    head: list[Any] = list(start.model.head)
    plain = len(head) == 1 and not head[0].identity_residual and head[0].residual is None and head[0].bias is None
    if not plain or not isinstance(head[0].activation, torch.nn.Identity):
        raise UnsupportedCheckpoint(
            "a trained checkpoint is saved in Stanford's layout, whose head is one linear layer without bias, residual "
            "or activation; this checkpoint's head is another"
        )
    with tempfile.TemporaryDirectory() as scratch:
        _write(start, Path(scratch))
        _, spec, _ = read_stanford(Path(scratch), trust_remote_code=False)
    if spec != start.spec:
        names = [name for name in spec.__slots__ if getattr(spec, name) != getattr(start.spec, name)]
        raise UnsupportedCheckpoint(
            f"a trained checkpoint is saved in Stanford's layout, which cannot say this checkpoint's {', '.join(names)}"
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

"""Finds the layout of a checkpoint folder and reads it with the reader of that layout. All give a `Checkpoint`.

Later steps do not depend on the layout, except `parity.origins`, which must not share code with the readers.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import UnsupportedCheckpoint

from ..model import ColbertModel
from ..tensors import Reading
from .backbones import longest_input
from .bge_m3 import is_bge_m3, read_bge_m3
from .multivector import is_multivector, read_multivector
from .overrides import Choices
from .pylate import is_pylate, read_pylate
from .sentence_transformers import named_prompt
from .stanford import is_stanford, read_stanford
from .xtr import is_xtr, read_xtr

__all__ = ["LAYOUTS", "Checkpoint", "layout_of", "read_checkpoint"]

log = logging.getLogger("refcolbert")

Parts = tuple[ColbertModel, EncodingSpec, str]  # the model, how it encodes, its tokenizer.json


@dataclass(frozen=True, slots=True)
class Layout:
    """How to recognize and to read one kind of folder."""

    name: str
    recognizes: Callable[[Path], bool]
    read: Callable[[Path, Reading], Parts]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained model in torch, whatever layout it came in."""

    layout: str
    model: ColbertModel
    spec: EncodingSpec
    tokenizer_json: str
    reading: Reading  # what the readers collected about it


# The order matters: a folder with modules.json may hold an older artifact.metadata, and the newer file decides.
LAYOUTS = (
    Layout("multivector", is_multivector, read_multivector),
    Layout("pylate", is_pylate, read_pylate),
    Layout("xtr", is_xtr, read_xtr),
    Layout("bge-m3", is_bge_m3, read_bge_m3),
    Layout("stanford", is_stanford, read_stanford),
)


def layout_of(folder: Path) -> Layout:
    """The first layout that recognizes the folder. Raises `UnsupportedCheckpoint`."""
    if not folder.is_dir():
        raise UnsupportedCheckpoint(f"expected a checkpoint folder at {folder}, found none")
    for layout in LAYOUTS:
        if layout.recognizes(folder):
            return layout
    raise UnsupportedCheckpoint(
        f"expected one of the layouts {', '.join(layout.name for layout in LAYOUTS)}, next-plaid at {folder}; "
        f"it holds {', '.join(sorted(p.name for p in folder.iterdir())[:12]) or 'nothing'}"
    )


def read_checkpoint(folder: Path, trust_remote_code: bool = False, choices: Choices | None = None) -> Checkpoint:
    """Read the folder with the reader of its layout. Raises `UnsupportedCheckpoint`."""
    choices = choices or Choices()
    layout, reading = layout_of(folder), Reading(trust_remote_code)
    model, spec, tokenizer_json = layout.read(folder, reading)
    texts: dict[str, Any] = {f"{side}_prompt": named_prompt(folder, name) for side, name in choices.prompts.items()}
    spec = _with_longer_queries(replace(spec, **texts), choices.query_length)
    _check_vocabulary(model, tokenizer_json)
    spec = _with_shorter_documents(_within_positions(model, spec), choices.document_length)
    return Checkpoint(layout.name, model.eval(), spec, tokenizer_json, reading)


def _with_longer_queries(spec: EncodingSpec, query_length: int | None) -> EncodingSpec:
    if query_length is None:
        return spec
    filled = spec.expansion_length or spec.query_length
    if spec.expansion_id is None or query_length < filled:
        raise UnsupportedCheckpoint(
            f"expected a query length above {filled} for a checkpoint that fills short queries, found {query_length}; "
            "otherwise set it in the checkpoint's own settings"
        )
    return replace(spec, query_length=query_length, expansion_length=filled)


def _with_shorter_documents(spec: EncodingSpec, document_length: int | None) -> EncodingSpec:
    if document_length is None:
        return spec
    if not 0 < document_length <= spec.document_length:
        raise UnsupportedCheckpoint(
            f"expected a document length of at most the checkpoint's {spec.document_length}, found {document_length}"
        )
    return replace(spec, document_length=document_length)


def _check_vocabulary(model: ColbertModel, tokenizer_json: str) -> None:
    """Raise `UnsupportedCheckpoint` for token ids outside the model's vocabulary: texts with them would fail."""
    config: Any = model.backbone.config
    tokens = Tokenizer.from_str(tokenizer_json).get_vocab(with_added_tokens=True)
    if max(tokens.values()) >= config.vocab_size:
        token = max(tokens, key=lambda t: tokens[t])
        raise UnsupportedCheckpoint(
            f"expected token ids below {config.vocab_size}, the model's vocabulary, found {tokens[token]}, {token!r}; "
            "perhaps the checkpoint was saved before its markers were added"
        )


def _within_positions(model: ColbertModel, spec: EncodingSpec) -> EncodingSpec:
    """The spec with texts cut at the model's last position. The original packages fail there with an index error.

    Raises `UnsupportedCheckpoint` when every query is longer, because queries are always filled.
    """
    positions = longest_input(model.backbone)
    if positions is None:
        return spec
    if spec.expansion_id is not None and (spec.expansion_length or spec.query_length) > positions:
        raise UnsupportedCheckpoint(
            f"expected a query length of at most the model's {positions} positions, found {spec.query_length}"
        )
    query, document = min(spec.query_length, positions), min(spec.document_length, positions)
    if document < spec.document_length or query < spec.query_length:
        log.warning("texts are cut at the model's %d positions; the checkpoint allows more", positions)
    return replace(spec, query_length=query, document_length=document)

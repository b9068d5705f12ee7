"""What verbs share: arguments, options, and how their values are read."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..encoding.encoder import Encoder
from ..index import Index

__all__ = [
    "BITS",
    "CANDIDATES",
    "EXACT",
    "GROUP",
    "HIT",
    "INDEX",
    "INFO",
    "MODEL",
    "NPROBE",
    "SAME_AS_INFO",
    "WHERE",
    "K",
    "bits",
    "json_option",
    "open_index",
    "parsed_json",
    "progress",
]

Command = TypeVar("Command", bound=Callable[..., Any])

BITS = "1, 2, 4, 8, float16 or float32."
INDEX = click.argument("index", type=click.Path(path_type=Path))
MODEL = click.option("--model", help="Model folder or hub id; default: the index's own, or the default model.")
K = click.option("-k", default=10, show_default=True, help="How many answers.")
WHERE = click.option("--where", help='Metadata filter as JSON: \'{"year": {"$gte": 2020}}\'.')
NPROBE = click.option("--nprobe", type=int, help="Cells probed for each query token.")
CANDIDATES = click.option("--candidates", type=int, help="Documents whose vectors are looked at.")
GROUP = click.option("--group", is_flag=True, help="Count the passages of a document as one answer, its best.")
EXACT = click.option("--exact", is_flag=True, help="Rank every document.")

HIT = "rank, score, id, text, metadata"  # what --json prints, for the help and the documents
INFO = (
    "one object: path, documents, tokens, dim, nbits, pool_factor, centroids, quantization_error, segments, deleted, "
    "generation, bytes, bytes_of, format_version, encoder"
)
SAME_AS_INFO = "what `info --json` prints"


def json_option(shape: str) -> Callable[[Command], Command]:
    """The option --json, whose help says what is printed: `shape` is the same in the help, the documents and a test."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print JSON: {shape}.")


def bits(nbits: str) -> int | str:
    """A number of bits, or the name of a type."""
    return int(nbits) if nbits.isdigit() else nbits


def open_index(index: Path, model: str | None) -> Index:
    """The index, with its own model or the one that is named."""
    return Index.open(index, None if model is None else Encoder.load(model))


def parsed_json(text: str | None) -> Any:
    """What --where holds. Raises `BadParameter`."""
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="--where") from error


def progress() -> bool:
    """Whether anybody watches: bars are for terminals, not for logs."""
    return sys.stderr.isatty()

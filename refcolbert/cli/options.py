"""Arguments and options that several verbs share, and how their values are read."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..arguments import MODES
from ..corpus.readers import PASSAGE_OF
from ..encoding.encoder import Encoder
from ..encoding.words import TOKENIZERS
from ..index import Index
from ..sharded import ShardedIndex, open_index
from ..storage.remote import is_url

__all__ = [
    "BITS",
    "CANDIDATES",
    "EXACT",
    "FILE",
    "GROUP",
    "HIT",
    "INDEX",
    "INFO",
    "MIN_SCORE",
    "MODE",
    "MODEL",
    "NPROBE",
    "SAME_AS_INFO",
    "TOKENIZER_CHOICES",
    "WHERE",
    "IndexPath",
    "K",
    "bits",
    "json_option",
    "open_with_model",
    "progress",
]

Command = TypeVar("Command", bound=Callable[..., Any])


def _parse_json(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:
    try:
        return None if value is None else json.loads(value)
    except ValueError as error:
        raise click.BadParameter(f"expected JSON, found {value!r}: {error}", ctx, param) from error


BITS = "1, 2, 4, 8, float16 or float32."
FILE = click.Path(exists=True, path_type=Path)


class IndexPath(click.Path):
    """A folder, or a URL such as s3://bucket/index."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The text of a URL as it is, else a path."""
        return value if is_url(value) else super().convert(value, param, ctx)


INDEX = click.argument("index", type=IndexPath(path_type=Path))
MODEL = click.option("--model", help="Model folder, hub id or small; default: the index's own, or the default model.")
K = click.option("-k", type=click.IntRange(1), default=10, show_default=True, help="Number of results.")
WHERE = click.option("--where", callback=_parse_json, help='Metadata filter as JSON: \'{"year": {"$gte": 2020}}\'.')
NPROBE = click.option("--nprobe", type=click.IntRange(1), help="Cells probed per query token.")
CANDIDATES = click.option("--candidates", type=click.IntRange(1), help="Documents that pruning keeps.")
GROUP = click.option("--group", "group_by", flag_value=PASSAGE_OF, help="Return only the best passage of a document.")
EXACT = click.option("--exact", is_flag=True, help="Rank every document.")
MODE = click.option(
    "--mode",
    type=click.Choice(MODES),
    default="late",
    show_default=True,
    help="Rank by late interaction, by words (BM25), or by both.",
)
MIN_SCORE = click.option("--min-score", type=float, help="Leave out hits whose similarity is below this, such as 0.5.")
TOKENIZER_CHOICES = ("auto", *TOKENIZERS)

# the names that --json prints, for the help and the documents
HIT = "rank, score, id, text, metadata, parts, similarity"
INFO = (
    "one object: path, documents, tokens, dim, nbits, pool_factor, words, centroids, quantization_error, segments, "
    "deleted, generation, bytes, bytes_of, format_version, encoder"
)
SAME_AS_INFO = "the object that `info --json` prints"


def json_option(shape: str) -> Callable[[Command], Command]:
    """The option --json; `shape` describes the output in the help, which a test compares with the output."""
    return click.option("--json", "as_json", is_flag=True, help=f"Print JSON: {shape}.")


def bits(nbits: str) -> int | str:
    """A number of bits, or the name of a type."""
    return int(nbits) if nbits.isdigit() else nbits


def open_with_model(index: Path | str, model: str | None) -> Index | ShardedIndex:
    """The index, with the model if one is named, else with its own."""
    return open_index(index, None if model is None else Encoder.load(model))


def progress() -> bool:
    """True if stderr is a terminal: progress bars are not for log files."""
    return sys.stderr.isatty()

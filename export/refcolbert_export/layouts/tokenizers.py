"""A checkpoint's tokenizer, and what it puts around a text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from refcolbert.errors import UnsupportedCheckpoint

__all__ = ["Frame", "frame_of", "frame_of_json", "load_tokenizer", "marker_id", "plain_json", "plain_tokenizer"]


@dataclass(frozen=True, slots=True)
class Frame:
    """The special ids around a text: ([CLS],) and ([SEP],) for BERT."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    def with_marker(self, marker: int) -> tuple[int, ...]:
        """The prefix with a marker inserted at position 1, where ColBERT puts it."""
        if not self.prefix:
            raise UnsupportedCheckpoint(
                "the marker is inserted after the first token, and this tokenizer puts none before a text; "
                "expected a tokenizer with a [CLS]-like token"
            )
        return (self.prefix[0], marker, *self.prefix[1:])


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> Any:
    """The tokenizer as transformers loads it, since that is what every origin does.

    Raises `UnsupportedCheckpoint` when it is not a `tokenizers` one or cuts texts on the left.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise UnsupportedCheckpoint(f"transformers cannot load the tokenizer of {folder}: {error}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise UnsupportedCheckpoint(
            f"{type(tokenizer).__name__} is a Python tokenizer; expected one with a tokenizer.json"
        )
    if tokenizer.truncation_side != "right" or tokenizer.padding_side != "right":
        raise UnsupportedCheckpoint("this tokenizer truncates or pads on the left; only the right side is supported")
    return tokenizer


def plain_json(tokenizer: Any) -> str:
    """tokenizer.json without the truncation and padding that a checkpoint may carry: both are the spec's."""
    return plain_tokenizer(tokenizer.backend_tokenizer.to_str())


def plain_tokenizer(tokenizer_json: str) -> str:
    """A tokenizer.json's text without truncation and padding."""
    plain = Tokenizer.from_str(tokenizer_json)
    plain.no_truncation()
    plain.no_padding()
    return str(plain.to_str(pretty=False))


def marker_id(tokenizer: Any, marker: str) -> int:
    """The id of a marker, the unknown token's when it has none. Raises `UnsupportedCheckpoint` without either."""
    found = tokenizer.convert_tokens_to_ids(marker)
    if found is None:
        raise UnsupportedCheckpoint(
            f"the marker {marker!r} is not in the vocabulary, which has no unknown token either"
        )
    return int(found)


def frame_of(tokenizer: Any) -> Frame:
    """What the tokenizer adds before and after one text."""
    return frame_of_json(plain_json(tokenizer))


def frame_of_json(tokenizer_json: str) -> Frame:
    """The same of a tokenizer.json that neither truncates nor pads."""
    encoding = Tokenizer.from_str(tokenizer_json).encode("a")
    added = encoding.special_tokens_mask  # 1 for what the post-processor added
    if 0 not in added:
        raise UnsupportedCheckpoint("the tokenizer turns the text 'a' into nothing; expected a tokenizer with letters")
    first = added.index(0)
    last = len(added) - added[::-1].index(0)
    return Frame(tuple(encoding.ids[:first]), tuple(encoding.ids[last:]))

"""A checkpoint's tokenizer, and the special tokens that it puts around a text."""

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

    def with_markers(self, query_marker: int | None = None, document_marker: int | None = None) -> dict[str, Any]:
        """The prefixes and suffixes of an `EncodingSpec`, by name. A marker goes after the first token."""
        markers = [marker for marker in (query_marker, document_marker) if marker is not None]
        if markers and not self.prefix and len(markers) < 2:
            raise UnsupportedCheckpoint(
                "expected two markers or none for a tokenizer that puts no token before a text, found one"
            )
        return {
            # Many decoders' tokenizers put no token before a text. Then the marker follows the text's first token.
            "marker_second": bool(markers and not self.prefix),
            "query_prefix_ids": self._prefix(query_marker),
            "query_suffix_ids": self.suffix,
            "document_prefix_ids": self._prefix(document_marker),
            "document_suffix_ids": self.suffix,
        }

    def _prefix(self, marker: int | None) -> tuple[int, ...]:
        if marker is None:
            return self.prefix
        return (*self.prefix[:1], marker, *self.prefix[1:])


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> Any:
    """The tokenizer as transformers loads it, because every original package does the same.

    Raises `UnsupportedCheckpoint` when it has no tokenizer.json, or truncates or pads on the left.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise UnsupportedCheckpoint(f"transformers cannot load the tokenizer of {folder}: {error}") from error
    if not getattr(tokenizer, "is_fast", False):
        raise UnsupportedCheckpoint(
            f"expected a tokenizer with a tokenizer.json, found {type(tokenizer).__name__}, which is written in Python"
        )
    if tokenizer.truncation_side != "right" or tokenizer.padding_side != "right":
        raise UnsupportedCheckpoint("expected a tokenizer that truncates and pads on the right, this one uses the left")
    return tokenizer


def plain_json(tokenizer: Any) -> str:
    """tokenizer.json without the checkpoint's truncation and padding: `EncodingSpec` holds both."""
    return plain_tokenizer(tokenizer.backend_tokenizer.to_str())


def plain_tokenizer(tokenizer_json: str) -> str:
    """The text of a tokenizer.json without truncation and padding."""
    plain = Tokenizer.from_str(tokenizer_json)
    plain.no_truncation()
    plain.no_padding()
    return str(plain.to_str(pretty=False))


def marker_id(tokenizer: Any, marker: str) -> int:
    """The id of a marker, or of the unknown token. Raises `UnsupportedCheckpoint` when the vocabulary has neither."""
    token_id = tokenizer.convert_tokens_to_ids(marker)
    if token_id is None:
        raise UnsupportedCheckpoint(
            f"expected the marker {marker!r} or an unknown token in the vocabulary, found neither"
        )
    return int(token_id)


def frame_of(tokenizer: Any) -> Frame:
    """The ids that the tokenizer adds before and after one text."""
    return frame_of_json(plain_json(tokenizer))


def frame_of_json(tokenizer_json: str) -> Frame:
    """The ids that a tokenizer.json without truncation and padding adds around one text."""
    encoding = Tokenizer.from_str(tokenizer_json).encode("a")
    # 1 for each token that the post-processor added
    added = encoding.special_tokens_mask
    if 0 not in added:
        raise UnsupportedCheckpoint(
            "expected a tokenizer that encodes letters, this one gives no token for the text 'a'"
        )
    first = added.index(0)
    last = len(added) - added[::-1].index(0)
    return Frame(tuple(encoding.ids[:first]), tuple(encoding.ids[last:]))

"""EncodingSpec: every choice that a trained checkpoint fixes about how text becomes token vectors.

A ColBERT checkpoint is weights plus conventions: which ids frame a text, how long it may be, whether a query is padded
with [MASK], which document rows are dropped. Implementations disagree on all of them, so the spec states each one. It
is plain data, written as `encoding.json` beside `model.onnx`. `tokens.py` follows the spec and does not know where the
model came from. With body(t) the tokenizer's ids of `prompt + t` without special tokens,

    query     prefix + body[: query_length - |prefix| - |suffix|] + suffix (+ expansion_id up to expansion_length)
    document  prefix + body[: document_length - |prefix| - |suffix|] + suffix

and rows whose id is in the side's skiplist are dropped. `marker_second` and `drop_first` are the exceptions to this.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from ..errors import InvalidModel

__all__ = ["SPEC_VERSION", "EncodingSpec"]

SPEC_VERSION = 1
# Written only where they are set, so that the files and hashes of models without them stay as they were.
RARE = ("marker_second", "drop_first")


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingSpec:
    """The rules by which one model encodes queries and documents. Immutable, comparable, written and read as JSON.

    Lengths count every token, markers included. Ids are the ids of the model's own tokenizer.

        >>> from refcolbert import Encoder
        >>> spec = Encoder.load().spec
        >>> spec.query_length, spec.document_length
        (256, 512)
        >>> EncodingSpec.from_json(spec.to_json()) == spec
        True
    """

    dim: int  # columns of a token vector
    query_length: int  # longest query
    document_length: int  # longest document
    query_prefix_ids: tuple[int, ...]  # ids before the text: ([CLS], [Q]) for ColBERT
    query_suffix_ids: tuple[int, ...]  # ids after the text, also after a text that was cut: ([SEP],)
    document_prefix_ids: tuple[int, ...]  # ([CLS], [D])
    document_suffix_ids: tuple[int, ...]  # ([SEP],)
    pad_id: int  # fills a batch to one length; attention 0, its rows are never returned
    expansion_id: int | None  # [MASK]: fills up a short query, its rows are kept; None: no query augmentation
    expansion_length: int | None = None  # short queries are filled up to it; None: to query_length
    expansion_attended: bool = False  # other tokens may attend to the expansion tokens
    pad_expands: bool = False  # "[PAD]" in the text of a query becomes expansion_id, and is attended
    skiplist: tuple[int, ...] = ()  # ids whose document rows are dropped (punctuation); ascending
    query_skiplist: tuple[int, ...] = ()  # ids whose query rows are dropped; ascending
    query_prompt: str = ""  # text put before every query, inside the length
    document_prompt: str = ""  # text put before every document, inside the length
    strip: bool = False  # remove surrounding white space from prompt and text before tokenizing
    lowercase: bool = False  # lower-case prompt and text before tokenizing (the tokenizer may do so too)
    marker_second: bool = False  # the first two tokens change places: the marker follows the first token of the text
    drop_first: bool = False  # the row of the first token is never returned, whatever its id

    def __post_init__(self) -> None:
        """Check each field by its rule, then the lengths against each other. Raises `InvalidModel`."""
        for names, expected, allows in RULES:
            for name in names.split():
                if not allows(getattr(self, name)):
                    raise _invalid(name, expected, getattr(self, name))
        if (self.expansion_length or 1) > self.query_length:
            raise _invalid("expansion_length", f"at most query_length, {self.query_length}", self.expansion_length)
        for side in ("query", "document"):
            frame = len(getattr(self, f"{side}_prefix_ids")) + len(getattr(self, f"{side}_suffix_ids"))
            if getattr(self, f"{side}_length") < frame:
                expected = f"at least the {frame} ids of its prefix and suffix"
                raise _invalid(f"{side}_length", expected, getattr(self, f"{side}_length"))

    def to_json(self) -> str:
        """Return the spec as JSON text with sorted keys; equal specs give equal text."""
        values = {name: value for name, value in asdict(self).items() if value or name not in RARE}
        return json.dumps({"spec_version": SPEC_VERSION, **values}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the spec that `to_json` wrote. A missing, unknown or ill-typed key raises `InvalidModel`."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidModel(f"encoding.json must be JSON, found: {error}; export the model again") from error
        if not isinstance(values, dict):
            raise InvalidModel(f"encoding.json must hold one object, found {type(values).__name__}")
        version = values.pop("spec_version", None)
        if version != SPEC_VERSION:
            raise InvalidModel(
                f"encoding.json must have spec_version {SPEC_VERSION}, found {version!r}; export the model again, "
                "or upgrade refcolbert if the version is newer"
            )
        names = {field.name for field in fields(cls)}
        missing, unknown = sorted(names - set(values) - set(RARE)), sorted(set(values) - names)
        if missing or unknown:
            raise InvalidModel(
                f"encoding.json must have exactly the keys of an EncodingSpec, found missing keys {missing}, "
                f"unknown keys {unknown}; export the model again"
            )
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)


def _invalid(name: str, expected: str, found: object) -> InvalidModel:
    return InvalidModel(f"encoding spec: {name} must be {expected}, found {found!r}; export the model again")


# `type(value) is int`, because isinstance would let true pass as 1.
def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


def _is_ids(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_is_id, value))


def _is_text(value: Any) -> bool:
    # JSON can spell a lone surrogate. No tokenizer takes one, so the spec would fail at its first text.
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


# (fields, the expected value for the error message, the check of a value); every field has one rule.
RULES: list[tuple[str, str, Callable[[Any], bool]]] = [
    ("dim query_length document_length", "an integer >= 1", _is_count),
    ("pad_id", "a token id, 0 to 2**31 - 1", _is_id),
    ("expansion_id", "null or a token id, 0 to 2**31 - 1", lambda value: value is None or _is_id(value)),
    ("expansion_length", "null or an integer >= 1", lambda value: value is None or _is_count(value)),
    ("query_prefix_ids query_suffix_ids document_prefix_ids document_suffix_ids", "a tuple of token ids", _is_ids),
    (
        "skiplist query_skiplist",
        "an ascending tuple of token ids without repetition",
        lambda value: _is_ids(value) and list(value) == sorted(set(value)),
    ),
    ("query_prompt document_prompt", "text without lone surrogates", _is_text),
    (
        "expansion_attended pad_expands strip lowercase marker_second drop_first",
        "true or false",
        lambda value: type(value) is bool,
    ),
]

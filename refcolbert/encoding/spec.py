"""EncodingSpec: every switch that a trained checkpoint fixes about how text becomes token vectors.

A ColBERT checkpoint is weights plus conventions: which ids frame a text, how long it may be, whether a query is padded
with [MASK], which document rows are dropped. Implementations disagree on all of them, so none is left implicit. The
spec is plain data, written as `encoding.json` beside `model.onnx`, and `tokens.py` follows it without knowing where the
model came from. With body(t) the tokenizer's ids of `prompt + t` without special tokens,

    query     prefix + body[: query_length - |prefix| - |suffix|] + suffix (+ expansion_id up to expansion_length)
    document  prefix + body[: document_length - |prefix| - |suffix|] + suffix

and rows whose id is in the side's skiplist are dropped.
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from ..errors import InvalidModel

__all__ = ["SPEC_VERSION", "EncodingSpec"]

SPEC_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodingSpec:
    """How one model encodes queries and documents; immutable, comparable, JSON both ways.

    Lengths count every token, markers included. Ids are those of the model's own tokenizer.
    """

    dim: int  # columns of a token vector
    query_length: int  # longest query
    document_length: int  # longest document
    query_prefix_ids: tuple[int, ...]  # before the text: ([CLS], [Q]) for ColBERT
    query_suffix_ids: tuple[int, ...]  # after it, kept when the text is cut: ([SEP],)
    document_prefix_ids: tuple[int, ...]  # ([CLS], [D])
    document_suffix_ids: tuple[int, ...]  # ([SEP],)
    pad_id: int  # fills a batch to one length; attention 0, its rows are never returned
    expansion_id: int | None  # [MASK]: fills up a short query, its rows are kept; None: no query augmentation
    expansion_length: int | None = None  # what short queries are filled up to; None: query_length
    expansion_attended: bool = False  # whether other tokens may attend to the expansion tokens
    pad_expands: bool = False  # a pad_id that the query's own text spells ("[PAD]") becomes expansion_id, attended
    skiplist: tuple[int, ...] = ()  # ids whose document rows are dropped (punctuation); ascending
    query_skiplist: tuple[int, ...] = ()  # ids whose query rows are dropped; ascending
    query_prompt: str = ""  # text put before every query, inside the length
    document_prompt: str = ""  # text put before every document, inside the length
    strip: bool = False  # remove surrounding white space from prompt and text before tokenizing
    lowercase: bool = False  # lower-case prompt and text before tokenizing (besides what the tokenizer does)

    def __post_init__(self) -> None:
        """Reject a spec that no text could satisfy."""
        for name, least in (("dim", 1), ("query_length", 1), ("document_length", 1), ("pad_id", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise InvalidModel(f"encoding spec: {name} must be an integer >= {least}, found {value!r}")
        skiplists, frames = ("skiplist", "query_skiplist"), ("query_prefix_ids", "query_suffix_ids")
        for name in (*skiplists, *frames, "document_prefix_ids", "document_suffix_ids"):
            ids = getattr(self, name)
            if not isinstance(ids, tuple) or any(type(i) is not int or not 0 <= i < 2**31 for i in ids):
                raise InvalidModel(f"encoding spec: {name} must be a tuple of token ids >= 0, found {ids!r}")
        for name in skiplists:
            if list(getattr(self, name)) != sorted(set(getattr(self, name))):
                raise InvalidModel(f"encoding spec: {name} must be ascending and without repetition")
        fill = self.expansion_length
        if fill is not None and (type(fill) is not int or not 1 <= fill <= self.query_length):
            raise InvalidModel(f"encoding spec: expansion_length must be null or 1 to query_length, found {fill!r}")
        if self.expansion_id is not None and (type(self.expansion_id) is not int or self.expansion_id < 0):
            raise InvalidModel(f"encoding spec: expansion_id must be null or a token id, found {self.expansion_id!r}")
        for name in ("expansion_attended", "pad_expands", "strip", "lowercase"):
            if type(getattr(self, name)) is not bool:
                raise InvalidModel(f"encoding spec: {name} must be true or false, found {getattr(self, name)!r}")
        for name in ("query_prompt", "document_prompt"):
            if not isinstance(getattr(self, name), str):
                raise InvalidModel(f"encoding spec: {name} must be text, found {getattr(self, name)!r}")
            if any("\ud800" <= character <= "\udfff" for character in getattr(self, name)):
                raise InvalidModel(f"encoding spec: {name} holds a lone surrogate, which no tokenizer takes")
        for side, length in (("query", self.query_length), ("document", self.document_length)):
            frame = len(getattr(self, f"{side}_prefix_ids")) + len(getattr(self, f"{side}_suffix_ids"))
            if length < max(frame, 1):
                raise InvalidModel(
                    f"encoding spec: {side}_length is {length}, its prefix and suffix alone take {frame}"
                )

    def to_json(self) -> str:
        """Return the spec as JSON text with sorted keys; equal specs give equal text."""
        return json.dumps({"spec_version": SPEC_VERSION, **asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote. A missing, unknown or ill-typed key is an `InvalidModel`, never a guess."""
        try:
            found: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidModel(f"encoding.json is not JSON: {error}") from error
        if not isinstance(found, dict):
            raise InvalidModel(f"encoding.json must hold one object, found {type(found).__name__}")
        version = found.pop("spec_version", None)
        if version != SPEC_VERSION:
            raise InvalidModel(
                f"encoding.json has spec_version {version!r}, this version of refcolbert reads {SPEC_VERSION}"
            )
        names = {field.name for field in fields(cls)}
        if set(found) != names:
            missing, unknown = sorted(names - set(found)), sorted(set(found) - names)
            raise InvalidModel(f"encoding.json: missing keys {missing}, unknown keys {unknown}; export the model again")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in found.items()}
        return cls(**values)

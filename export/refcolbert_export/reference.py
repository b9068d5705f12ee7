"""A checkpoint's own numbers by a second path: what the export is compared with.

Shares nothing with the readers. Texts go through transformers' tokenizer with the origin's padding and truncation, ids
through `AutoModel.from_pretrained`, states through the head's raw tensors, as each origin's source does it.
"""

import string
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

from .tensors import read_json, read_tensors

__all__ = ["Reference", "ReferenceTokens", "StanfordReference", "reference_for"]


@dataclass(frozen=True, slots=True)
class ReferenceTokens:
    """One text as the origin feeds it to its model."""

    ids: NDArray[np.int64]  # [n]
    attention: NDArray[np.int64]  # [n]
    keep: NDArray[np.bool_]  # [n]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' warnings and progress bars off the terminal, and restore its settings."""
    settings = transformers.utils.logging
    level, bars = settings.get_verbosity(), settings.is_progress_bar_enabled()
    settings.set_verbosity_error()
    settings.disable_progress_bar()
    try:
        yield
    finally:
        settings.set_verbosity(level)
        if bars:
            settings.enable_progress_bar()


class Reference(ABC):
    """The origin's encoding of one checkpoint, in torch."""

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        self.folder = folder
        with quiet():  # transformers reports the head's tensors as unexpected: they are applied in `head`
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
            self.backbone: Any = self.load_backbone(trust_remote_code).eval()

    def load_backbone(self, trust_remote_code: bool) -> Any:
        """The transformer as its library loads it."""
        return AutoModel.from_pretrained(self.folder, dtype=torch.float32, trust_remote_code=trust_remote_code)

    @abstractmethod
    def query(self, text: str) -> ReferenceTokens:
        """The ids of one query."""

    @abstractmethod
    def document(self, text: str) -> ReferenceTokens:
        """The ids of one document."""

    @abstractmethod
    def head(self, states: torch.Tensor) -> torch.Tensor:
        """[batch, length, hidden] -> [batch, length, dim], not yet normalized."""

    def vectors(self, ids: NDArray[np.int64], attention: NDArray[np.int64]) -> NDArray[np.float32]:
        """[batch, length] twice -> unit rows [batch, length, dim]."""
        with torch.inference_mode():
            given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(attention)}
            states = self.backbone(**given)[0]
            out: NDArray[np.float32] = torch.nn.functional.normalize(self.head(states), p=2, dim=2).numpy()
        return out


class StanfordReference(Reference):
    """colbert-ai 0.2.22: modeling/tokenization/*.py and modeling/colbert.py."""

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        super().__init__(folder, trust_remote_code)
        path = folder / "artifact.metadata"
        found = read_json(path) if path.is_file() else {}
        self.settings = found.get("config", found)
        self.linear = read_tensors(folder)["linear.weight"]  # [dim, hidden]

    def query(self, text: str) -> ReferenceTokens:
        """Padded to query_maxlen - 1, marker inserted, every padding id replaced by the mask id."""
        ids, attention = self._framed(text, "query_token_id", "[unused0]", "query_maxlen", 32, "max_length")
        ids[ids == self.tokenizer.pad_token_id] = self.tokenizer.mask_token_id
        if self.settings.get("attend_to_mask_tokens"):
            attention[ids == self.tokenizer.mask_token_id] = 1
        return ReferenceTokens(ids, attention, np.ones(len(ids), np.bool_))

    def document(self, text: str) -> ReferenceTokens:
        """Natural length, marker inserted; punctuation and padding ids do not count."""
        ids, attention = self._framed(text, "doc_token_id", "[unused1]", "doc_maxlen", 220, "longest")
        symbols = string.punctuation if self.settings.get("mask_punctuation", True) else ""
        dropped = [self.tokenizer.encode(symbol, add_special_tokens=False)[0] for symbol in symbols]
        keep = np.array([i not in dropped and i != self.tokenizer.pad_token_id for i in ids.tolist()])
        return ReferenceTokens(ids, attention, keep)

    def head(self, states: torch.Tensor) -> torch.Tensor:
        """linear.weight, no bias."""
        return states @ self.linear.T

    def _framed(
        self, text: str, marker_key: str, marker: str, length_key: str, length: int, padding: str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids and attention [n] with the marker at position 1."""
        limit = (self.settings.get(length_key) or length) - 1
        found = self.tokenizer([text], padding=padding, truncation=True, max_length=limit)
        marker_id = self.tokenizer.convert_tokens_to_ids(self.settings.get(marker_key) or marker)
        ids, attention = found["input_ids"][0], found["attention_mask"][0]
        return np.array([ids[0], marker_id, *ids[1:]]), np.array([attention[0], 1, *attention[1:]])


REFERENCES: dict[str, type[Reference]] = {"stanford": StanfordReference}


def reference_for(folder: Path, layout: str, trust_remote_code: bool = False) -> Reference:
    """The second path for a checkpoint of that layout."""
    return REFERENCES[layout](folder, trust_remote_code)

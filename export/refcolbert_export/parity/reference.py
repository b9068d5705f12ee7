"""The second path: the numbers of a checkpoint with which an export is compared.

It shares only the parsing of files with the readers. Texts go through transformers' tokenizer with the padding and
truncation of the original package. Ids go through `AutoModel.from_pretrained`, states through the head's raw tensors.
`origins` follows the source of each original package.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer, MT5EncoderModel, T5EncoderModel

from ..tensors import read_json, read_tensors

__all__ = ["Reference", "ReferenceTokens", "raw_dense"]

# For these AutoModel would need a decoder's input.
ENCODERS: dict[str, Any] = {"t5": T5EncoderModel, "mt5": MT5EncoderModel}


@dataclass(frozen=True, slots=True)
class ReferenceTokens:
    """One text as the original package gives it to its model."""

    ids: NDArray[np.int64]  # [n]
    attention: NDArray[np.int64]  # [n]
    keep: NDArray[np.bool_]  # [n]


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress transformers' warnings and progress bars inside the block."""
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
    """The original package's encoding of one checkpoint, in torch."""

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        self.folder = folder
        # Replaces the checkpoint's length at which queries are cut.
        self.query_length: int | None = None
        # Documents are cut there, or before.
        self.longest_document = 1 << 30
        # transformers reports the head's tensors as unexpected. They are applied in `head`.
        with quiet():
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
            self.backbone: Any = self.load_backbone(trust_remote_code).eval()
        self.positions = self._positions()

    def load_backbone(self, trust_remote_code: bool) -> Any:
        """The transformer as its library loads it."""
        kind = ENCODERS.get(str(read_json(self.folder / "config.json").get("model_type")), AutoModel)
        return kind.from_pretrained(self.folder, dtype=torch.float32, trust_remote_code=trust_remote_code)

    def _positions(self) -> int:
        """The longest input of the transformer: rows of its position table, without those before the first position."""
        tables = [m for name, m in self.backbone.named_modules() if name.endswith("position_embeddings")]
        if not tables or not hasattr(tables[0], "num_embeddings"):
            return 1 << 30
        return int(tables[0].num_embeddings) - (0 if tables[0].padding_idx is None else tables[0].padding_idx + 1)

    def tokenize(self, text: str, **options: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids and attention [n] of one text, with the options of the original package."""
        encoding = self.tokenizer([text], **options)
        return np.array(encoding["input_ids"][0], np.int64), np.array(encoding["attention_mask"][0], np.int64)

    def marked(
        self, ids: NDArray[np.int64], attention: NDArray[np.int64], marker: str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids and attention [n + 1] with the marker after the first token, if the text has one."""
        place = min(len(ids), 1)
        return np.insert(ids, place, self.tokenizer.convert_tokens_to_ids(marker)), np.insert(attention, place, 1)

    @abstractmethod
    def query(self, text: str) -> ReferenceTokens:
        """The tokens of one query."""

    @abstractmethod
    def document(self, text: str) -> ReferenceTokens:
        """The tokens of one document."""

    def words(self) -> list[str]:
        """Markers and skiplist words of the checkpoint's settings, which belong in the awkward texts."""
        return []

    @abstractmethod
    def head(self, states: torch.Tensor) -> torch.Tensor:
        """[batch, length, hidden] -> [batch, length, dim], not yet normalized."""

    def vectors(self, ids: NDArray[np.int64], attention: NDArray[np.int64]) -> NDArray[np.float32]:
        """[batch, length] twice -> unit rows [batch, length, dim]."""
        with torch.inference_mode():
            states = self.backbone(input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(attention))[0]
            out: NDArray[np.float32] = torch.nn.functional.normalize(self.head(states), p=2, dim=2).numpy()
        return out


def raw_dense(folder: Path, default_activation: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """One Dense folder as a function of its raw tensors: activation(x W^T + b) + residual."""
    config, t = read_json(folder / "config.json"), read_tensors(folder)
    activation = getattr(torch.nn, str(config.get("activation_function", default_activation)).rsplit(".", 1)[-1])()

    def apply(x: torch.Tensor) -> torch.Tensor:  # [batch, length, in] -> [batch, length, out]
        out: torch.Tensor = activation(x @ t["linear.weight"].T + t.get("linear.bias", torch.zeros(1)))
        if config.get("use_residual"):
            out = out + (x @ t["residual.weight"].T if "residual.weight" in t else x)
        return out

    return apply

"""Encoding as in each original package, one class per layout, written after its source."""

import string
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers.normalizers import Lowercase
from tokenizers.normalizers import Sequence as NormalizerSequence

from refcolbert.errors import UnsupportedCheckpoint

from ..layouts.overrides import Choices
from ..tensors import read_json, read_json_list, read_tensor_file, read_tensors
from .reference import Reference, ReferenceTokens, raw_dense

__all__ = [
    "BgeM3Reference",
    "MultiVectorReference",
    "PyLateReference",
    "StanfordReference",
    "XtrReference",
    "reference_for",
]


class StanfordReference(Reference):
    """colbert-ai 0.2.22: modeling/tokenization/*.py and modeling/colbert.py."""

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        super().__init__(folder, trust_remote_code)
        path = folder / "artifact.metadata"
        metadata = read_json(path) if path.is_file() else {}
        self.settings = metadata.get("config", metadata)
        self.linear = read_tensors(folder)["linear.weight"]  # [dim, hidden]

    def query(self, text: str) -> ReferenceTokens:
        """Padded to query_maxlen - 1, marker inserted, every padding id replaced by the mask id."""
        length = self.settings.get("query_maxlen") or 32
        ids, attention = self._framed(text, "query_token_id", "[unused0]", length, "max_length")
        # A query without padding was perhaps cut.
        if self.query_length is not None and attention.all():
            ids, attention = self._framed(text, "query_token_id", "[unused0]", self.query_length, "longest")
        ids[ids == self.tokenizer.pad_token_id] = self.tokenizer.mask_token_id
        if self.settings.get("attend_to_mask_tokens"):
            attention[ids == self.tokenizer.mask_token_id] = 1
        return ReferenceTokens(ids, attention, np.ones(len(ids), np.bool_))

    def document(self, text: str) -> ReferenceTokens:
        """Natural length, marker inserted. Rows of punctuation and padding are dropped."""
        length = min(self.settings.get("doc_maxlen") or 220, self.longest_document)
        ids, attention = self._framed(text, "doc_token_id", "[unused1]", length, "longest")
        symbols = string.punctuation if self.settings.get("mask_punctuation", True) else ""
        dropped = [self.tokenizer.encode(symbol, add_special_tokens=False)[0] for symbol in symbols]
        keep = np.array([i not in dropped and i != self.tokenizer.pad_token_id for i in ids.tolist()])
        return ReferenceTokens(ids, attention, keep)

    def words(self) -> list[str]:
        """Both markers."""
        return [self.settings.get(f"{side}_token_id") or f"[unused{i}]" for i, side in enumerate(("query", "doc"))]

    def head(self, states: torch.Tensor) -> torch.Tensor:
        """linear.weight, no bias."""
        return states @ self.linear.T

    def _framed(
        self, text: str, marker_key: str, marker: str, length: int, padding: str
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids and attention [n] with the marker at position 1."""
        limit = min(length, self.positions) - 1
        ids, attention = self.tokenize(text, padding=padding, truncation=True, max_length=limit)
        return self.marked(ids, attention, self.settings.get(marker_key) or marker)


class ChainReference(Reference):
    """Shared by the layouts with modules.json: the transformer in a subfolder, and a chain of Dense folders."""

    default_activation = "Identity"

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        entries = read_json_list(folder / "modules.json")
        super().__init__(folder / entries[0]["path"], trust_remote_code)
        self.settings = read_json(folder / "config_sentence_transformers.json")
        bert = self.folder / "sentence_bert_config.json"
        self.transformer = read_json(bert) if bert.is_file() else {}
        dense = [folder / e["path"] for e in entries if e["type"].endswith(".Dense")]
        self.chain = [raw_dense(path, self.default_activation) for path in dense]
        self.chosen: dict[str, str] = {}  # side -> name of its prompt, as `prompt_name` chooses it
        self.modules = {e["type"].rsplit(".", 1)[-1]: folder / e["path"] for e in entries}

    def head(self, states: torch.Tensor) -> torch.Tensor:
        """One Dense after the other."""
        for dense in self.chain:
            states = dense(states)
        return states


class PyLateReference(ChainReference):
    """PyLate 1.6: models/colbert.py, on sentence-transformers 5.3: models/Transformer.py."""

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        super().__init__(folder, trust_remote_code)
        self.markers = [self.settings.get(f"{side}_prefix", f"[{side[0].upper()}] ") for side in ("query", "document")]
        self.tokenizer.add_tokens([marker for marker in self.markers if marker])
        # Set by name: tokenizers 0.23 changes the spelling of an added token that it normalizes, and loses its id.
        if self.tokenizer.mask_token is not None:
            self.tokenizer.pad_token = self.tokenizer.mask_token
        elif self.tokenizer.eos_token is not None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        words = self.settings.get("skiplist_words")
        words = list(string.punctuation) if words is None else words
        self.skiplist = [self.tokenizer.convert_tokens_to_ids(word) for word in words]
        self.skipped = words

    def words(self) -> list[str]:
        """Both markers and the skiplist."""
        return [*self.markers, *self.skipped]

    def query(self, text: str) -> ReferenceTokens:
        """Marker after the first token. With expansion the query is filled and every row kept."""
        expand = self.settings.get("do_query_expansion")
        expand = True if expand is None else expand
        length = self.settings.get("query_length") or 32
        text = self._prompt("query") + text
        ids, attention = self._framed(text, self.markers[0], length, "max_length" if expand else True)
        # A query without padding was perhaps cut.
        if self.query_length is not None and attention.all():
            ids, attention = self._framed(text, self.markers[0], self.query_length, True)
        if expand and self.settings.get("attend_to_expansion_tokens"):
            attention[:] = 1
        return ReferenceTokens(ids, attention, np.full(len(ids), True) if expand else attention.astype(bool))

    def document(self, text: str) -> ReferenceTokens:
        """Marker after the first token. Rows of the skiplist are dropped."""
        length = min(self.settings.get("document_length") or 180, self.longest_document)
        ids, attention = self._framed(self._prompt("document") + text, self.markers[1], length, True)
        return ReferenceTokens(ids, attention, ~np.isin(ids, self.skiplist) & attention.astype(bool))

    def _prompt(self, side: str) -> str:
        name = self.chosen.get(side, self.settings.get("default_prompt_name"))
        return (self.settings.get("prompts") or {}).get(name) or ""

    def _framed(self, text: str, marker: str, length: int, padding: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        text = text.strip()
        text = text.lower() if self.transformer.get("do_lower_case") else text
        length = min(length, self.positions)
        limit = length - 1 if marker else length
        ids, attention = self.tokenize(text, padding=padding, truncation="longest_first", max_length=limit)
        if not marker:
            return ids, attention
        return self.marked(ids, attention, marker)


class MultiVectorReference(ChainReference):
    """sentence-transformers 6.2: base/modules/transformer.py, multi_vector_encoder/modules/multi_vector_mask.py."""

    default_activation = "Tanh"

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        super().__init__(folder, trust_remote_code)
        limit = self.transformer.get("max_seq_length") or self.tokenizer.model_max_length
        self.tokenizer.model_max_length = min(limit, self.positions)
        backend = self.tokenizer.backend_tokenizer
        if self.transformer.get("do_lower_case") and "Lowercase" not in str(backend.normalizer):
            steps = [] if backend.normalizer is None else [backend.normalizer]
            backend.normalizer = NormalizerSequence([Lowercase(), *steps])
        self.mask = read_json(self.modules["MultiVectorMask"] / "config.json")
        unknown = self.tokenizer.unk_token_id
        ids = {word: self.tokenizer.convert_tokens_to_ids(word) for word in self.mask.get("skiplist_words") or []}
        self.skiplist = [i for word, i in ids.items() if i != unknown or word == self.tokenizer.unk_token]

    def words(self) -> list[str]:
        """The prompts, which contain the markers, and the skiplist."""
        return [self._prompt("query"), self._prompt("document"), *(self.mask.get("skiplist_words") or [])]

    def query(self, text: str) -> ReferenceTokens:
        """Prompt and text cut together, then filled as query_expansion says."""
        expansion = self.transformer.get("query_expansion")
        length = self.transformer.get("query_length")
        options: dict[str, Any] = {"padding": True, "max_length": length and min(length, self.positions)}
        if expansion and expansion["strategy"] == "fixed":
            options = {"padding": "max_length", "max_length": expansion["length"]}
        elif expansion and options["max_length"]:
            options["max_length"] = max(options["max_length"], expansion["length"])
        ids, attention = self.tokenize(self._prompt("query") + text, truncation="longest_first", **options)
        filled = np.full(len(ids), False)
        if expansion:
            missing = max(expansion["length"] - len(ids), 0)
            ids, attention = np.pad(ids, (0, missing)), np.pad(attention, (0, missing))
            filled = (attention == 0) & (np.arange(len(ids)) < expansion["length"])
            ids[filled] = self._expansion_id(expansion)
            attention = np.where(filled & bool(expansion.get("attend")), 1, attention)
        return ReferenceTokens(ids, attention, (attention.astype(bool) | filled) & self._counts(ids, "query"))

    def document(self, text: str) -> ReferenceTokens:
        """Prompt and text cut together. Rows of the skiplist are dropped."""
        length = self.transformer.get("document_length") or self.tokenizer.model_max_length
        options = {"padding": True, "max_length": min(length, self.positions, self.longest_document)}
        ids, attention = self.tokenize(self._prompt("document") + text, truncation="longest_first", **options)
        keep = attention.astype(bool) & self._counts(ids, "document")
        if self.mask.get("keep_only_token_ids"):
            keep &= np.isin(ids, self.mask["keep_only_token_ids"])
        return ReferenceTokens(ids, attention, keep)

    def _expansion_id(self, expansion: dict[str, Any]) -> int:
        if expansion.get("token") is not None:
            return int(self.tokenizer.convert_tokens_to_ids(expansion["token"]))
        mask = self.tokenizer.mask_token_id
        return int(self.tokenizer.eos_token_id if mask is None else mask)

    def _counts(self, ids: NDArray[np.int64], task: str) -> NDArray[np.bool_]:
        tasks = self.mask.get("skiplist_tasks") or ["document"]
        return ~np.isin(ids, self.skiplist) if task in tasks else np.full(len(ids), True)

    def _prompt(self, side: str) -> str:
        prompts = self.settings.get("prompts") or {}
        if side in self.chosen:
            return prompts[self.chosen[side]] or ""
        for name in (side, *(("passage", "corpus") if side == "document" else ())):
            if name in prompts:
                return prompts[name] or ""
        return prompts.get(self.settings.get("default_prompt_name")) or ""


class XtrReference(Reference):
    """The XTR of WARP: modeling/xtr.py."""

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        super().__init__(folder, trust_remote_code)
        self.dense = raw_dense(folder / "2_Dense", "Identity")

    def query(self, text: str) -> ReferenceTokens:
        """At most 32 tokens."""
        return self._side(text, 32)

    def document(self, text: str) -> ReferenceTokens:
        """At most 512 tokens."""
        return self._side(text, min(512, self.longest_document))

    def head(self, states: torch.Tensor) -> torch.Tensor:
        """The one Dense."""
        return self.dense(states)

    def _side(self, text: str, length: int) -> ReferenceTokens:
        """Padded to the full length. Rows of the padding id are dropped, so padding itself is left out here."""
        ids, attention = self.tokenize(text.lower(), padding="max_length", truncation=True, max_length=length)
        real = attention.astype(bool)
        return ReferenceTokens(ids[real], attention[real], ids[real] != self.tokenizer.pad_token_id)


class BgeM3Reference(Reference):
    """FlagEmbedding 1.4: inference/embedder/encoder_only/m3.py."""

    def __init__(self, folder: Path, trust_remote_code: bool = False) -> None:
        super().__init__(folder, trust_remote_code)
        self.linear = read_tensor_file(folder / "colbert_linear.pt")

    def query(self, text: str) -> ReferenceTokens:
        """As a document."""
        return self._side(text, 512)

    def document(self, text: str) -> ReferenceTokens:
        """At most 512 tokens, or the model's positions."""
        return self._side(text, min(512, self.longest_document))

    def _side(self, text: str, length: int) -> ReferenceTokens:
        """All rows but the first."""
        ids, attention = self.tokenize(text, truncation=True, max_length=min(length, self.positions))
        return ReferenceTokens(ids, attention, np.arange(len(ids)) > 0)

    def head(self, states: torch.Tensor) -> torch.Tensor:
        """One linear map with bias."""
        return states @ self.linear["weight"].T + self.linear["bias"]


REFERENCES: dict[str, type[Reference]] = {
    "stanford": StanfordReference,
    "pylate": PyLateReference,
    "multivector": MultiVectorReference,
    "xtr": XtrReference,
    "bge-m3": BgeM3Reference,
}


def reference_for(
    folder: Path, layout: str, trust_remote_code: bool = False, choices: Choices | None = None
) -> Reference:
    """The second path for a checkpoint. Raises `UnsupportedCheckpoint` for a choice that the layout does not allow."""
    choices, kind = choices or Choices(), REFERENCES[layout]
    if choices.query_length is not None and not issubclass(kind, StanfordReference | PyLateReference):
        raise UnsupportedCheckpoint(f"a query length cannot be chosen for the layout {layout}; set it in its settings")
    reference = kind(folder, trust_remote_code)
    reference.query_length = choices.query_length
    if choices.language is not None:
        reference.backbone.set_default_language(choices.language)
    reference.longest_document = choices.document_length or reference.longest_document
    if choices.prompts and isinstance(reference, ChainReference):
        reference.chosen = dict(choices.prompts)
    return reference

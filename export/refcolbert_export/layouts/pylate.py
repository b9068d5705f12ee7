"""The layout of PyLate: modules.json with a Transformer and Dense layers, ColBERT's switches beside the prompts.

Follows PyLate 1.6 (models/colbert.py, models/Dense.py) on sentence-transformers 5.3 (models/Transformer.py):

- The marker is an added token inserted at position 1, so its spelling in a text becomes the marker too.
- Texts are stripped, and lower-cased when sentence_bert_config.json says so.
- A skiplist word that is not in the vocabulary means the unknown token: then every unknown token is dropped.
- A prompt is used only when `default_prompt_name` names it, for queries and for documents.
"""

import string
from pathlib import Path
from typing import Any

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import UnsupportedCheckpoint

from ..model import ColbertModel
from ..tensors import Account, Reading, read_json
from .sentence_transformers import CONFIG, INERT, as_texts, read_model, read_modules, read_settings
from .tokenizers import frame_of, load_tokenizer, marker_id, plain_json

__all__ = ["is_pylate", "read_pylate"]

DEFAULTS: dict[str, Any] = {
    "query_prefix": "[Q] ",
    "document_prefix": "[D] ",
    "query_length": 32,
    "document_length": 180,
    "do_query_expansion": True,
    "attend_to_expansion_tokens": False,
    "skiplist_words": list(string.punctuation),
}
# PyLate uses Transformer and Dense only, and normalizes itself.
DROPPED_MODULES = ("Pooling", "Normalize")


def is_pylate(folder: Path) -> bool:
    """True when the folder is PyLate's, by its model type or by a setting that only PyLate writes."""
    if not (folder / "modules.json").is_file() or not (folder / CONFIG).is_file():
        return False
    config = read_json(folder / CONFIG)
    return config.get("model_type") == "ColBERT" or ("model_type" not in config and "query_prefix" in config)


def read_pylate(folder: Path, reading: Reading) -> tuple[ColbertModel, EncodingSpec, str]:
    """The model, its spec and its tokenizer.json. Raises `UnsupportedCheckpoint`."""
    modules = read_modules(folder)
    unknown = [m.kind for m in modules[1:] if m.kind not in ("Dense", *DROPPED_MODULES)]
    if unknown:
        raise UnsupportedCheckpoint(
            f"expected Transformer and Dense in modules.json, as PyLate writes, found {unknown}"
        )
    transformer = modules[0].folder
    # PyLate's Dense has no default activation and refuses a configuration without one.
    model = read_model(modules, None, reading)
    settings = _settings(folder, reading)
    tokenizer = load_tokenizer(transformer, reading.trust_remote_code)
    tokenizer.add_tokens([p for p in (settings["query_prefix"], settings["document_prefix"]) if p])
    return model, _spec(settings, _lowercase(transformer, reading), tokenizer, model.dim), plain_json(tokenizer)


def _settings(folder: Path, reading: Reading) -> dict[str, Any]:
    account = Account(read_json(folder / CONFIG), CONFIG)
    settings = {key: account.take(key, default) for key, default in DEFAULTS.items()}
    prompts = as_texts(account.take("prompts"), CONFIG)
    settings["prompt"] = prompts.get(account.take("default_prompt_name", ""), "")
    account.ignore(INERT)
    account.close(reading)
    return settings


def _lowercase(transformer: Path, reading: Reading) -> bool:
    account = Account(read_settings(transformer), "sentence_bert_config.json")
    lowercase = bool(account.take("do_lower_case", False))
    account.ignore(
        ("max_seq_length|transformer_task|modality_config|module_output_name|unpad_inputs|processing_kwargs",)
    )
    account.close(reading)
    return lowercase


def _spec(settings: dict[str, Any], lowercase: bool, tokenizer: Any, dim: int) -> EncodingSpec:
    """The spec of PyLate's settings (the keys of `DEFAULTS`, and "prompt") with transformers' `tokenizer`."""
    markers = [settings[key] for key in ("query_prefix", "document_prefix")]
    marker_ids = [marker_id(tokenizer, marker) if marker else None for marker in markers]
    expands, expansion = settings["do_query_expansion"], _padding(tokenizer)
    return EncodingSpec(
        dim=dim,
        query_length=settings["query_length"],
        document_length=settings["document_length"],
        **frame_of(tokenizer).with_markers(*marker_ids),
        pad_id=expansion,
        expansion_id=expansion if expands else None,
        expansion_attended=bool(expands and settings["attend_to_expansion_tokens"]),
        skiplist=_skiplist(settings["skiplist_words"], tokenizer),
        query_prompt=settings["prompt"],
        document_prompt=settings["prompt"],
        strip=True,
        lowercase=lowercase,
    )


def _padding(tokenizer: Any) -> int:
    """The id with which PyLate pads: the mask token, else the end of text, else the padding token."""
    for token_id in (tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        if token_id is not None:
            return int(token_id)
    raise UnsupportedCheckpoint("expected a mask, end-of-text or padding token to fill queries with, found none")


def _skiplist(words: list[str], tokenizer: Any) -> tuple[int, ...]:
    ids = [tokenizer.convert_tokens_to_ids(word) for word in words]
    if None in ids:
        raise UnsupportedCheckpoint(
            f"expected the skiplist word {words[ids.index(None)]!r} or an unknown token as token, found neither"
        )
    return tuple(sorted(set(ids)))

"""The layout of PyLate: modules.json with a Transformer and Dense layers, ColBERT's switches beside the prompts.

Follows PyLate 1.6 (models/colbert.py, models/Dense.py) on sentence-transformers 5.3 (models/Transformer.py):

- the marker is an added token inserted at position 1, so its spelling in a user's text becomes the marker too;
- texts are stripped, and lower-cased when sentence_bert_config.json says so;
- a skiplist word that is no token stands for the unknown token, and then every unknown token is dropped;
- a prompt is used only when `default_prompt_name` names it, for queries and documents alike.
"""

import string
from pathlib import Path
from typing import Any

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import UnsupportedCheckpoint

from ..model import ColbertModel
from ..tensors import Account, read_json, read_tensors
from .backbones import build_backbone, fill_backbone, read_config
from .sentence_transformers import CONFIG, as_texts, check_head, read_dense, read_modules, read_settings
from .tokenizers import Frame, frame_of, load_tokenizer, marker_id, plain_json

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
INERT = ("model_type|similarity_fn_name|__version__|truncate_dim|_.*",)
DROPPED_MODULES = ("Pooling", "Normalize")  # PyLate keeps Transformer and Dense only, and normalizes itself


def is_pylate(folder: Path) -> bool:
    """Whether the folder's modules are PyLate's, by its model type or a switch that only it writes."""
    if not (folder / "modules.json").is_file() or not (folder / CONFIG).is_file():
        return False
    config = read_json(folder / CONFIG)
    return config.get("model_type") == "ColBERT" or ("model_type" not in config and "query_prefix" in config)


def read_pylate(folder: Path, trust_remote_code: bool) -> tuple[ColbertModel, EncodingSpec, str]:
    """The model, its spec and its tokenizer.json. Raises `UnsupportedCheckpoint`."""
    modules = read_modules(folder)
    unknown = [m.kind for m in modules[1:] if m.kind not in ("Dense", *DROPPED_MODULES)]
    if unknown:
        raise UnsupportedCheckpoint(f"modules.json lists {unknown}; PyLate knows Transformer and Dense")
    transformer = modules[0].folder
    config = read_config(transformer, trust_remote_code)
    backbone = build_backbone(config, trust_remote_code)
    fill_backbone(backbone, read_tensors(transformer), "the weight file")
    # PyLate's own Dense has no default activation: it refuses a configuration without one
    head = [read_dense(m.folder, default_activation=None) for m in modules if m.kind == "Dense"]
    dim = check_head(head, config.hidden_size)
    settings = _settings(folder)
    tokenizer = load_tokenizer(transformer, trust_remote_code)
    tokenizer.add_tokens([p for p in (settings["query_prefix"], settings["document_prefix"]) if p])
    return ColbertModel(backbone, head), _spec(settings, _lowercase(transformer), tokenizer, dim), plain_json(tokenizer)


def _settings(folder: Path) -> dict[str, Any]:
    account = Account(read_json(folder / CONFIG), CONFIG)
    settings = {key: account.take(key, default) for key, default in DEFAULTS.items()}
    prompts = as_texts(account.take("prompts"), CONFIG)
    settings["prompt"] = prompts.get(account.take("default_prompt_name", ""), "")
    account.ignore(INERT)
    account.close()
    return settings


def _lowercase(transformer: Path) -> bool:
    account = Account(read_settings(transformer), "sentence_bert_config.json")
    lowercase = bool(account.take("do_lower_case", False))
    account.ignore(
        ("max_seq_length|transformer_task|modality_config|module_output_name|unpad_inputs|processing_kwargs",)
    )
    account.close()
    return lowercase


def _spec(settings: dict[str, Any], lowercase: bool, tokenizer: Any, dim: int) -> EncodingSpec:
    frame = frame_of(tokenizer)
    expands, expansion = settings["do_query_expansion"], _padding(tokenizer)
    return EncodingSpec(
        dim=dim,
        query_length=settings["query_length"],
        document_length=settings["document_length"],
        query_prefix_ids=_prefix(frame, tokenizer, settings["query_prefix"]),
        query_suffix_ids=frame.suffix,
        document_prefix_ids=_prefix(frame, tokenizer, settings["document_prefix"]),
        document_suffix_ids=frame.suffix,
        pad_id=expansion,
        expansion_id=expansion if expands else None,
        expansion_attended=bool(expands and settings["attend_to_expansion_tokens"]),
        skiplist=_skiplist(settings["skiplist_words"], tokenizer),
        query_prompt=settings["prompt"],
        document_prompt=settings["prompt"],
        strip=True,
        lowercase=lowercase,
    )


def _prefix(frame: Frame, tokenizer: Any, marker: str) -> tuple[int, ...]:
    return frame.with_marker(marker_id(tokenizer, marker)) if marker else frame.prefix


def _padding(tokenizer: Any) -> int:
    """What PyLate pads with: the mask token, else the end of text, else the padding token."""
    for found in (tokenizer.mask_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id):
        if found is not None:
            return int(found)
    raise UnsupportedCheckpoint("the tokenizer has no mask, end-of-text or padding token to expand queries with")


def _skiplist(words: list[str], tokenizer: Any) -> tuple[int, ...]:
    ids = [tokenizer.convert_tokens_to_ids(word) for word in words]
    if None in ids:
        raise UnsupportedCheckpoint(
            f"skiplist word {words[ids.index(None)]!r} is no token, and there is no unknown token"
        )
    return tuple(sorted(set(ids)))

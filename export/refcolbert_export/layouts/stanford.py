"""The layout of Stanford ColBERT: config.json (HF_ColBERT), one weight file, `artifact.metadata`.

Follows colbert-ai 0.2.22: modeling/hf_colbert.py (weights), infra/config/settings.py (defaults; any key may be
missing), modeling/tokenization (frames), modeling/colbert.py (which rows count). Training and index settings in
artifact.metadata do not change the vectors and are ignored by name.
"""

import string
from pathlib import Path
from typing import Any

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import UnsupportedCheckpoint

from ..model import ColbertModel, Dense
from ..tensors import Account, read_json, read_tensors
from .backbones import build_backbone, fill_backbone, read_config
from .tokenizers import frame_of, load_tokenizer, marker_id, plain_json

__all__ = ["METADATA", "is_stanford", "read_stanford", "spec_of"]

METADATA = "artifact.metadata"

# What colbert-ai assumes for a key that is missing.
DEFAULTS: dict[str, Any] = {
    "query_token_id": "[unused0]",
    "doc_token_id": "[unused1]",
    "dim": 128,
    "query_maxlen": 32,
    "doc_maxlen": 220,
    "mask_punctuation": True,
    "attend_to_mask_tokens": False,
}
# How the model was trained, how an index is built or searched: nothing that changes a vector.
INERT = (
    "query_token|doc_token|checkpoint|triples|collection|queries|index_name|index_path|index_root|index_bsize|meta",
    "bsize|accumsteps|lr|maxsteps|save_every|resume|warmup|warmup_bert|relu|nway|use_ib_negatives|reranker|rerank",
    "distillation_alpha|ignore_scores|kldiv_loss|marginmse_loss|kldiv_weight|marginmse_weight|ib_loss_weight",
    "model_name|nbits|kmeans_niters|pool_factor|clustering_mode|protected_tokens|ncells|centroid_score_threshold",
    "ndocs|load_index_with_mmap|amp|root|experiment|name|rank|nranks|gpus|avoid_fork_if_possible|overwrite",
    "normalize_training_scores|normalization_method|quant_aware|highest_quant_level|interaction|similarity",
    "schedule|epochs|force_resize_embeddings|only_top_k|use_autocast|shuffle_triples|query_prompt_len",
)


def is_stanford(folder: Path) -> bool:
    """Whether the folder has an artifact.metadata, or a config.json that says HF_ColBERT."""
    if (folder / METADATA).is_file():
        return True
    return (folder / "config.json").is_file() and "HF_ColBERT" in (
        read_json(folder / "config.json").get("architectures") or []
    )


def read_stanford(folder: Path, trust_remote_code: bool) -> tuple[ColbertModel, EncodingSpec, str]:
    """The model, its spec and its tokenizer.json. Raises `UnsupportedCheckpoint`."""
    settings = _settings(folder)
    tokenizer = load_tokenizer(folder, trust_remote_code)
    model, dim = _model(folder, trust_remote_code)
    if settings["dim"] != dim:
        raise UnsupportedCheckpoint(f"{METADATA} says dim {settings['dim']}, linear.weight gives {dim}")
    return model, spec_of(settings, tokenizer), plain_json(tokenizer)


def _settings(folder: Path) -> dict[str, Any]:
    raw = read_json(folder / METADATA) if (folder / METADATA).is_file() else {}
    account = Account(raw.get("config", raw), METADATA)
    settings = {key: account.take(key, default) for key, default in DEFAULTS.items()}
    if (found := account.values.get("similarity")) not in (None, "cosine"):
        raise UnsupportedCheckpoint(f"{METADATA} says similarity {found!r}; refcolbert scores by cosine only")
    if (found := account.values.get("interaction")) not in (None, "colbert"):
        raise UnsupportedCheckpoint(f"{METADATA} says interaction {found!r}; refcolbert computes 'colbert' only")
    account.ignore(INERT)
    account.close()
    return settings


def _model(folder: Path, trust_remote_code: bool) -> tuple[ColbertModel, int]:
    backbone = build_backbone(read_config(folder, trust_remote_code), trust_remote_code)
    account = Account(read_tensors(folder), "the weight file")
    weight = account.take("linear.weight")  # [dim, hidden]
    if weight is None:
        raise UnsupportedCheckpoint("the weight file has no linear.weight, the projection of a Stanford ColBERT")
    fill_backbone(backbone, account.take_prefix(f"{backbone.base_model_prefix}."), "the weight file")
    account.ignore((r"cls\..*",))  # the pre-training head, which colbert-ai ignores too
    account.close()
    return ColbertModel(backbone, [Dense(weight)]), len(weight)


def spec_of(settings: dict[str, Any], tokenizer: Any) -> EncodingSpec:
    """The spec that artifact.metadata's settings (the keys of `DEFAULTS`) mean with transformers' `tokenizer`."""
    if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
        raise UnsupportedCheckpoint(
            "a Stanford ColBERT pads queries with [MASK]; this tokenizer has no mask or pad token"
        )
    frame = frame_of(tokenizer)
    query_marker, document_marker = (marker_id(tokenizer, settings[key]) for key in ("query_token_id", "doc_token_id"))
    return EncodingSpec(
        dim=settings["dim"],
        query_length=settings["query_maxlen"],
        document_length=settings["doc_maxlen"],
        query_prefix_ids=frame.with_marker(query_marker),
        query_suffix_ids=frame.suffix,
        document_prefix_ids=frame.with_marker(document_marker),
        document_suffix_ids=frame.suffix,
        pad_id=tokenizer.pad_token_id,
        expansion_id=tokenizer.mask_token_id,
        expansion_attended=settings["attend_to_mask_tokens"],
        pad_expands=True,
        skiplist=_skiplist(settings["mask_punctuation"], tokenizer),
    )


def _skiplist(mask_punctuation: bool, tokenizer: Any) -> tuple[int, ...]:
    """The first id of each punctuation mark, and the padding id: colbert-ai drops that row wherever it stands."""
    marks = string.punctuation if mask_punctuation else ""
    ids = {tokenizer.encode(mark, add_special_tokens=False)[0] for mark in marks}
    return tuple(sorted(ids | {tokenizer.pad_token_id}))

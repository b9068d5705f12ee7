"""The layout of Stanford ColBERT: config.json (HF_ColBERT), one weight file, `artifact.metadata`.

Follows colbert-ai 0.2.22: modeling/hf_colbert.py (weights), infra/config/settings.py (defaults; any key may be
missing), modeling/tokenization (special tokens), modeling/colbert.py (kept rows).
"""

import string
from pathlib import Path
from typing import Any

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import UnsupportedCheckpoint

from ..model import ColbertModel, Dense
from ..tensors import Account, Reading, read_json, read_tensors
from .backbones import WEIGHT_FILE, build_backbone, fill_backbone, read_config
from .tokenizers import frame_of, load_tokenizer, marker_id, plain_json

__all__ = ["METADATA", "is_stanford", "read_stanford", "spec_of"]

METADATA = "artifact.metadata"

# The values that colbert-ai assumes for missing keys.
DEFAULTS: dict[str, Any] = {
    "query_token_id": "[unused0]",
    "doc_token_id": "[unused1]",
    "dim": 128,
    "query_maxlen": 32,
    "doc_maxlen": 220,
    "mask_punctuation": True,
    "attend_to_mask_tokens": False,
}
# Settings of training, indexing and search, which colbert-ai saves with every checkpoint and which change no vector.
INERT = (
    "query_token|doc_token|checkpoint|triples|collection|queries|index_name|index_path|index_root|index_bsize|meta",
    "bsize|accumsteps|lr|maxsteps|save_every|resume|warmup|warmup_bert|relu|nway|use_ib_negatives|reranker|rerank",
    "distillation_alpha|ignore_scores",
    "model_name|nbits|kmeans_niters|pool_factor|clustering_mode|protected_tokens|ncells|centroid_score_threshold",
    "ndocs|nprobe|ncandidates|load_index_with_mmap|amp|root|experiment|name|rank|nranks|gpus|avoid_fork_if_possible",
    "overwrite|interaction|similarity",
)
DYNAMIC_QUERIES = (
    "dynamic_query_maxlen is true: its authors fill a query up to a length that follows from the query. Here, as in "
    "colbert-ai, every query is filled up to query_maxlen"
)


def is_stanford(folder: Path) -> bool:
    """True when the folder has an artifact.metadata, or a config.json that says HF_ColBERT."""
    if (folder / METADATA).is_file():
        return True
    return (folder / "config.json").is_file() and "HF_ColBERT" in (
        read_json(folder / "config.json").get("architectures") or []
    )


def read_stanford(folder: Path, reading: Reading) -> tuple[ColbertModel, EncodingSpec, str]:
    """The model, its spec and its tokenizer.json. Raises `UnsupportedCheckpoint`."""
    settings = _settings(folder, reading)
    tokenizer = load_tokenizer(folder, reading.trust_remote_code)
    model = _model(folder, reading)
    if settings["dim"] != model.dim:
        raise UnsupportedCheckpoint(f"{METADATA} says dim {settings['dim']}, but linear.weight has {model.dim} rows")
    return model, spec_of(settings, tokenizer), plain_json(tokenizer)


def _settings(folder: Path, reading: Reading) -> dict[str, Any]:
    raw = read_json(folder / METADATA) if (folder / METADATA).is_file() else {}
    account = Account(raw.get("config", raw), METADATA)
    settings = {key: account.take(key, default) for key, default in DEFAULTS.items()}
    for key, supported in (("similarity", "cosine"), ("interaction", "colbert")):
        if (value := account.values.get(key)) not in (None, supported):
            raise UnsupportedCheckpoint(f"expected {key} {supported!r} in {METADATA}, found {value!r}")
    if account.values.get("dynamic_query_maxlen"):
        reading.notes.append(DYNAMIC_QUERIES)
    account.ignore(INERT)
    account.close(reading)
    return settings


def _model(folder: Path, reading: Reading) -> ColbertModel:
    backbone = build_backbone(read_config(folder, reading), reading.trust_remote_code)
    account = Account(read_tensors(folder), WEIGHT_FILE)
    weight = account.take("linear.weight")  # [dim, hidden]
    if weight is None:
        raise UnsupportedCheckpoint(f"expected linear.weight, the projection of Stanford's ColBERT, in {WEIGHT_FILE}")
    fill_backbone(backbone, account.take_prefix(f"{backbone.base_model_prefix}."))
    # The pre-training head, which colbert-ai ignores too.
    account.ignore((r"cls\..*",))
    account.close()
    return ColbertModel(backbone, [Dense(weight)])


def spec_of(settings: dict[str, Any], tokenizer: Any) -> EncodingSpec:
    """The spec of the settings in artifact.metadata (the keys of `DEFAULTS`) with transformers' `tokenizer`."""
    if tokenizer.mask_token_id is None or tokenizer.pad_token_id is None:
        raise UnsupportedCheckpoint(
            "expected a tokenizer with a mask and a padding token, because Stanford's ColBERT fills queries with [MASK]"
        )
    markers = (marker_id(tokenizer, settings[key]) for key in ("query_token_id", "doc_token_id"))
    return EncodingSpec(
        dim=settings["dim"],
        query_length=settings["query_maxlen"],
        document_length=settings["doc_maxlen"],
        **frame_of(tokenizer).with_markers(*markers),
        pad_id=tokenizer.pad_token_id,
        expansion_id=tokenizer.mask_token_id,
        expansion_attended=settings["attend_to_mask_tokens"],
        pad_expands=True,
        skiplist=_skiplist(settings["mask_punctuation"], tokenizer),
    )


def _skiplist(mask_punctuation: bool, tokenizer: Any) -> tuple[int, ...]:
    """The first id of each punctuation mark, and the padding id, whose row colbert-ai drops everywhere."""
    marks = string.punctuation if mask_punctuation else ""
    ids = {tokenizer.encode(mark, add_special_tokens=False)[0] for mark in marks}
    return tuple(sorted(ids | {tokenizer.pad_token_id}))

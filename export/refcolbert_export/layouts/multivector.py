"""The layout of Sentence-Transformers' MultiVectorEncoder: Transformer, Dense, MultiVectorMask, Normalize.

Follows sentence-transformers 6.2 (multi_vector_encoder/model.py, base/modules/transformer.py, dense.py,
multi_vector_mask.py):

- a marker is the beginning of a prompt, so it is tokenized with the text and counts within its length;
- `query_expansion` fills short queries: "fixed" also cuts at that length, "min" cuts at query_length;
- skiplist words that are no token are left out, and the list may also apply to queries;
- do_lower_case puts a Lowercase before the tokenizer's own normalizer.
"""

import json
from pathlib import Path
from typing import Any

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import UnsupportedCheckpoint

from ..model import ColbertModel
from ..tensors import Account, read_json, read_tensors
from .backbones import build_backbone, fill_backbone, longest_input, read_config
from .sentence_transformers import CONFIG, Module, as_texts, check_head, read_dense, read_modules, read_settings
from .tokenizers import frame_of, load_tokenizer, plain_json

__all__ = ["is_multivector", "read_multivector"]

KINDS = ("Dense", "MultiVectorMask", "Normalize")
INERT = ("model_type|similarity_fn_name|__version__|truncate_dim|_.*",)
INERT_TRANSFORMER = (
    "unpad_inputs",
    "model_args|config_args|tokenizer_args|model_kwargs|config_kwargs|processor_kwargs",
)
NATURAL = {  # what a text model has; anything else changes the forward pass
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
}
PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}  # the first that exists is used


def is_multivector(folder: Path) -> bool:
    """Whether the folder says that it is a MultiVectorEncoder."""
    path = folder / CONFIG
    return path.is_file() and read_json(path).get("model_type") == "MultiVectorEncoder"


def read_multivector(folder: Path, trust_remote_code: bool) -> tuple[ColbertModel, EncodingSpec, str]:
    """The model, its spec and its tokenizer.json. Raises `UnsupportedCheckpoint`."""
    modules = read_modules(folder)
    _check_kinds(modules)
    transformer = modules[0].folder
    config = read_config(transformer, trust_remote_code)
    backbone = build_backbone(config, trust_remote_code)
    fill_backbone(backbone, read_tensors(transformer), "the weight file")
    head = [read_dense(m.folder, "torch.nn.modules.activation.Tanh") for m in modules if m.kind == "Dense"]
    dim = check_head(head, config.hidden_size)
    settings = _transformer_settings(transformer)
    tokenizer = load_tokenizer(transformer, trust_remote_code)
    limit = min(settings["max_seq_length"] or tokenizer.model_max_length, longest_input(config) or 1 << 30)
    plain = plain_json(tokenizer)
    if settings["do_lower_case"]:
        plain = _lowercasing(plain)
    mask = _mask_settings(next(m for m in modules if m.kind == "MultiVectorMask"))
    frame = frame_of(tokenizer)
    prompts = _prompts(folder)
    spec = EncodingSpec(
        dim=dim,
        **_query_lengths(settings, limit, tokenizer),
        document_length=settings["document_length"] or limit,
        query_prefix_ids=frame.prefix,
        query_suffix_ids=frame.suffix,
        document_prefix_ids=frame.prefix,
        document_suffix_ids=frame.suffix,
        pad_id=tokenizer.pad_token_id or 0,
        **_skiplists(mask, tokenizer),
        query_prompt=prompts["query"],
        document_prompt=prompts["document"],
    )
    return ColbertModel(backbone, head), spec, plain


def _check_kinds(modules: list[Module]) -> None:
    kinds = [module.kind for module in modules[1:]]
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise UnsupportedCheckpoint(f"modules.json lists {unknown}, which this export does not know")
    if (
        kinds.count("MultiVectorMask") != 1
        or kinds.count("Normalize") != 1
        or "Dense" in kinds[kinds.index("Normalize") :]
    ):
        raise UnsupportedCheckpoint(
            f"expected Dense layers, one MultiVectorMask and a Normalize after the last Dense, found {kinds}; "
            "vectors that are not normalized cannot be compared by cosine"
        )
    normalize = next(module for module in modules if module.kind == "Normalize")
    path = normalize.folder / "config.json"
    account = Account(read_json(path) if path.is_file() else {}, "the configuration of Normalize")
    names = [account.take(key, "token_embeddings") for key in ("module_input_name", "module_output_name")]
    account.close()
    if set(names) != {"token_embeddings"}:
        raise UnsupportedCheckpoint(f"Normalize works on {names}, not on the token embeddings")


def _transformer_settings(transformer: Path) -> dict[str, Any]:
    account = Account(read_settings(transformer), "sentence_bert_config.json")
    keys = ("max_seq_length", "do_lower_case", "query_length", "document_length", "query_expansion")
    settings = {key: account.take(key) for key in keys}
    for key, natural in NATURAL.items():
        if account.take(key, natural) != natural:
            raise UnsupportedCheckpoint(f"sentence_bert_config.json: {key} is {account.values[key]!r}, not {natural!r}")
    if account.take("processing_kwargs"):
        raise UnsupportedCheckpoint(f"processing_kwargs {account.values['processing_kwargs']!r} are not supported")
    account.ignore(INERT_TRANSFORMER)
    account.close()
    return settings


def _query_lengths(settings: dict[str, Any], limit: int, tokenizer: Any) -> dict[str, Any]:
    """query_length and the expansion, from `query_expansion` and `query_length`."""
    account = Account(settings["query_expansion"] or {}, "query_expansion")
    if not account.values:
        return {"query_length": settings["query_length"] or limit, "expansion_id": None}
    strategy, length = account.take("strategy"), account.take("length")
    attended, token = account.take("attend", False), account.take("token")
    account.close()
    if strategy not in ("fixed", "min") or type(length) is not int:
        raise UnsupportedCheckpoint(
            f"query_expansion {settings['query_expansion']!r}: expected fixed or min and a length"
        )
    found = tokenizer.convert_tokens_to_ids(token) if token is not None else tokenizer.mask_token_id
    found = tokenizer.eos_token_id if found is None else found
    if found is None:
        raise UnsupportedCheckpoint(
            "query_expansion names no token, and the tokenizer has no mask or end-of-text token"
        )
    ceiling = length if strategy == "fixed" else max(settings["query_length"] or limit, length)
    return {
        "query_length": ceiling,
        "expansion_length": length,
        "expansion_id": found,
        "expansion_attended": bool(attended),
    }


def _mask_settings(module: Module) -> dict[str, Any]:
    account = Account(read_json(module.folder / "config.json"), "the configuration of MultiVectorMask")
    settings = {
        "words": account.take("skiplist_words", []),
        "tasks": account.take("skiplist_tasks", ["document"]),
        "only": account.take("keep_only_token_ids"),
    }
    account.close()
    return settings


def _skiplists(mask: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """The ids whose rows are dropped, for documents and for queries."""
    ids = {word: tokenizer.convert_tokens_to_ids(word) for word in mask["words"]}
    known = {
        i for word, i in ids.items() if i is not None and (i != tokenizer.unk_token_id or word == tokenizer.unk_token)
    }
    tasks = [mask["tasks"]] if isinstance(mask["tasks"], str) else mask["tasks"]
    document = known if "document" in tasks else set()
    if mask["only"]:  # an allow list is a skiplist of everything else
        document = document | (set(range(len(tokenizer))) - set(mask["only"]))
    return {
        "skiplist": tuple(sorted(document)),
        "query_skiplist": tuple(sorted(known)) if "query" in tasks else (),
    }


def _prompts(folder: Path) -> dict[str, str]:
    """The prompt of each side: by the side's name, else the default one."""
    account = Account(read_json(folder / CONFIG), CONFIG)
    prompts = as_texts(account.take("prompts"), CONFIG)
    default = prompts.get(account.take("default_prompt_name", ""), "")
    account.ignore(INERT)
    account.close()
    return {
        side: next((prompts[name] for name in names if name in prompts), default) for side, names in PROMPTS.items()
    }


def _lowercasing(plain: str) -> str:
    """The tokenizer.json with a Lowercase before its own normalizer, unless it has one at the top."""
    found = json.loads(plain)
    own = found["normalizer"]
    steps = own["normalizers"] if own and own["type"] == "Sequence" else [own] if own else []
    if not any(step["type"] == "Lowercase" for step in steps):
        found["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *steps]}
    return json.dumps(found, ensure_ascii=False)

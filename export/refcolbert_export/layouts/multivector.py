"""The layout of Sentence-Transformers' MultiVectorEncoder: Transformer, Dense, MultiVectorMask, Normalize.

Follows sentence-transformers 6.2 (multi_vector_encoder/model.py, base/modules/transformer.py, dense.py,
multi_vector_mask.py):

- A marker is the beginning of a prompt, so it is tokenized with the text and counts within its length.
- `query_expansion` fills short queries. "fixed" also cuts at that length; "min" cuts at query_length.
- Skiplist words that are not in the vocabulary are left out. The list may also apply to queries.
- do_lower_case puts a Lowercase before the tokenizer's own normalizer.
"""

import json
from pathlib import Path
from typing import Any

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import UnsupportedCheckpoint

from ..model import ColbertModel
from ..tensors import Account, Reading, read_json
from .backbones import longest_input
from .sentence_transformers import CONFIG, INERT, Module, as_texts, read_model, read_modules, read_settings
from .tokenizers import frame_of, load_tokenizer, plain_json

__all__ = ["is_multivector", "read_multivector"]

KINDS = ("Dense", "MultiVectorMask", "Normalize")
INERT_TRANSFORMER = (
    "unpad_inputs",
    "model_args|config_args|tokenizer_args|model_kwargs|config_kwargs|processor_kwargs",
)
# The settings of a text model. Other values change the forward pass.
NATURAL = {
    "transformer_task": "feature-extraction",
    "module_output_name": "token_embeddings",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
}
# Names of prompts per side; the first that exists is used.
PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}


def is_multivector(folder: Path) -> bool:
    """True when the folder says that it is a MultiVectorEncoder."""
    path = folder / CONFIG
    return path.is_file() and read_json(path).get("model_type") == "MultiVectorEncoder"


def read_multivector(folder: Path, reading: Reading) -> tuple[ColbertModel, EncodingSpec, str]:
    """The model, its spec and its tokenizer.json. Raises `UnsupportedCheckpoint`."""
    modules = read_modules(folder)
    _check_kinds(modules, reading)
    transformer = modules[0].folder
    model = read_model(modules, "torch.nn.modules.activation.Tanh", reading)
    settings = _transformer_settings(transformer, reading)
    tokenizer = load_tokenizer(transformer, reading.trust_remote_code)
    limit = min(settings["max_seq_length"] or tokenizer.model_max_length, longest_input(model.backbone) or 1 << 30)
    plain = plain_json(tokenizer)
    if settings["do_lower_case"]:
        plain = _lowercasing(plain)
    mask = _mask_settings(next(m for m in modules if m.kind == "MultiVectorMask"), reading)
    prompts = _prompts(folder, reading)
    spec = EncodingSpec(
        dim=model.dim,
        **_query_lengths(settings, limit, tokenizer, reading),
        document_length=settings["document_length"] or limit,
        **frame_of(tokenizer).with_markers(),
        pad_id=tokenizer.pad_token_id or 0,
        **_skiplists(mask, tokenizer),
        query_prompt=prompts["query"],
        document_prompt=prompts["document"],
    )
    return model, spec, plain


def _check_kinds(modules: list[Module], reading: Reading) -> None:
    """Raise `UnsupportedCheckpoint` unless the modules are known and end with normalized token embeddings."""
    kinds = [module.kind for module in modules[1:]]
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise UnsupportedCheckpoint(f"expected modules among {', '.join(KINDS)} in modules.json, found {unknown}")
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
    account = Account(read_json(path) if path.is_file() else {}, f"{normalize.folder.name}/config.json")
    names = [account.take(key, "token_embeddings") for key in ("module_input_name", "module_output_name")]
    account.close(reading)
    if set(names) != {"token_embeddings"}:
        raise UnsupportedCheckpoint(f"expected a Normalize of token_embeddings, found one of {names}")


def _transformer_settings(transformer: Path, reading: Reading) -> dict[str, Any]:
    """The Transformer's settings by name, None when absent. Raises `UnsupportedCheckpoint` unless it encodes text."""
    account = Account(read_settings(transformer), "sentence_bert_config.json")
    keys = ("max_seq_length", "do_lower_case", "query_length", "document_length", "query_expansion")
    settings = {key: account.take(key) for key in keys}
    for key, natural in NATURAL.items():
        if account.take(key, natural) != natural:
            raise UnsupportedCheckpoint(
                f"sentence_bert_config.json: expected {key} {natural!r}, found {account.values[key]!r}"
            )
    if account.take("processing_kwargs"):
        raise UnsupportedCheckpoint(f"expected no processing_kwargs, found {account.values['processing_kwargs']!r}")
    account.ignore(INERT_TRANSFORMER)
    account.close(reading)
    return settings


def _query_lengths(settings: dict[str, Any], limit: int, tokenizer: Any, reading: Reading) -> dict[str, Any]:
    """The spec's query_length and expansion, by name, from the settings `query_expansion` and `query_length`."""
    account = Account(settings["query_expansion"] or {}, "query_expansion")
    if not account.values:
        return {"query_length": settings["query_length"] or limit, "expansion_id": None}
    strategy, length = account.take("strategy"), account.take("length")
    attended, token = account.take("attend", False), account.take("token")
    account.close(reading)
    if strategy not in ("fixed", "min") or type(length) is not int:
        raise UnsupportedCheckpoint(
            f"expected the strategy fixed or min and a length in query_expansion, found {settings['query_expansion']!r}"
        )
    token_id = tokenizer.convert_tokens_to_ids(token) if token is not None else tokenizer.mask_token_id
    token_id = tokenizer.eos_token_id if token_id is None else token_id
    if token_id is None:
        raise UnsupportedCheckpoint(
            "expected a token in query_expansion, or a mask or end-of-text token in the tokenizer; found none"
        )
    ceiling = length if strategy == "fixed" else max(settings["query_length"] or limit, length)
    return {
        "query_length": ceiling,
        "expansion_length": length,
        "expansion_id": token_id,
        "expansion_attended": bool(attended),
    }


def _mask_settings(module: Module, reading: Reading) -> dict[str, Any]:
    account = Account(read_json(module.folder / "config.json"), f"{module.folder.name}/config.json")
    settings = {
        "words": account.take("skiplist_words", []),
        "tasks": account.take("skiplist_tasks", ["document"]),
        "only": account.take("keep_only_token_ids"),
    }
    account.close(reading)
    return settings


def _skiplists(mask: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """The spec's skiplist and query_skiplist, by name."""
    ids = {word: tokenizer.convert_tokens_to_ids(word) for word in mask["words"]}
    known = {
        i for word, i in ids.items() if i is not None and (i != tokenizer.unk_token_id or word == tokenizer.unk_token)
    }
    tasks = [mask["tasks"]] if isinstance(mask["tasks"], str) else mask["tasks"]
    document = known if "document" in tasks else set()
    if mask["only"]:
        # A list of kept ids is a skiplist of all other ids.
        document = document | (set(range(len(tokenizer))) - set(mask["only"]))
    return {
        "skiplist": tuple(sorted(document)),
        "query_skiplist": tuple(sorted(known)) if "query" in tasks else (),
    }


def _prompts(folder: Path, reading: Reading) -> dict[str, str]:
    """The prompt of each side: the one with the side's name, else the default prompt."""
    account = Account(read_json(folder / CONFIG), CONFIG)
    prompts = as_texts(account.take("prompts"), CONFIG)
    default = prompts.get(account.take("default_prompt_name", ""), "")
    account.ignore(INERT)
    account.close(reading)
    return {
        side: next((prompts[name] for name in names if name in prompts), default) for side, names in PROMPTS.items()
    }


def _lowercasing(plain: str) -> str:
    """The tokenizer.json with a Lowercase before its own normalizer, unless it has one at the top."""
    tokenizer = json.loads(plain)
    normalizer = tokenizer["normalizer"]
    steps = normalizer["normalizers"] if normalizer and normalizer["type"] == "Sequence" else [normalizer]
    steps = [step for step in steps if step]
    if not any(step["type"] == "Lowercase" for step in steps):
        tokenizer["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *steps]}
    return json.dumps(tokenizer, ensure_ascii=False)

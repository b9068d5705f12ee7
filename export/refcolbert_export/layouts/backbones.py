"""The transformer of a checkpoint, built from its config.json and filled tensor by tensor."""

import re
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoConfig, AutoModel, MT5EncoderModel, T5EncoderModel

from refcolbert.errors import UnsupportedCheckpoint

from ..tensors import Account, Reading, read_json, read_tensors

__all__ = [
    "WEIGHT_FILE",
    "build_backbone",
    "fill_backbone",
    "keep_language",
    "longest_input",
    "read_backbone",
    "read_config",
]

WEIGHT_FILE = "the weight file"

# Keys of config.json that transformers writes or translates although its configuration class does not list them.
KNOWN_CONFIG = (
    r"_.*|architectures|transformers_version|auto_map|torch_dtype|dtype|gradient_checkpointing|use_cache|is_decoder",
    r"position_embedding_type|tokenizer_class|(global_|local_)?rope_theta|rope_scaling|global_attn_every_n_layers",
)
# Position embeddings of BERT's relatives that transformers 5 has dropped, and ALiBi, which needs Jina's own code. A
# class that does not list the key would ignore them.
LOST_POSITIONS = ("relative_key", "relative_key_query", "alibi")

# For these AutoModel would build the decoder too.
ENCODERS = {"t5": T5EncoderModel, "mt5": MT5EncoderModel}

# Weights that a ColBERT never uses: a checkpoint may hold them, and may lack the last ones.
INERT_TENSORS = (
    *(r"pooler\..*", r"(.*\.)?position_ids", r"(.*\.)?token_type_ids", r"(.*\.)?inv_freq"),
    *(r"cls\..*", r"lm_head\..*", r"decoder\..*", r"head\..*", r"vocab_(transform|layer_norm|projector)\..*"),
    *(r"discriminator_predictions\..*", r"generator_(predictions|lm_head)\..*"),
)
UNUSED_WEIGHTS = (r"pooler\..*",)


def read_backbone(folder: Path, reading: Reading) -> nn.Module:
    """The transformer of a folder whose weight file holds nothing else. Raises `UnsupportedCheckpoint`."""
    backbone = build_backbone(read_config(folder, reading), reading.trust_remote_code)
    fill_backbone(backbone, read_tensors(folder))
    return backbone


def read_config(folder: Path, reading: Reading) -> Any:
    """The backbone's configuration. Raises `UnsupportedCheckpoint` for one that transformers alone cannot follow."""
    raw = read_json(folder / "config.json")
    if not reading.trust_remote_code and _brings_code(raw):
        raise UnsupportedCheckpoint(
            f"this checkpoint contains its own Python code (auto_map in config.json: {raw['auto_map']}); it runs only "
            "if you trust it: pass --trust-remote-code"
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=reading.trust_remote_code)
    except Exception as error:
        raise UnsupportedCheckpoint(f"transformers cannot read config.json of {folder}: {error}") from error
    account = Account(raw, "config.json")
    known = type(config)().to_dict()
    for key in known:
        account.take(key)
    positions = raw.get("position_embedding_type")
    if positions in LOST_POSITIONS and "position_embedding_type" not in known:
        raise UnsupportedCheckpoint(
            f"expected a position_embedding_type that {type(config).__name__} of transformers computes, found "
            f"{positions!r} in config.json; its vectors would be wrong"
        )
    account.ignore(KNOWN_CONFIG)
    account.close(reading)
    return config


def _brings_code(raw: dict[str, Any]) -> bool:
    """True unless transformers itself has the classes that auto_map names for this model type.

    The model type alone does not tell: Jina's BERT calls itself "bert", and has other positions.
    """
    own = {""}
    if raw.get("model_type") in CONFIG_MAPPING:
        config = CONFIG_MAPPING[raw["model_type"]]
        own |= {config.__name__, getattr(MODEL_MAPPING.get(config, None), "__name__", "")}
    classes = raw.get("auto_map") or {}
    return any(str(classes.get(auto, "")).rsplit(".", 1)[-1] not in own for auto in ("AutoConfig", "AutoModel"))


def build_backbone(config: Any, trust_remote_code: bool = False) -> nn.Module:
    """The transformer that `config` describes, with random weights."""
    # Local attention can leave a row without a token to attend to. Torch's fused attention and its export make such a
    # row zero. Attention as plain matrix products is a shorter graph, but averages over all tokens there.
    local = getattr(config, "local_attention", None) or getattr(config, "sliding_window", None)
    config._attn_implementation = "sdpa" if local else "eager"
    encoder = ENCODERS.get(config.model_type)
    if encoder is not None:
        return cast(nn.Module, encoder(config)).float().eval()
    model: Any = AutoModel.from_config(config, trust_remote_code=trust_remote_code)
    # So can a causal model, whose first token attends to itself alone.
    if model._supports_sdpa and any(getattr(module, "is_causal", False) for module in model.modules()):
        model.set_attn_implementation("sdpa")
    return cast(nn.Module, model.float().eval())


def fill_backbone(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Load `tensors`, named with or without the model's prefix.

    Raises `UnsupportedCheckpoint` naming a tensor that is left over, missing, or of another shape.
    """
    weights = model.state_dict()
    account = Account(_without_prefix(tensors, f"{getattr(model, 'base_model_prefix', '')}.", weights), WEIGHT_FILE)
    stored = {key: account.take(_legacy(key, account.values)) for key in weights}
    account.ignore(INERT_TENSORS)
    account.close()
    state = {key: tensor for key, tensor in stored.items() if tensor is not None}
    # a tied weight is stored once
    shared = {weights[key].data_ptr() for key in state}
    missing = [key for key in weights if key not in state and weights[key].data_ptr() not in shared]
    missing = [key for key in missing if not any(re.fullmatch(p, key) for p in (*UNUSED_WEIGHTS, *INERT_TENSORS))]
    if missing:
        raise UnsupportedCheckpoint(
            f"expected all weights of the model that config.json describes, {WEIGHT_FILE} lacks {len(missing)}: "
            f"{', '.join(sorted(missing)[:8])}; get the complete checkpoint"
        )
    wrong = [
        f"{key} {tuple(tensor.shape)}, not {tuple(weights[key].shape)}"
        for key, tensor in state.items()
        if tensor.shape != weights[key].shape
    ]
    if wrong:
        raise UnsupportedCheckpoint(f"{WEIGHT_FILE}: shapes differ from config.json: {'; '.join(wrong[:4])}")
    model.load_state_dict(state, strict=False)


def keep_language(backbone: nn.Module, language: str | None) -> None:
    """Keep only the adapters of `language`, or of the default language, in an XMOD: it uses no others.

    Raises `UnsupportedCheckpoint` for a language that it lacks, and for a language when it is another model.
    """
    model: Any = backbone
    if model.config.model_type != "xmod":
        if language is not None:
            raise UnsupportedCheckpoint(f"expected an XMOD with --language, found {model.config.model_type}")
        return
    language = language or model.config.default_language
    if language not in model.config.languages:
        known = ", ".join(model.config.languages)
        raise UnsupportedCheckpoint(f"expected one of {known} as --language, found {language}")
    model.config.default_language = language
    for layer in model.encoder.layer:
        layer.output.adapter_modules = nn.ModuleDict({language: layer.output.adapter_modules[language]})


def longest_input(backbone: Any) -> int | None:
    """Number of positions that the model has; None when they are relative or rotary and have no end.

    RoBERTa and its relatives count from the padding id: rows of the table up to it are never a position.
    """
    tables = [m for name, m in backbone.named_modules() if name.rsplit(".", 1)[-1] == "position_embeddings"]
    if not tables or not isinstance(tables[0], nn.Embedding):
        return None
    padding = tables[0].padding_idx
    return tables[0].num_embeddings - (0 if padding is None else padding + 1)


def _without_prefix(tensors: dict[str, Any], prefix: str, weights: dict[str, Any]) -> dict[str, Any]:
    """The tensors by the names of the bare transformer. Checkpoints of task models put it under a prefix."""
    if any(key in tensors for key in weights):
        return tensors
    return {key.removeprefix(prefix): t for key, t in tensors.items()}


def _legacy(key: str, tensors: dict[str, torch.Tensor]) -> str:
    """The name of a tensor in the file: old BERT checkpoints call a LayerNorm's weight gamma and its bias beta."""
    if key not in tensors and "LayerNorm" in key:
        return key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    return key

"""The transformer of a checkpoint, built from its config.json and filled tensor by tensor."""

import re
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, MT5EncoderModel, T5EncoderModel

from refcolbert.errors import UnsupportedCheckpoint

from ..tensors import Account, read_json, read_tensors

__all__ = ["WEIGHT_FILE", "build_backbone", "fill_backbone", "longest_input", "read_backbone", "read_config"]

WEIGHT_FILE = "the weight file"

# Keys of config.json that the configuration class does not list and that change no vector of a forward pass: names and
# versions, training, generation, pooling and task heads, memory layout.
INERT_CONFIG = (
    r"_.*|architectures|transformers_version|auto_map|custom_pipelines|torch_dtype|dtype|torchscript|xla_device",
    r"gradient_checkpointing|finetuning_task|problem_type|task_specific_params|id2label|label2id|num_labels",
    r"tokenizer_class|prefix|output_past|use_bfloat16|tf_legacy_loss|tie_weights_|tie_encoder_decoder|adapters",
    r"summary_.*|pooler_.*|classifier_.*|directionality|qa_dropout|seq_classif_dropout|sinusoidal_pos_embds",
    r"reference_compile|repad_logits_with_grad|sparse_prediction|sparse_pred_ignore_index|deterministic_flash_attn",
    r"unpad_.*|decoder_bias|n_positions|model_max_length|max_seq_len|pad_token|vocab_size_.*|language|name",
    r"(min|max)_length|do_sample|early_stopping|num_beams.*|temperature|top_[kp]|typical_p|.*repetition_penalty",
    r"length_penalty|no_repeat_ngram_size|bad_words_ids|num_return_sequences|.*decoder_start_token_id|forced_.*",
    r"output_scores|return_dict.*|remove_invalid_values|exponential_decay_length_penalty|suppress_tokens|begin_.*",
    r"diversity_penalty|.*no_repeat_ngram_size|is_decoder|is_encoder_decoder|add_cross_attention|use_cache",
    r"cross_attention_hidden_size|output_hidden_states|output_attentions|tie_word_embeddings|bos_token_id|eos_token_id",
)
# Keys of older files that the configuration class translates. It reads them although it does not list them.
TRANSLATED_CONFIG = (r"(global_|local_)?rope_theta|rope_scaling|rope_type|global_attn_every_n_layers",)
# Keys that change nothing when they have this value.
NEUTRAL_CONFIG = {"position_embedding_type": "absolute", "pruned_heads": {}, "chunk_size_feed_forward": 0}

# For these AutoModel would build the decoder too.
ENCODERS = {"t5": T5EncoderModel, "mt5": MT5EncoderModel}
# Their first position is pad_token_id + 1.
POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
UNLIMITED = ("t5", "mt5")

# Weights that a ColBERT never uses: a checkpoint may hold them, and may lack the last ones.
INERT_TENSORS = (
    *(r"pooler\..*", r"(.*\.)?position_ids", r"(.*\.)?token_type_ids", r"(.*\.)?inv_freq"),
    *(r"cls\..*", r"lm_head\..*", r"decoder\..*", r"head\..*", r"vocab_(transform|layer_norm|projector)\..*"),
    *(r"discriminator_predictions\..*", r"generator_(predictions|lm_head)\..*"),
)
UNUSED_WEIGHTS = (r"pooler\..*",)


def read_backbone(folder: Path, trust_remote_code: bool = False) -> nn.Module:
    """The transformer of a folder whose weight file holds nothing else. Raises `UnsupportedCheckpoint`."""
    backbone = build_backbone(read_config(folder, trust_remote_code), trust_remote_code)
    fill_backbone(backbone, read_tensors(folder))
    return backbone


def read_config(folder: Path, trust_remote_code: bool = False) -> Any:
    """The backbone's configuration. Raises `UnsupportedCheckpoint` for a key of config.json that is not known."""
    raw = read_json(folder / "config.json")
    if raw.get("auto_map") and not trust_remote_code:
        raise UnsupportedCheckpoint(
            f"this checkpoint contains its own Python code (auto_map in config.json: {raw['auto_map']}); it runs only "
            "if you trust it: pass --trust-remote-code"
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:
        raise UnsupportedCheckpoint(f"transformers cannot read config.json of {folder}: {error}") from error
    account = Account(raw, "config.json")
    for key in type(config)().to_dict():
        account.take(key)
    account.ignore((*INERT_CONFIG, *TRANSLATED_CONFIG))
    for key, neutral in NEUTRAL_CONFIG.items():
        if account.take(key, neutral) != neutral:
            raise UnsupportedCheckpoint(f"expected {key} {neutral!r} in config.json, found {raw[key]!r}")
    account.close()
    return config


def build_backbone(config: Any, trust_remote_code: bool = False) -> nn.Module:
    """The transformer that `config` describes, with random weights."""
    # Local attention can leave a row without a token to attend to. Torch's fused attention and its export make such a
    # row zero. Attention as plain matrix products is a shorter graph, but averages over all tokens there.
    local = getattr(config, "local_attention", None) or getattr(config, "sliding_window", None)
    config._attn_implementation = "sdpa" if local else "eager"
    encoder = ENCODERS.get(config.model_type)
    if encoder is not None:
        return cast(nn.Module, encoder(config)).float().eval()
    model: nn.Module = AutoModel.from_config(config, trust_remote_code=trust_remote_code)
    return model.float().eval()


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


def longest_input(config: Any) -> int | None:
    """Number of positions that the model has; None when positions are relative or rotary and have no end."""
    if config.model_type in UNLIMITED:
        return None
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and config.model_type in POSITIONS_AFTER_PADDING:
        return int(positions) - int(config.pad_token_id) - 1
    return None if positions is None else int(positions)


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

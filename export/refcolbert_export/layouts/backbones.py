"""The transformer of a checkpoint, built from its config.json and filled tensor by tensor."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, MT5EncoderModel, T5EncoderModel

from refcolbert.errors import UnsupportedCheckpoint

from ..tensors import Account, read_json

__all__ = ["CUSTOM_CODE", "build_backbone", "fill_backbone", "longest_input", "read_config"]

CUSTOM_CODE = (
    "this checkpoint brings its own Python code (auto_map in config.json: {found}); it runs only if you trust it: "
    "pass --trust-remote-code"
)

# Keys of config.json that the configuration class does not list, and that change no vector of a forward pass: names
# and versions, training, generation, pooling and task heads, memory layout.
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
# Keys that older files use and the configuration class translates, so it reads them though it does not list them.
TRANSLATED_CONFIG = (r"(global_|local_)?rope_theta|rope_scaling|rope_type|global_attn_every_n_layers",)
# Keys with one value under which they change nothing.
NEUTRAL_CONFIG = {"position_embedding_type": "absolute", "pruned_heads": {}, "chunk_size_feed_forward": 0}

ENCODERS = {"t5": T5EncoderModel, "mt5": MT5EncoderModel}  # AutoModel would build the decoder too
POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")  # the first position is pad_token_id + 1
UNLIMITED = ("t5", "mt5")

# Weights that a checkpoint may carry and a ColBERT never uses, and weights it may lack for the same reason.
INERT_TENSORS = (
    *(r"pooler\..*", r"(.*\.)?position_ids", r"(.*\.)?token_type_ids", r"(.*\.)?inv_freq"),
    *(r"cls\..*", r"lm_head\..*", r"decoder\..*", r"head\..*", r"vocab_(transform|layer_norm|projector)\..*"),
    *(r"discriminator_predictions\..*", r"generator_(predictions|lm_head)\..*"),
)
UNUSED_WEIGHTS = (r"pooler\..*",)


def read_config(folder: Path, trust_remote_code: bool = False) -> Any:
    """The backbone's configuration with every key of config.json known. Raises `UnsupportedCheckpoint`."""
    raw = read_json(folder / "config.json")
    if raw.get("auto_map") and not trust_remote_code:
        raise UnsupportedCheckpoint(CUSTOM_CODE.format(found=raw["auto_map"]))
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
            raise UnsupportedCheckpoint(f"config.json says {key} {raw[key]!r}; only {neutral!r} can be exported")
    account.close()
    return config


def build_backbone(config: Any, trust_remote_code: bool = False) -> nn.Module:
    """The transformer that `config` describes, weights still random."""
    # Local attention can leave a row with nothing to attend to. Torch's fused attention makes such a row zero, and so
    # does its export; attention as plain matrix products is a shorter graph but averages over everything there.
    local = getattr(config, "local_attention", None) or getattr(config, "sliding_window", None)
    config._attn_implementation = "sdpa" if local else "eager"
    encoder = ENCODERS.get(config.model_type)
    if encoder is not None:
        return cast(nn.Module, encoder(config)).float().eval()
    model: nn.Module = AutoModel.from_config(config, trust_remote_code=trust_remote_code)
    return model.float().eval()


def fill_backbone(model: nn.Module, tensors: dict[str, torch.Tensor], what: str) -> None:
    """Load `tensors` (with or without the model's own prefix); none may be left over, none missing.

    Raises `UnsupportedCheckpoint` naming what does not fit.
    """
    own = model.state_dict()
    account = Account(_without_prefix(tensors, f"{getattr(model, 'base_model_prefix', '')}.", own), what)
    state = {key: account.take(_legacy(key, account.values)) for key in own}
    account.ignore(INERT_TENSORS)
    account.close()
    found = {key: value for key, value in state.items() if value is not None}
    shared = {own[key].data_ptr() for key in found}  # a tied weight is stored once
    missing = {key: None for key, value in state.items() if value is None and own[key].data_ptr() not in shared}
    needed = Account(missing, f"the model that config.json describes, unlike {what},")
    needed.ignore((*UNUSED_WEIGHTS, *INERT_TENSORS))
    needed.close()
    wrong = [f"{k} {tuple(t.shape)}, not {tuple(own[k].shape)}" for k, t in found.items() if t.shape != own[k].shape]
    if wrong:
        raise UnsupportedCheckpoint(f"{what}: shapes differ from config.json: {'; '.join(wrong[:4])}")
    model.load_state_dict(found, strict=False)


def longest_input(config: Any) -> int | None:
    """Positions that the model has, None when its positions are relative or rotary and end nowhere."""
    if config.model_type in UNLIMITED:
        return None
    found = getattr(config, "max_position_embeddings", None)
    if found is not None and config.model_type in POSITIONS_AFTER_PADDING:
        return int(found) - int(config.pad_token_id) - 1
    return None if found is None else int(found)


def _without_prefix(tensors: dict[str, Any], prefix: str, own: dict[str, Any]) -> dict[str, Any]:
    """Names relative to the bare transformer: a task model's checkpoint puts its transformer under a prefix."""
    if any(key in tensors for key in own):
        return tensors
    return {key.removeprefix(prefix): t for key, t in tensors.items()}


def _legacy(key: str, tensors: dict[str, torch.Tensor]) -> str:
    """Old BERT checkpoints call a LayerNorm's weight gamma and its bias beta."""
    if key not in tensors and "LayerNorm" in key:
        return key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    return key

"""The transformer of a checkpoint, built from its config.json and filled tensor by tensor."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel

from refcolbert.errors import UnsupportedCheckpoint

from .tensors import Account, read_json

__all__ = ["CUSTOM_CODE", "build_backbone", "fill_backbone", "read_config"]

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

# Weights that a checkpoint may carry and a ColBERT never uses, and weights it may lack for the same reason.
INERT_TENSORS = (r"pooler\..*", r"(.*\.)?position_ids", r"(.*\.)?token_type_ids", r"(.*\.)?rotary_emb\.inv_freq")
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
    """The transformer that `config` describes, weights still random. Attention as plain matrix products."""
    config._attn_implementation = "eager"
    model: nn.Module = AutoModel.from_config(config, trust_remote_code=trust_remote_code)
    return model.float().eval()


def fill_backbone(model: nn.Module, tensors: dict[str, torch.Tensor], what: str) -> None:
    """Load `tensors` into the model; none may be left over, none missing, all shapes equal."""
    own = model.state_dict()
    account = Account(dict(tensors), what)
    state = {key: account.take(_legacy(key, tensors)) for key in own}
    account.ignore(INERT_TENSORS)
    account.close()
    needed = Account({key: None for key, value in state.items() if value is None}, f"{what}: the model, not the file,")
    needed.ignore((*UNUSED_WEIGHTS, *INERT_TENSORS))
    needed.close()
    found = {key: value for key, value in state.items() if value is not None}
    wrong = [
        f"{key} {tuple(t.shape)}, not {tuple(own[key].shape)}" for key, t in found.items() if t.shape != own[key].shape
    ]
    if wrong:
        raise UnsupportedCheckpoint(f"{what}: shapes differ from config.json: {'; '.join(wrong[:4])}")
    model.load_state_dict(found, strict=False)


def _legacy(key: str, tensors: dict[str, torch.Tensor]) -> str:
    """Old BERT checkpoints call a LayerNorm's weight gamma and its bias beta."""
    if key not in tensors and "LayerNorm" in key:
        return key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    return key

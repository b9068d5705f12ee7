"""Tiny look-alikes of published checkpoints, written from public facts and not from freshly made configurations.

The names of the files, the keys of each JSON file and their odd values are those of the repository as far as public
material tells; `source` says which. Sizes, token ids and lengths are shrunk, weights are random.
"""

import json
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, processors
from transformers import AutoConfig, AutoModel, T5EncoderModel

from tools.goldens.bases import BASES, Special

__all__ = ["LOOKALIKES", "LookAlike", "write"]

DIM, HIDDEN, SEED = 8, 16, 31
SMALL = {
    **{
        "hidden_size": HIDDEN,
        "d_model": HIDDEN,
        "dim": DIM,
        "block_dim": HIDDEN,
        "conv_dim": HIDDEN,
        "conv_dim_out": HIDDEN,
    },
    **{
        "intermediate_size": HIDDEN,
        "d_ff": HIDDEN,
        "block_ff_dim": HIDDEN,
        "block_multiple_of": 4,
        "d_kv": 8,
        "head_dim": 8,
    },
    **{
        "num_hidden_layers": 2,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "full_attn_idxs": [1],
        "embedding_size": HIDDEN,
    },
    **{
        "num_attention_heads": 2,
        "num_heads": 2,
        "num_key_value_heads": 1,
        "local_attention": 8,
        "pooler_hidden_size": HIDDEN,
    },
    **{"max_position_embeddings": 64, "position_buckets": 8, "global_attn_every_n_layers": 2},
    **{"doc_maxlen": 40, "document_length": 40, "query_maxlen": 24, "query_length": 24},
}
ROTARY_POSITIONS = 32  # fewer than a document's 40 tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAlike:
    """One checkpoint: `head` is "linear" in the weight file, or the shapes of Dense folders, or a layout's own."""

    name: str
    source: str  # of the facts
    tokenizer: str  # a key of TOKENIZERS
    config: dict[str, Any]  # config.json
    files: dict[str, dict[str, Any]] = field(default_factory=dict)  # other JSON files
    head: Any = "linear"
    others: tuple[str, ...] = ()  # files that no reader opens
    half: bool = False  # weights in bfloat16
    unread: dict[str, list[str]] = field(default_factory=dict)  # keys that the export reports
    notes: str = ""  # words of the model card
    refused: str = ""  # words of the refusal


def _decoder(first: str | None) -> Callable[[], Tokenizer]:
    """A byte-level tokenizer with `first` before a text, or nothing, and never anything after it."""

    def build() -> Tokenizer:
        special = Special("<|pad|>", "", None, first, "<|im_end|>")
        out = BASES["roberta"][0](special)
        if first is None:
            out.post_processor = processors.ByteLevel(trim_offsets=False)
        else:
            frame = [(first, out.token_to_id(first))]
            out.post_processor = processors.TemplateProcessing(single=f"{first} $A", special_tokens=frame)
        return out

    return build


def _base(kind: str, special: Special | None = None) -> Callable[[], Tokenizer]:
    return lambda: BASES[kind][0](special or BASES[kind][1])


DEBERTA = Special("[PAD]", "[UNK]", "[MASK]", "[CLS]", "[SEP]")
EUROBERT = Special("<|pad|>", "", "<|mask|>", "<|begin_of_text|>", "<|end_of_text|>")
# name -> (how to make it, its special tokens by role, the class that tokenizer_config.json names)
BERT_ROLES = {"unk": "[UNK]", "pad": "[PAD]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
XLM_ROLES = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
TOKENIZERS: dict[str, tuple[Callable[[], Tokenizer], dict[str, str], str]] = {
    "bert": (_base("bert-uncased"), BERT_ROLES, "BertTokenizer"),
    "modernbert": (_base("modernbert"), BERT_ROLES, "PreTrainedTokenizerFast"),
    "deberta": (_base("xlm-roberta", DEBERTA), BERT_ROLES, "PreTrainedTokenizerFast"),
    "xlm-roberta": (_base("xlm-roberta"), XLM_ROLES, "PreTrainedTokenizerFast"),
    "t5": (_base("t5"), {"unk": "<unk>", "pad": "<pad>", "eos": "</s>"}, "PreTrainedTokenizerFast"),
    "eurobert": (
        _base("roberta", EUROBERT),
        {"bos": EUROBERT.first, "eos": EUROBERT.last, "pad": EUROBERT.pad, "mask": EUROBERT.mask},
        "PreTrainedTokenizerFast",
    ),
    "lfm2": (
        _decoder("<|startoftext|>"),
        {"bos": "<|startoftext|>", "eos": "<|im_end|>", "pad": "<|pad|>"},
        "PreTrainedTokenizerFast",
    ),
    "qwen": (_decoder(None), {"eos": "<|im_end|>", "pad": "<|pad|>"}, "PreTrainedTokenizerFast"),
}


def write(look: LookAlike, folder: Path) -> Path:
    """Write the checkpoint and return what the export is given: the folder, or the .dnn file in it."""
    folder.mkdir()
    make, roles, kind = TOKENIZERS[look.tokenizer]
    tokenizer = make()
    chain = look.files.get("config_sentence_transformers.json", {})
    tokenizer.add_tokens([chain[key] for key in ("query_prefix", "document_prefix") if chain.get(key)])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {f"{role}_token": token for role, token in roles.items()}
    _json(folder / "tokenizer_config.json", {"tokenizer_class": kind, "model_max_length": 512, **settings})
    ids = {f"{role}_token_id": tokenizer.token_to_id(token) for role, token in roles.items()}
    config = _shrunk(look.config, {**ids, "vocab_size": tokenizer.get_vocab_size(with_added_tokens=True)})
    _json(folder / "config.json", config)
    for name, content in look.files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        _json(path, [_shrunk(c, {}) for c in content] if isinstance(content, list) else _shrunk(content, {}))
    for name in look.others:
        (folder / name).write_bytes(b"not read")
    return folder if look.refused else _write_weights(look, folder)


def _shrunk(content: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """The keys of a published file with small values. A size that is not there stays away."""
    small = {**SMALL, **more}
    if any("rope" in key for key in content):
        small["max_position_embeddings"] = ROTARY_POSITIONS
    return {key: small[key] if key in small and value is not None else value for key, value in content.items()}


def _write_weights(look: LookAlike, folder: Path) -> Path:
    torch.manual_seed(SEED)
    config = AutoConfig.from_pretrained(folder)
    model: Any = T5EncoderModel(config) if config.model_type == "t5" else AutoModel.from_config(config)
    weights = {key: torch.randn_like(t) / 4 + (t.ndim == 1) * t for key, t in model.state_dict().items()}
    weights = {key: t.to(torch.bfloat16) if look.half else t for key, t in weights.items()}
    prefixed = {f"{model.base_model_prefix}.{key}": t for key, t in weights.items()}
    linear = torch.randn(DIM, config.hidden_size)
    if look.head == "dnn":
        arguments = {"dim": DIM, "query_maxlen": 24, "doc_maxlen": 40, "mask_punctuation": True, "similarity": "cosine"}
        arguments |= {"bsize": 32, "accum": 1, "amp": True, "lr": 3e-06, "rank": -1, "nranks": 1}
        state = {**prefixed, "linear.weight": linear}
        stored = {"epoch": 0, "batch": 9, "model_state_dict": state, "optimizer_state_dict": {}, "arguments": arguments}
        torch.save(stored, folder.parent / "colbert-v1.dnn")
        return folder.parent / "colbert-v1.dnn"
    if look.head == "bge-m3":
        torch.save(weights, folder / "pytorch_model.bin")
        torch.save({"weight": torch.randn(HIDDEN, HIDDEN), "bias": torch.randn(HIDDEN)}, folder / "colbert_linear.pt")
        torch.save({"weight": torch.randn(1, HIDDEN), "bias": torch.randn(1)}, folder / "sparse_linear.pt")
        return folder
    dense = [linear] if look.head in ("linear", "both") else [torch.randn(rows, columns) for columns, rows in look.head]
    if look.head == "linear":
        weights = {**prefixed, "linear.weight": linear}
    elif look.head == "both":
        weights = {**prefixed, "linear.weight": dense[-1].clone()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    for name, weight in zip((name for name in look.files if "_Dense" in name), dense, strict=look.head != "linear"):
        save_file({"linear.weight": weight}, (folder / name).parent / "model.safetensors")
        saved = json.loads((folder / name).read_text())
        _json(folder / name, {**saved, "in_features": weight.shape[1], "out_features": weight.shape[0]})
    return folder


def _json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2))


BERT: dict[str, Any] = {
    **{"_name_or_path": "bert-base-uncased", "architectures": ["HF_ColBERT"], "attention_probs_dropout_prob": 0.1},
    **{"classifier_dropout": None, "gradient_checkpointing": False, "hidden_act": "gelu", "hidden_dropout_prob": 0.1},
    **{"hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-12},
    **{"max_position_embeddings": 512, "model_type": "bert", "num_attention_heads": 12, "num_hidden_layers": 12},
    **{"pad_token_id": 0, "position_embedding_type": "absolute", "torch_dtype": "float32"},
    **{"transformers_version": "4.10.0", "type_vocab_size": 2, "use_cache": True, "vocab_size": 30522},
}
XLM = {**BERT, "architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta", "max_position_embeddings": 8194}
XLM = {**XLM, "bos_token_id": 0, "eos_token_id": 2, "output_past": True, "layer_norm_eps": 1e-05, "type_vocab_size": 1}
# answerdotai/ModernBERT-base, whose descendants keep its keys.
MODERNBERT: dict[str, Any] = {
    **{"architectures": ["ModernBertModel"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 50281},
    **{
        "classifier_activation": "gelu",
        "classifier_bias": False,
        "classifier_dropout": 0.0,
        "classifier_pooling": "mean",
    },
    **{"cls_token_id": 50281, "decoder_bias": True, "deterministic_flash_attn": False, "embedding_dropout": 0.0},
    **{"eos_token_id": 50282, "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0},
    **{"gradient_checkpointing": False, "hidden_activation": "gelu", "hidden_size": 768, "initializer_range": 0.02},
    **{"initializer_cutoff_factor": 2.0, "intermediate_size": 1152, "layer_norm_eps": 1e-05, "local_attention": 128},
    **{"local_rope_theta": 10000.0, "max_position_embeddings": 8192, "mlp_bias": False, "mlp_dropout": 0.0},
    **{"model_type": "modernbert", "norm_bias": False, "norm_eps": 1e-05, "num_attention_heads": 12},
    **{"num_hidden_layers": 22, "pad_token_id": 50283, "position_embedding_type": "absolute"},
    **{"repad_logits_with_grad": False, "sep_token_id": 50282, "sparse_pred_ignore_index": -100},
    **{"sparse_prediction": False, "torch_dtype": "float32", "transformers_version": "4.48.2", "vocab_size": 50370},
}
MODERNBERT_UNREAD = {"config.json": ["layer_norm_eps", "repad_logits_with_grad"]}
ETTIN = {
    **MODERNBERT,
    "position_embedding_type": "sans_pos",
    "local_rope_theta": 160000.0,
    "transformers_version": "4.57.1",
}
LFM2: dict[str, Any] = {
    **{"architectures": ["Lfm2Model"], "block_auto_adjust_ff_dim": True, "block_dim": 1024, "block_ff_dim": 6656},
    **{"block_ffn_dim_multiplier": 1.0, "block_mlp_init_scale": 1.0, "block_multiple_of": 256, "block_norm_eps": 1e-05},
    **{"block_out_init_scale": 1.0, "block_use_swiglu": True, "block_use_xavier_init": True, "bos_token_id": 1},
    **{"conv_L_cache": 3, "conv_bias": False, "conv_dim": 1024, "conv_dim_out": 1024, "conv_use_xavier_init": True},
    **{"eos_token_id": 7, "full_attn_idxs": [2, 5, 8, 10, 12, 14], "hidden_size": 1024, "initializer_range": 0.02},
    **{"max_position_embeddings": 128000, "model_type": "lfm2", "norm_eps": 1e-05, "num_attention_heads": 16},
    **{"num_heads": 16, "num_hidden_layers": 16, "num_key_value_heads": 8, "pad_token_id": 0, "rope_theta": 1000000.0},
    **{"torch_dtype": "bfloat16", "transformers_version": "4.55.0", "use_cache": True, "use_pos_enc": True},
    "vocab_size": 64402,
}
DEBERTA_V3: dict[str, Any] = {
    **{"architectures": ["DebertaV2Model"], "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu"},
    **{"hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072},
    **{
        "layer_norm_eps": 1e-07,
        "max_position_embeddings": 512,
        "max_relative_positions": -1,
        "model_type": "deberta-v2",
    },
    **{"norm_rel_ebd": "layer_norm", "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0},
    **{"pooler_dropout": 0, "pooler_hidden_act": "gelu", "pooler_hidden_size": 768, "pos_att_type": ["p2c", "c2p"]},
    **{"position_biased_input": False, "position_buckets": 256, "relative_attention": True, "share_att_key": True},
    **{"torch_dtype": "float32", "transformers_version": "4.48.2", "type_vocab_size": 0, "vocab_size": 251002},
}
EUROBERT_CONFIG: dict[str, Any] = {
    **{"architectures": ["EuroBertModel"], "attention_bias": False, "attention_dropout": 0.0, "bos_token": "x"},
    "auto_map": {
        "AutoConfig": "configuration_eurobert.EuroBertConfig",
        "AutoModel": "modeling_eurobert.EuroBertModel",
        "AutoModelForMaskedLM": "modeling_eurobert.EuroBertForMaskedLM",
    },
    **{"bos_token_id": 128000, "clf_pooling": "late", "eos_token_id": 128001, "head_dim": 64, "hidden_act": "silu"},
    **{"hidden_dropout": 0.0, "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072},
    **{"mask_token_id": 128002, "max_position_embeddings": 8192, "mlp_bias": False, "model_type": "eurobert"},
    **{"num_attention_heads": 12, "num_hidden_layers": 12, "num_key_value_heads": 12, "pad_token_id": 128001},
    **{
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": None,
        "rope_theta": 250000,
        "torch_dtype": "float32",
    },
    **{"tie_word_embeddings": False, "transformers_version": "4.50.3", "use_cache": False, "vocab_size": 128258},
}
QWEN3: dict[str, Any] = {
    **{"architectures": ["Qwen3Model"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643},
    **{"eos_token_id": 151643, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02},
    **{"intermediate_size": 3072, "max_position_embeddings": 32768, "max_window_layers": 28, "model_type": "qwen3"},
    **{"num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06},
    **{"rope_scaling": None, "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True},
    **{"torch_dtype": "bfloat16", "transformers_version": "4.51.3", "use_cache": True, "use_sliding_window": False},
    "vocab_size": 151669,
}
T5: dict[str, Any] = {
    **{"architectures": ["T5EncoderModel"], "d_ff": 2048, "d_kv": 64, "d_model": 768, "decoder_start_token_id": 0},
    **{"dense_act_fn": "gelu_new", "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu"},
    **{"initializer_factor": 1.0, "is_encoder_decoder": True, "is_gated_act": True, "layer_norm_epsilon": 1e-06},
    **{"model_type": "t5", "num_decoder_layers": 12, "num_heads": 12, "num_layers": 12, "output_past": True},
    **{"pad_token_id": 0, "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32},
    **{"tie_word_embeddings": False, "torch_dtype": "float32", "transformers_version": "4.29.2", "vocab_size": 32128},
}
# artifact.metadata of elibrowne/focused-legal-rag, which RAGatouille wrote with colbert-ai 0.2.19.
METADATA: dict[str, Any] = {
    **{"query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_token": "[Q]", "doc_token": "[D]"},
    **{"ncells": None, "centroid_score_threshold": None, "ndocs": None, "load_index_with_mmap": False},
    **{"index_path": None, "index_bsize": 64, "nbits": 2, "kmeans_niters": 4, "resume": False, "similarity": "cosine"},
    **{"bsize": 32, "accumsteps": 1, "lr": 5e-6, "maxsteps": 500000, "save_every": 73, "warmup": 73, "relu": False},
    **{"warmup_bert": None, "nway": 2, "use_ib_negatives": True, "reranker": False, "distillation_alpha": 1.0},
    **{"ignore_scores": False, "model_name": "legalBERT_ft", "query_maxlen": 32, "attend_to_mask_tokens": False},
    **{"interaction": "colbert", "dim": 128, "doc_maxlen": 256, "mask_punctuation": True, "checkpoint": "x/y"},
    **{"triples": "t.jsonl", "collection": "c.tsv", "queries": "q.tsv", "index_name": None, "overwrite": False},
    **{"root": ".ragatouille/", "experiment": "colbert", "index_root": None, "name": "2024-07/09/15.10.55", "rank": 0},
    **{"nranks": 1, "amp": True, "gpus": 1, "avoid_fork_if_possible": False, "meta": {"version": "colbert-v0.4"}},
}
# The whole configuration of colbert-ai before 0.2: search settings with names of their own.
OLD_METADATA = {
    k: v
    for k, v in METADATA.items()
    if k not in ("ncells", "centroid_score_threshold", "ndocs", "load_index_with_mmap")
}
OLD_METADATA |= {"nprobe": 2, "ncandidates": 8192, "doc_maxlen": 180, "nway": 64, "kmeans_niters": 20, "nbits": 1}
# Answer.AI's fork of the trainer.
FORK = {"cap_padding": 0, "dynamic_query_maxlen": False, "dynamic_querylen_multiples": 32, "highest_quant_level": 8}
FORK |= {
    "kldiv_loss": True,
    "kldiv_weight": 1.0,
    "lowest_quant_level": 4,
    "marginmse_loss": False,
    "quant_aware": False,
}
FORK |= {"marginmse_weight": 0.05, "normalise_training_scores": True, "normalization_method": "minmax"}
FORK |= {"ib_loss_weight": 1.0, "only_top_k": None, "schedule_free": False, "schedule_free_wd": 0.0, "distil": True}


def _pylate(
    query_length: int, document_length: int, layers: int = 1, bert: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """The JSON files of a PyLate checkpoint. `more` replaces settings; one that is ... is not there."""
    versions = {"sentence_transformers": "4.0.2", "transformers": "4.48.2", "pytorch": "2.5.1+cu124"}
    settings = {
        **{"__version__": versions, "prompts": {}, "default_prompt_name": None, "similarity_fn_name": "MaxSim"},
        **{"query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": query_length},
        **{"document_length": document_length, "attend_to_expansion_tokens": False},
        **{"skiplist_words": list(string.punctuation), "do_query_expansion": True, "model_type": "ColBERT", **more},
    }
    dense = {"in_features": 0, "out_features": 0, "bias": False, "use_residual": False}
    dense["activation_function"] = "torch.nn.modules.linear.Identity"
    kinds = ["sentence_transformers.models.Transformer", *["pylate.models.Dense.Dense"] * layers]
    paths = ["", *(f"{i + 1}_Dense" for i in range(layers))]
    modules = [{"idx": i, "name": str(i), "path": paths[i], "type": kind} for i, kind in enumerate(kinds)]
    return {
        "modules.json": modules,
        "config_sentence_transformers.json": {k: v for k, v in settings.items() if v is not ...},
        "sentence_bert_config.json": bert or {"max_seq_length": document_length - 1, "do_lower_case": False},
        **{f"{path}/config.json": dense for path in paths[1:]},
    }


FLASH = "jinaai/xlm-roberta-flash-implementation--"
ONE = [(HIDDEN, DIM)]
THREE = [(HIDDEN, 2 * HIDDEN), (2 * HIDDEN, 2 * HIDDEN), (2 * HIDDEN, DIM)]
TWO = [(HIDDEN, 2 * HIDDEN), (2 * HIDDEN, DIM)]

LOOKALIKES = (
    LookAlike(
        name="colbert-ir/colbertv2.0",
        source="its file list on the hub; early colbert-ai, which saved its whole configuration (settings.py)",
        tokenizer="bert",
        config=BERT,
        files={"artifact.metadata": OLD_METADATA, "special_tokens_map.json": {"cls_token": "[CLS]"}},
        others=("model.onnx",),
    ),
    LookAlike(
        name="answerdotai/answerai-colbert-small-v1",
        source="its file list: artifact.metadata of Answer.AI's fork and 1_Dense, so that Stanford and PyLate read it",
        tokenizer="bert",
        config={**BERT, "hidden_size": 384, "transformers_version": "4.44.0"},
        files={**_pylate(32, 300), "artifact.metadata": {**METADATA, **FORK, "dim": 96}},
        head="both",
        others=("vespa_colbert.onnx",),
    ),
    LookAlike(
        name="answerdotai/answerai-colbert-small-v1, as Stanford's package reads it",
        source="the same, without the files of PyLate",
        tokenizer="bert",
        config={**BERT, "hidden_size": 384, "transformers_version": "4.44.0"},
        files={"artifact.metadata": {**METADATA, **FORK, "dim": 96, "doc_maxlen": 300, "dynamic_query_maxlen": True}},
        unread={"artifact.metadata": sorted(FORK)},
        notes="dynamic_query_maxlen",
    ),
    LookAlike(
        name="mixedbread-ai/mxbai-colbert-large-v1",
        source="its file list on the hub: Stanford's layout, query_maxlen 128, doc_maxlen 256",
        tokenizer="bert",
        config={**BERT, "hidden_size": 1024, "num_hidden_layers": 24, "transformers_version": "4.36.2"},
        files={"artifact.metadata": {**METADATA, "query_maxlen": 128}},
    ),
    LookAlike(
        name="RAGatouille's fine-tuned checkpoints",
        source="artifact.metadata in the GitHub repository elibrowne/focused-legal-rag",
        tokenizer="bert",
        config={**BERT, "_name_or_path": "casehold/custom-legalbert", "transformers_version": "4.41.2"},
        files={"artifact.metadata": METADATA},
    ),
    LookAlike(
        name="AdrienB134/ColBERTv1.0-bert-based-spanish-mmarcoES",
        source="its config.json, quoted whole in the configuration class of a public RAG model (KeeperConfig)",
        tokenizer="bert",
        config={**BERT, "_name_or_path": "x", "output_past": True, "pad_token_id": 1, "transformers_version": "4.35.2"},
        files={"artifact.metadata": METADATA},
        unread={"config.json": ["output_past"]},
    ),
    LookAlike(
        name="antoinelouis/colbert-xm",
        source="its model card: Stanford's layout on facebook/xmod-base, whose config.json lists the languages",
        tokenizer="xlm-roberta",
        config={
            **XLM,
            **{
                "architectures": ["HF_ColBERT"],
                "model_type": "xmod",
                "max_position_embeddings": 514,
                "pre_norm": False,
            },
            **{"adapter_layer_norm": False, "adapter_reduction_factor": 2, "adapter_reuse_layer_norm": True},
            **{"default_language": "en_XX", "languages": ["en_XX", "fr_XX"], "ln_before_adapter": True},
        },
        files={"artifact.metadata": {**METADATA, "query_token_id": "the", "doc_token_id": "of"}},
        unread={"config.json": ["output_past"]},
    ),
    LookAlike(
        name="ColBERT v1, a .dnn file",
        source="stanford-futuredata/ColBERT, tag v0.2: utils/utils.py save_checkpoint, utils/parser.py",
        tokenizer="bert",
        config={**BERT, "architectures": ["BertForMaskedLM"], "transformers_version": "4.6.0.dev0"},
        head="dnn",
    ),
    LookAlike(
        name="jinaai/jina-colbert-v1-en",
        source="its base's config.json, quoted in a public Rust test (test_parse_config_jinabert)",
        tokenizer="bert",
        config={
            **BERT,
            **{"_name_or_path": "jinaai/jina-bert-implementation", "model_max_length": 8192, "emb_pooler": "mean"},
            **{"position_embedding_type": "alibi", "feed_forward_type": "geglu", "attn_implementation": "torch"},
            "auto_map": {
                "AutoConfig": "jinaai/jina-bert-implementation--configuration_bert.JinaBertConfig",
                "AutoModel": "jinaai/jina-bert-implementation--modeling_bert.JinaBertModel",
            },
        },
        files={"artifact.metadata": METADATA},
        refused="trust-remote-code",
    ),
    LookAlike(
        name="jinaai/jina-colbert-v2",
        source="auto_map of jinaai/xlm-roberta-flash-implementation; pylate issue 55 for its markers",
        tokenizer="xlm-roberta",
        config={
            **XLM,
            **{"architectures": ["HF_ColBERT"], "position_embedding_type": "rotary", "rotary_emb_base": 20000.0},
            **{
                "use_flash_attn": True,
                "torch_dtype": "bfloat16",
                "emb_pooler": None,
                "matryoshka_dimensions": [64, 96],
            },
            "auto_map": {
                "AutoConfig": f"{FLASH}configuration_xlm_roberta.XLMRobertaFlashConfig",
                "AutoModel": f"{FLASH}modeling_xlm_roberta.XLMRobertaModel",
            },
        },
        files={
            "artifact.metadata": {**METADATA, "query_token_id": "[QueryMarker]", "doc_token_id": "[DocumentMarker]"}
        },
        refused="trust-remote-code",
    ),
    LookAlike(
        name="a BERT with relative positions in Stanford's layout",
        source="transformers 4: BertSelfAttention read position_embedding_type; transformers 5 does not",
        tokenizer="bert",
        config={**BERT, "position_embedding_type": "relative_key_query"},
        files={"artifact.metadata": METADATA},
        refused="relative_key_query",
    ),
    LookAlike(
        name="lightonai/colbertv2.0",
        source="PyLate 1.1's saved files for the same weights: 1_Dense beside a BERT",
        tokenizer="bert",
        config={**BERT, "architectures": ["BertModel"], "transformers_version": "4.46.1"},
        files=_pylate(32, 180, query_prefix="[unused0]", document_prefix="[unused1]", model_type=...),
        head=ONE,
    ),
    LookAlike(
        name="lightonai/GTE-ModernColBERT-v1",
        source="its model card; the configuration that ModernBERT-base published, in public converters",
        tokenizer="modernbert",
        config=MODERNBERT,
        files=_pylate(32, 300, do_query_expansion=False),
        head=ONE,
        unread=MODERNBERT_UNREAD,
    ),
    LookAlike(
        name="lightonai/Reason-ModernColBERT",
        source="its model card: query length 128, document length 8,192, as many as the positions of its backbone",
        tokenizer="modernbert",
        config=MODERNBERT,
        files=_pylate(128, 8192),
        head=ONE,
        unread=MODERNBERT_UNREAD,
    ),
    LookAlike(
        name="lightonai/LateOn",
        source="its settings as a public client pins them, with onnx_config.json",
        tokenizer="modernbert",
        config={**MODERNBERT, "transformers_version": "4.57.1"},
        files={**_pylate(32, 300, do_query_expansion=False), "onnx_config.json": {"model_type": "ColBERT"}},
        head=ONE,
        unread=MODERNBERT_UNREAD,
    ),
    LookAlike(
        name="lightonai/LateOn-Code-edge",
        source="its settings in public clients: Ettin, 48 columns, query length 256, document length 2,048, prompts",
        tokenizer="modernbert",
        config=ETTIN,
        files=_pylate(256, 2048, 2, do_query_expansion=False, prompts={"query": "", "document": ""}),
        head=TWO,
        others=("model_int8.onnx",),
        unread=MODERNBERT_UNREAD,
    ),
    LookAlike(
        name="lightonai/ColBERT-Zero",
        source="its model card: markers and prompts together",
        tokenizer="modernbert",
        config=MODERNBERT,
        files=_pylate(39, 519, prompts={"query": "search_query: ", "document": "search_document: "}),
        head=ONE,
        unread=MODERNBERT_UNREAD,
    ),
    LookAlike(
        name="mixedbread-ai/mxbai-edge-colbert-v0-17m",
        source="its 7,999 positions and 48 columns in a public model list; three Dense layers as in the 32m",
        tokenizer="modernbert",
        config={**ETTIN, "hidden_size": 256, "num_hidden_layers": 7, "max_position_embeddings": 7999},
        files=_pylate(48, 512, 3, {"max_seq_length": 511, "do_lower_case": True}, do_query_expansion=False),
        head=THREE,
        unread=MODERNBERT_UNREAD,
    ),
    LookAlike(
        name="mixedbread-ai/mxbai-edge-colbert-v0-32m",
        source="a public converter that read its files on 2026-09-01: sans_pos, three Dense layers, do_lower_case",
        tokenizer="modernbert",
        config={**ETTIN, "hidden_size": 384, "num_hidden_layers": 10, "max_position_embeddings": 7999},
        files={
            **_pylate(48, 512, 3, {"max_seq_length": 511, "do_lower_case": True}, do_query_expansion=False),
            "onnx_config.json": {"model_type": "ColBERT", "pad_token_id": 50284},
        },
        head=THREE,
        unread=MODERNBERT_UNREAD,
    ),
    LookAlike(
        name="a ColBERT on jhu-clsp/mmBERT",
        source="mmBERT's config.json in public loaders: sans_pos, both rope thetas 160000, vocabulary of Gemma",
        tokenizer="modernbert",
        config={
            **ETTIN,
            "layer_types": ["full_attention", "sliding_attention"],
            "cls_token_id": 1,
            "vocab_size": 256002,
        },
        files=_pylate(32, 300),
        head=ONE,
        unread=MODERNBERT_UNREAD,
    ),
    LookAlike(
        name="LiquidAI/LFM2-ColBERT-350M",
        source="LFM2's config.json in public loaders (HFLFM2Config and others): the trainer's block_* and conv_* keys",
        tokenizer="lfm2",
        config=LFM2,
        files=_pylate(32, 512),
        head=ONE,
        half=True,
        unread={
            "config.json": sorted(
                [
                    *("block_dim", "block_ff_dim", "block_mlp_init_scale", "block_norm_eps", "block_out_init_scale"),
                    *("block_use_swiglu", "block_use_xavier_init", "conv_dim", "conv_dim_out", "conv_use_xavier_init"),
                    *("num_heads", "use_pos_enc"),
                ]
            )
        },
    ),
    LookAlike(
        name="a ColBERT on microsoft/mdeberta-v3-base",
        source="config.json of DeBERTa-v3 in public loaders; its code reads some keys with getattr",
        tokenizer="deberta",
        config=DEBERTA_V3,
        files=_pylate(32, 180),
        head=ONE,
        unread={"config.json": ["norm_rel_ebd", "position_buckets", "share_att_key"]},
    ),
    LookAlike(
        name="VAGOsolutions/SauerkrautLM-EuroColBERT",
        source="its model card: PyLate on EuroBERT-210m, whose auto_map names classes that transformers has too",
        tokenizer="eurobert",
        config=EUROBERT_CONFIG,
        files=_pylate(32, 300),
        head=ONE,
        others=("configuration_eurobert.py", "modeling_eurobert.py"),
        unread={"config.json": ["bos_token", "clf_pooling", "hidden_dropout"]},
    ),
    LookAlike(
        name="a ColBERT on Qwen/Qwen3-Embedding-0.6B",
        source="its config.json; a byte-level tokenizer that puts no token before a text",
        tokenizer="qwen",
        config=QWEN3,
        files=_pylate(32, 300),
        head=ONE,
        half=True,
    ),
    LookAlike(
        name="BAAI/bge-m3",
        source="its file list in public downloaders; FlagEmbedding 1.4 runner.py, which loads both .pt files",
        tokenizer="xlm-roberta",
        config={**XLM, "_name_or_path": "", "transformers_version": "4.33.0"},
        files={
            "modules.json": [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}],
            "config_sentence_transformers.json": {"__version__": {"sentence_transformers": "2.2.2"}},
            "sentence_bert_config.json": {"max_seq_length": 8192, "do_lower_case": False},
        },
        head="bge-m3",
        unread={"config.json": ["output_past"]},
    ),
    LookAlike(
        name="google/xtr-base-en",
        source="xtr-warp modeling/xtr.py, which loads 2_Dense of the published folder by name",
        tokenizer="t5",
        config=T5,
        files={
            "2_Dense/config.json": {
                **{"in_features": 768, "out_features": 128, "bias": False},
                "activation_function": "torch.nn.modules.linear.Identity",
            }
        },
        head=ONE,
        unread={"config.json": ["decoder_start_token_id", "output_past"]},
    ),
)

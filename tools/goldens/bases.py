"""Tiny seeded transformers with tokenizers, one for each backbone: what the golden checkpoints are made of.

Every model has 2 layers of 16 columns. Weights are spread wide and no bias is zero, so that losing any of them shows.
"""

import json
import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)

SEED, HIDDEN, LAYERS, HEADS, POSITIONS = 7, 16, 2, 2, 64
WORDS = (
    *("the", "of", "and", "to", "in", "what", "color", "is", "amber", "urine", "late", "interaction", "scores"),
    *("every", "query", "token", "document", "code", "square"),
)


@dataclass(frozen=True, slots=True)
class Special:
    """The special tokens of one family, by role."""

    pad: str
    unk: str
    mask: str | None
    first: str | None
    last: str
    more: tuple[str, ...] = ()


BERT = Special("[PAD]", "[UNK]", "[MASK]", "[CLS]", "[SEP]", ("[unused0]", "[unused1]"))
ROBERTA = Special("<pad>", "<unk>", "<mask>", "<s>", "</s>")
T5 = Special("<pad>", "<unk>", None, None, "</s>")


def write_base(kind: str, folder: Path, changes: dict[str, Any] | None = None) -> None:
    """Write the transformer `kind` (a key of BASES) and its tokenizer as transformers saves them.

    `changes` go into its configuration.
    """
    tokenizer, special, make = BASES[kind]
    built = tokenizer(special)
    size = built.get_vocab_size(with_added_tokens=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = make(size, built, **(changes or {}))
        for parameter in model.parameters():
            parameter.data = torch.randn_like(parameter) / 4 + (parameter.ndim == 1) * parameter.data
    model.save_pretrained(folder)
    built.save(str(folder / "tokenizer.json"))
    _write_tokenizer_config(special, folder, "BertTokenizer" if kind.startswith("bert") else "PreTrainedTokenizerFast")


def _write_tokenizer_config(special: Special, folder: Path, tokenizer_class: str) -> None:
    roles = {"pad": special.pad, "unk": special.unk, "mask": special.mask}
    roles |= {"cls": special.first, "sep": special.last if special.first else None, "eos": special.last}
    settings = {
        "tokenizer_class": tokenizer_class,
        "model_max_length": POSITIONS - 4,
        "model_input_names": ["input_ids", "attention_mask"],
        **{f"{role}_token": token for role, token in roles.items() if token},
    }
    if tokenizer_class == "BertTokenizer":
        cased = "cased" in folder.name and "uncased" not in folder.name
        settings |= {"do_lower_case": not cased, "model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))


def _wordpiece(lowercase: bool, punctuation: bool) -> Callable[[Special], Tokenizer]:
    letters = string.ascii_lowercase + string.digits + ("" if lowercase else string.ascii_uppercase)

    def build(special: Special) -> Tokenizer:
        marks = list(string.punctuation) if punctuation else []
        tokens = [special.pad, *special.more, special.unk, special.first, special.last, special.mask, *marks, *letters]
        tokens += [f"##{c}" for c in letters] + [word for word in WORDS if len(word) > 1]
        ids = {token: i for i, token in enumerate(t for t in tokens if t is not None)}
        out = Tokenizer(models.WordPiece(ids, unk_token=special.unk))
        out.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        out.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        out.decoder = decoders.WordPiece()
        return _framed(out, special)

    return build


def _byte_bpe(special: Special) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    first = [t for t in (special.first, special.pad, special.last, special.unk, special.mask, *special.more) if t]
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġ", "a"), ("c", "o"), ("o", "r"), ("Ġ", "q")]
    ids = {token: i for i, token in enumerate([*first, *alphabet, *("".join(pair) for pair in merges)])}
    out = Tokenizer(models.BPE(ids, merges))
    out.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    out.decoder = decoders.ByteLevel()
    return _framed(out, special)


def _unigram(special: Special) -> Tokenizer:
    first = [t for t in (special.first, special.pad, special.last, special.unk) if t]
    first = first if special.first else [special.pad, special.last, special.unk]
    pieces = [f"▁{word}" for word in WORDS] + ["▁", *string.ascii_letters, *string.digits, *"!,.?()-'é", "▁.", "s"]
    scored = [(token, 0.0) for token in first] + [(p, -2.0 - len(p) % 3) for p in dict.fromkeys(pieces)]
    out = Tokenizer(models.Unigram(scored, unk_id=first.index(special.unk), byte_fallback=False))
    out.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(" {2,}", " ")])
    out.pre_tokenizer = pre_tokenizers.Metaspace()
    out.decoder = decoders.Metaspace()
    return _framed(out, special)


def _framed(out: Tokenizer, special: Special) -> Tokenizer:
    out.add_special_tokens([t for t in (special.pad, special.unk, special.first, special.last, special.mask) if t])
    frame = [token for token in (special.first, special.last) if token]
    single = " ".join([special.first, "$A", special.last] if special.first else ["$A", special.last])
    ids = [(token, out.token_to_id(token)) for token in frame]
    out.post_processor = processors.TemplateProcessing(single=single, special_tokens=ids)
    return out


def _common(size: int, tokenizer: Tokenizer, special: Special, extra: int = 0) -> dict[str, Any]:
    return {
        "vocab_size": size,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": HIDDEN,
        "max_position_embeddings": POSITIONS + extra,
        "pad_token_id": tokenizer.token_to_id(special.pad),
    }


def _bert(size: int, t: Tokenizer, **more: Any) -> Any:
    return BertModel(BertConfig(**_common(size, t, BERT) | more))


def _electra(size: int, t: Tokenizer, **more: Any) -> Any:
    return ElectraModel(ElectraConfig(**_common(size, t, BERT) | more, embedding_size=8))


def _distilbert(size: int, t: Tokenizer, **more: Any) -> Any:
    pad = t.token_to_id(BERT.pad)
    shape = {"dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": HIDDEN}
    return DistilBertModel(
        DistilBertConfig(vocab_size=size, max_position_embeddings=POSITIONS, pad_token_id=pad, **shape | more)
    )


def _roberta(size: int, t: Tokenizer, **more: Any) -> Any:
    return RobertaModel(RobertaConfig(**_common(size, t, ROBERTA, 2) | more, type_vocab_size=1))


def _xlm_roberta(size: int, t: Tokenizer, **more: Any) -> Any:
    return XLMRobertaModel(XLMRobertaConfig(**_common(size, t, ROBERTA, 2) | more, type_vocab_size=1))


def _mpnet(size: int, t: Tokenizer, **more: Any) -> Any:
    return MPNetModel(MPNetConfig(**_common(size, t, ROBERTA, 2) | more))


def _modernbert(size: int, t: Tokenizer, **more: Any) -> Any:
    ids = {"cls_token_id": t.token_to_id("[CLS]"), "sep_token_id": t.token_to_id("[SEP]")}
    ends = {"bos_token_id": t.token_to_id("[CLS]"), "eos_token_id": t.token_to_id("[SEP]")}
    # a window of 8 tokens: shorter than the queries, so that local attention shows
    local = {"local_attention": 8, "global_attn_every_n_layers": 2}
    return ModernBertModel(ModernBertConfig(**_common(size, t, BERT) | local | ids | ends | more))


def _t5(size: int, t: Tokenizer, **more: Any) -> Any:
    shape = {"d_model": HIDDEN, "d_kv": 8, "d_ff": HIDDEN, "num_layers": LAYERS, "num_heads": HEADS}
    ids = {"pad_token_id": t.token_to_id(T5.pad), "eos_token_id": t.token_to_id(T5.last)}
    return T5EncoderModel(T5Config(vocab_size=size, **shape | ids | more))


BASES: dict[str, tuple[Callable[[Special], Tokenizer], Special, Callable[..., Any]]] = {
    "bert-uncased": (_wordpiece(True, True), BERT, _bert),
    "bert-cased": (_wordpiece(False, True), BERT, _bert),
    "bert-uncased-unpunctuated": (_wordpiece(True, False), BERT, _bert),
    "electra": (_wordpiece(True, True), BERT, _electra),
    "distilbert": (_wordpiece(True, True), BERT, _distilbert),
    "roberta": (_byte_bpe, ROBERTA, _roberta),
    "xlm-roberta": (_unigram, ROBERTA, _xlm_roberta),
    "mpnet": (_wordpiece(True, True), Special("<pad>", "[UNK]", "<mask>", "<s>", "</s>"), _mpnet),
    "modernbert": (_byte_bpe, BERT, _modernbert),
    "t5": (_unigram, T5, _t5),
}

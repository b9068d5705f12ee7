"""The layout of BAAI/bge-m3: an XLM-RoBERTa with colbert_linear.pt beside it, no markers, no expansion.

Follows FlagEmbedding 1.4 (inference/embedder/encoder_only/m3.py, finetune/embedder/encoder_only/m3/modeling.py). The
row of <s> is dropped because it is the first one. Every other row is kept, </s> too. Texts are cut at FlagEmbedding's
default length. The heads for one vector per text and for word weights are not part of a ColBERT.
"""

from pathlib import Path
from typing import Any

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import UnsupportedCheckpoint

from ..model import ColbertModel, Dense
from ..tensors import Account, Reading, read_tensor_file
from .backbones import read_backbone
from .tokenizers import frame_of, load_tokenizer, plain_json

__all__ = ["LINEAR", "is_bge_m3", "read_bge_m3"]

LINEAR = "colbert_linear.pt"
LENGTH = 512


def is_bge_m3(folder: Path) -> bool:
    """True when the projection is in a file of its own beside the transformer."""
    return (folder / LINEAR).is_file() and (folder / "config.json").is_file()


def read_bge_m3(folder: Path, reading: Reading) -> tuple[ColbertModel, EncodingSpec, str]:
    """The model, its spec and its tokenizer.json. Raises `UnsupportedCheckpoint`."""
    backbone: Any = read_backbone(folder, reading)
    account = Account(read_tensor_file(folder / LINEAR), LINEAR)
    weight, bias = account.take("weight"), account.take("bias")  # [dim, hidden], [dim]
    account.close()
    if weight is None or bias is None or weight.shape != (len(bias), backbone.config.hidden_size):
        raise UnsupportedCheckpoint(
            f"expected weight [dim, {backbone.config.hidden_size}] and bias [dim] in {LINEAR}, found "
            f"{ ({key: tuple(t.shape) for key, t in account.values.items()}) }"
        )
    tokenizer = load_tokenizer(folder, reading.trust_remote_code)
    model = ColbertModel(backbone, [Dense(weight, bias)])
    spec = EncodingSpec(
        dim=model.dim,
        query_length=LENGTH,
        document_length=LENGTH,
        **frame_of(tokenizer).with_markers(),
        pad_id=tokenizer.pad_token_id or 0,
        expansion_id=None,
        drop_first=True,
    )
    return model, spec, plain_json(tokenizer)

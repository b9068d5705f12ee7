"""The layout of XTR: a T5 encoder, one linear Dense, no markers, no expansion.

Follows the XTR engine WARP (modeling/xtr.py): texts are lower-cased, cut at 32 (queries) and 512 (documents) tokens
with </s> kept, and rows of the padding id do not count on either side.
"""

from pathlib import Path

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import UnsupportedCheckpoint

from ..model import ColbertModel
from ..tensors import read_json, read_tensors
from .backbones import build_backbone, fill_backbone, read_config
from .sentence_transformers import CONFIG, check_head, read_dense
from .tokenizers import frame_of, load_tokenizer, plain_json

__all__ = ["is_xtr", "read_xtr"]

DENSE = "2_Dense"
QUERY_LENGTH, DOCUMENT_LENGTH = 32, 512


def is_xtr(folder: Path) -> bool:
    """Whether the folder holds a T5 and one projection beside it, and no switches of another layout."""
    if not (folder / "config.json").is_file() or not (folder / DENSE / "config.json").is_file():
        return False
    if (folder / CONFIG).is_file() and "model_type" in read_json(folder / CONFIG):
        return False
    return read_json(folder / "config.json").get("model_type") in ("t5", "mt5")


def read_xtr(folder: Path, trust_remote_code: bool) -> tuple[ColbertModel, EncodingSpec, str]:
    """The model, its spec and its tokenizer.json. Raises `UnsupportedCheckpoint`."""
    config = read_config(folder, trust_remote_code)
    backbone = build_backbone(config, trust_remote_code)
    fill_backbone(backbone, read_tensors(folder), "the weight file")
    head = [read_dense(folder / DENSE, "torch.nn.modules.linear.Identity")]
    tokenizer = load_tokenizer(folder, trust_remote_code)
    if tokenizer.pad_token_id is None:
        raise UnsupportedCheckpoint("XTR drops rows of the padding token; this tokenizer has none")
    frame = frame_of(tokenizer)
    spec = EncodingSpec(
        dim=check_head(head, config.hidden_size),
        query_length=QUERY_LENGTH,
        document_length=DOCUMENT_LENGTH,
        query_prefix_ids=frame.prefix,
        query_suffix_ids=frame.suffix,
        document_prefix_ids=frame.prefix,
        document_suffix_ids=frame.suffix,
        pad_id=tokenizer.pad_token_id,
        expansion_id=None,
        skiplist=(tokenizer.pad_token_id,),
        query_skiplist=(tokenizer.pad_token_id,),
        lowercase=True,
    )
    return ColbertModel(backbone, head), spec, plain_json(tokenizer)

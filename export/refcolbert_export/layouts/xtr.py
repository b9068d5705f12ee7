"""The layout of XTR: a T5 encoder, one linear Dense, no markers, no expansion.

Follows the XTR engine WARP (modeling/xtr.py). Texts are lower-cased. Queries are cut at 32 tokens and documents at
512, and </s> is kept. Rows of the padding id are dropped from queries and from documents.
"""

from pathlib import Path

from refcolbert.encoding.spec import EncodingSpec
from refcolbert.errors import UnsupportedCheckpoint

from ..model import ColbertModel
from ..tensors import Reading, read_json
from .sentence_transformers import CONFIG, Module, read_model
from .tokenizers import frame_of, load_tokenizer, plain_json

__all__ = ["is_xtr", "read_xtr"]

DENSE = "2_Dense"
QUERY_LENGTH, DOCUMENT_LENGTH = 32, 512


def is_xtr(folder: Path) -> bool:
    """True when the folder holds a T5 and one projection beside it, and no settings of another layout."""
    if not (folder / "config.json").is_file() or not (folder / DENSE / "config.json").is_file():
        return False
    if (folder / CONFIG).is_file() and "model_type" in read_json(folder / CONFIG):
        return False
    return read_json(folder / "config.json").get("model_type") in ("t5", "mt5")


def read_xtr(folder: Path, reading: Reading) -> tuple[ColbertModel, EncodingSpec, str]:
    """The model, its spec and its tokenizer.json. Raises `UnsupportedCheckpoint`."""
    modules = [Module("Transformer", folder), Module("Dense", folder / DENSE)]
    model = read_model(modules, "torch.nn.modules.linear.Identity", reading)
    tokenizer = load_tokenizer(folder, reading.trust_remote_code)
    if tokenizer.pad_token_id is None:
        raise UnsupportedCheckpoint("expected a tokenizer with a padding token, whose rows XTR drops")
    spec = EncodingSpec(
        dim=model.dim,
        query_length=QUERY_LENGTH,
        document_length=DOCUMENT_LENGTH,
        **frame_of(tokenizer).with_markers(),
        pad_id=tokenizer.pad_token_id,
        expansion_id=None,
        skiplist=(tokenizer.pad_token_id,),
        query_skiplist=(tokenizer.pad_token_id,),
        lowercase=True,
    )
    return model, spec, plain_json(tokenizer)

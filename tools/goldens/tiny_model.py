"""The tiny committed model of the tests: a seeded Stanford checkpoint of a few kilobytes, exported.

    python -m tools.goldens.tiny_model [--out tests/models/tiny] [--checkpoint FOLDER]

It knows English letters and the commonest words, so any text tokenizes; its vectors mean nothing.
"""

import argparse
import json
import string
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from refcolbert_export.conversion.colbert import export_checkpoint

SEED = 20
SPECIAL = ("[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (  # noqa: SIM905 - as a sentence, since a list of them would be a page
    "the of and to in a is that for it as was with be by on not he his are this or at from have an had which you were "
    "they one their all we can has there been if more when will would who so no what how why where do does parse date "
    "file string list return value text index search query document token vector score number time line word path name "
    "read write open close error call function class object method module python wing flow heat boundary layer"
).split()
PIECES = ["##s", "##ed", "##ing", "##er", "##ly", "##al", "##ion", "##es", "##ment", "##able"]
METADATA = {"dim": 16, "query_maxlen": 32, "doc_maxlen": 64, "mask_punctuation": True, "attend_to_mask_tokens": False}


def vocabulary() -> list[str]:
    """Special tokens, punctuation, letters and digits (also as continuations), words."""
    characters = string.ascii_lowercase + string.digits
    return [
        *SPECIAL,
        *string.punctuation,
        *characters,
        *(f"##{c}" for c in characters),
        *dict.fromkeys(word for word in WORDS if len(word) > 1),
        *PIECES,
    ]


def tokenizer() -> Tokenizer:
    """A lower-casing WordPiece tokenizer that frames a text with [CLS] and [SEP]."""
    ids = {token: i for i, token in enumerate(vocabulary())}
    out = Tokenizer(models.WordPiece(ids, unk_token=SPECIAL[3]))
    out.normalizer = normalizers.BertNormalizer(lowercase=True)
    out.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    frame = [(name, ids[name]) for name in ("[CLS]", "[SEP]")]
    out.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=frame)
    out.add_special_tokens([token for token in SPECIAL if "unused" not in token])
    return out


def _spread(t: torch.Tensor) -> torch.Tensor:
    """Weights five times the usual 0.02, so that vectors depend on the whole text; no bias zero, no scale one."""
    return t * 5 if t.ndim == 2 else t + torch.randn_like(t) / 5


def write_checkpoint(folder: Path) -> None:
    """Write the seeded checkpoint in Stanford's layout."""
    config = BertConfig(
        vocab_size=len(vocabulary()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        architectures=["HF_ColBERT"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        backbone = BertModel(config, add_pooling_layer=False)
        linear = torch.nn.Linear(config.hidden_size, METADATA["dim"], bias=False)
        tensors = {f"bert.{key}": _spread(t) for key, t in backbone.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({**tensors, "linear.weight": linear.weight.detach()}, folder / "model.safetensors")
    settings = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": 64,
        **{f"{token[1:-1].lower()}_token": token for token in SPECIAL if "unused" not in token},
    }
    (folder / "config.json").write_text(config.to_json_string())
    (folder / "artifact.metadata").write_text(json.dumps(METADATA, indent=1))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    tokenizer().save(str(folder / "tokenizer.json"))


def main() -> None:
    """Write the checkpoint somewhere and its export to --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("tests/models/tiny"))
    parser.add_argument("--checkpoint", type=Path, help="keep the checkpoint in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = arguments.checkpoint or Path(scratch) / "tiny"
        write_checkpoint(checkpoint)
        report = export_checkpoint(checkpoint, arguments.out)
    print(f"{arguments.out}: max-abs {report['worst']['max_abs']:.1e} on {len(report['texts'])} texts")


if __name__ == "__main__":
    main()

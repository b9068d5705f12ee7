"""Time and memory of an export: a random model of a given size, exported in a process of its own.

    python -m tools.export_checks.cost [--kind modernbert] [--hidden 256] [--layers 4] [--length 8192] [--texts 0]

Prints the size of the weights, and the seconds and the peak memory of the export, above those of a process that has
only imported it. `--split` writes the weights beside the graph, as for models above 2 GiB. `--texts 3` compares three
texts instead of all and measures no speed, where only memory is of interest.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import click
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel

from refcolbert_export.conversion import colbert
from refcolbert_export.parity import report
from refcolbert_export.parity.awkward_texts import FIXED
from tools.goldens.bases import write_base

KINDS = {"modernbert": "modernbert", "xlm-roberta": "xlm-roberta", "bert": "bert-uncased"}
DIM = 128


def write_checkpoint(folder: Path, kind: str, sizes: dict[str, int], length: int) -> int:
    """Write a random checkpoint in Stanford's layout and return the number of its weights."""
    folder.mkdir()
    write_base(KINDS[kind], folder)
    config: Any = AutoConfig.from_pretrained(folder, **sizes, max_position_embeddings=length + 2)
    config.intermediate_size, config.num_attention_heads = 4 * config.hidden_size, max(config.hidden_size // 64, 1)
    if kind == "modernbert":
        layers = range(config.num_hidden_layers)
        config.layer_types = ["sliding_attention" if i % 3 else "full_attention" for i in layers]
        config.local_attention = 128
    config.architectures = ["HF_ColBERT"]
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    config.save_pretrained(folder)
    prefix = model.base_model_prefix
    tensors = {f"{prefix}.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors["linear.weight"] = torch.randn(DIM, config.hidden_size)
    save_file(tensors, folder / "model.safetensors")
    (folder / "artifact.metadata").write_text(json.dumps({"dim": DIM, "doc_maxlen": length}))
    return sum(tensor.numel() for tensor in tensors.values())


def peak() -> float:
    """The largest memory of this process so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def export(checkpoint: Path, out: Path, split: bool, texts: int) -> None:
    """Export, and print what it took."""
    torch.set_num_threads(1)
    with ExitStack() as stack:
        if split:
            stack.enter_context(mock.patch.object(colbert, "LARGEST_FILE", 1))
        if texts:
            few = dict(list(FIXED.items())[:texts])
            stack.enter_context(mock.patch.object(report, "awkward_texts", return_value=few))
            speed = {"query_ms": 0, "document_tokens_per_second": 0}
            stack.enter_context(mock.patch.object(colbert, "measure_speed", return_value=speed))
        start, before = time.perf_counter(), peak()
        worst = colbert.export_checkpoint(checkpoint, out)["worst"]["max_abs"]
    print(f"{time.perf_counter() - start:.0f} s, {peak() - before:.2f} GiB, largest difference {worst:.1e}")


@click.command()
@click.option("--kind", type=click.Choice(list(KINDS)), default="modernbert")
@click.option("--hidden", default=256)
@click.option("--layers", default=4)
@click.option("--vocabulary", default=1000)
@click.option("--length", default=8192, help="Document length and positions.")
@click.option("--texts", default=0, help="Awkward texts to compare; 0: all.")
@click.option("--split", is_flag=True, help="Write the weights beside the graph.")
def main(kind: str, hidden: int, layers: int, vocabulary: int, length: int, texts: int, split: bool) -> None:
    """Write a random checkpoint and export it."""
    sizes = {"hidden_size": hidden, "num_hidden_layers": layers, "vocab_size": vocabulary}
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        count = write_checkpoint(checkpoint, kind, sizes, length)
        print(f"{count / 1e6:.0f} M weights, {count * 4 / 2**30:.2f} GiB in float32, documents of {length} tokens")
        code = "from tools.export_checks.cost import export; from pathlib import Path; import sys; "
        code += f"export(Path(sys.argv[1]), Path(sys.argv[2]), {split}, {texts})"
        subprocess.run([sys.executable, "-c", code, checkpoint, Path(scratch) / "out"], check=True)


if __name__ == "__main__":
    main()

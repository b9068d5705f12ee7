"""Train with one implementation in its own environment: python -m tools.bench.train_peer NAME CHECKPOINT DATA HOW.

NAME is refcolbert or sentence-transformers, DATA a JSONL of query, positive, negative_1 ..., HOW a JSON object:
batch, steps, threads, document_length, precision, dropout. Prints one JSON line: seconds by the clock and of CPU that
the steps took, after one step to warm up.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["main"]

Train = Callable[[int], None]  # that many steps


def _own(checkpoint: Path, data: Path, how: dict[str, Any]) -> Train:
    from refcolbert_export.training.data import read_examples
    from refcolbert_export.training.loop import train
    from refcolbert_export.training.malloc import keep_freed_memory
    from refcolbert_export.training.settings import Settings
    from refcolbert_export.training.start import Head, read_start

    keep_freed_memory()
    examples, start = read_examples([data]), read_start(checkpoint, Head())

    def run(steps: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            settings = Settings(**{**how, "steps": steps, "losses": {"in-batch": 1.0}})
            train(start, examples, Path(folder) / "run", settings)

    return run


def _sentence_transformers(checkpoint: Path, data: Path, how: dict[str, Any]) -> Train:
    import torch
    from datasets import Dataset
    from sentence_transformers import MultiVectorEncoder, MultiVectorEncoderTrainer
    from sentence_transformers.multi_vector_encoder.losses import MultiVectorMultipleNegativesRankingLoss
    from sentence_transformers.multi_vector_encoder.training_args import MultiVectorEncoderTrainingArguments

    torch.set_num_threads(how["threads"])
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    model = MultiVectorEncoder(str(checkpoint), device="cpu")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = how["dropout"]

    def run(steps: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            arguments = MultiVectorEncoderTrainingArguments(
                output_dir=folder,
                max_steps=steps,
                per_device_train_batch_size=how["batch"],
                learning_rate=3e-6,
                max_length={"query": 32, "document": how["document_length"]},
                bf16=how["precision"] == "bf16",
                use_cpu=True,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            loss = MultiVectorMultipleNegativesRankingLoss(model)
            dataset = Dataset.from_list(rows)
            MultiVectorEncoderTrainer(model=model, args=arguments, train_dataset=dataset, loss=loss).train()

    return run


def main() -> None:
    """Train one step, then all of them with the clock running."""
    name, checkpoint, data, text = sys.argv[1:]
    how = json.loads(text)
    make = {"refcolbert": _own, "sentence-transformers": _sentence_transformers}[name]
    run = make(Path(checkpoint), Path(data), how)
    run(1)
    clock, cpu = time.perf_counter(), time.process_time()
    run(how["steps"])
    print(json.dumps({"clock_s": time.perf_counter() - clock, "cpu_s": time.process_time() - cpu}))


if __name__ == "__main__":
    main()

"""Functions that the runners share. Imports numpy alone, so that it works in every original's environment.

A case is {"name", "base", "options", "texts": {"query": [...], "document": [...]}}. Its answer is two files:
`expected.json` with ids, attention and kept rows of each text, `expected.npz` with the vectors of the kept rows.
"""

import importlib.metadata
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Answer", "alter", "answer", "run", "versions"]

Answer = dict[str, Any]  # ids, attention, kept: lists; vectors: array [n_kept, dim]


def answer(ids: Any, attention: Any, kept: Any, vectors: Any) -> Answer:
    """One text's answer from the original's tensors."""
    keep = np.asarray(kept).astype(bool)  # [n]
    found = np.asarray(vectors, dtype=np.float32)  # [n_kept, dim]
    if len(found) != keep.sum():
        raise SystemExit(f"{keep.sum()} rows count, {len(found)} vectors came back")
    rows = [int(row) for row in np.flatnonzero(keep)]
    plain = {"ids": np.asarray(ids).tolist(), "attention": np.asarray(attention).astype(int).tolist()}
    return {**plain, "kept": rows, "vectors": found}


def run(encode: Callable[[dict[str, Any], Path], dict[str, list[Answer]]], packages: Sequence[str]) -> None:
    """Answer every case of the file in argv[1], each into the folder argv[2]/name."""
    cases, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    for case in cases:
        folder = out / case["name"]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            found = encode(case, folder / "checkpoint")
        except Exception as error:
            if not case.get("may_fail"):
                raise
            (folder / "expected.json").write_text(json.dumps({"refused": f"{type(error).__name__}: {error}"[:200]}))
            continue
        vectors = {f"{s}_{i}": t.pop("vectors") for s, texts in found.items() for i, t in enumerate(texts)}
        np.savez_compressed(folder / "expected.npz", **vectors)
        about = {"case": case["name"], "base": Path(case["base"]).name, "options": case["options"]}
        expected = {**about, "versions": versions(packages), "texts": case["texts"], "tokens": found}
        (folder / "expected.json").write_text(json.dumps(expected) + "\n")
        print(case["name"], len(vectors), flush=True)


def alter(folder: Path, how: Sequence[str]) -> None:
    """Change a saved checkpoint: float16, bfloat16, inert (keys without meaning), sharded, pickled."""
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    if not how or not path.is_file():
        return
    tensors = load_file(path)
    for name in {"float16", "bfloat16"} & set(how):
        tensors = {key: t.to(getattr(torch, name)) if t.is_floating_point() else t for key, t in tensors.items()}
    if "inert" in how:
        found = json.loads((folder / "config.json").read_text())
        extra = {"gradient_checkpointing": False, "torch_dtype": "float32", "_commit_hash": "x", "id2label": {"0": "L"}}
        (folder / "config.json").write_text(json.dumps({**found, **extra}, indent=1))
    path.unlink()
    if "sharded" in how:
        keys, where = sorted(tensors), {}
        for i, part in enumerate((keys[: len(keys) // 2], keys[len(keys) // 2 :])):
            shard = f"model-{i + 1:05}-of-00002.safetensors"
            save_file({key: tensors[key] for key in part}, folder / shard, metadata={"format": "pt"})
            where.update(dict.fromkeys(part, shard))
        index = {"metadata": {"total_size": 1}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    elif "pickled" in how:
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        save_file(tensors, path, metadata={"format": "pt"})


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions by package."""
    return {name: importlib.metadata.version(name) for name in packages}

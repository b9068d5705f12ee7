"""What the runners share. Imports numpy alone, so that it works in every original's environment.

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

__all__ = ["Answer", "answer", "run", "versions"]

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
        found = encode(case, folder / "checkpoint")
        vectors = {f"{s}_{i}": t.pop("vectors") for s, texts in found.items() for i, t in enumerate(texts)}
        np.savez_compressed(folder / "expected.npz", **vectors)
        about = {"case": case["name"], "base": Path(case["base"]).name, "options": case["options"]}
        expected = {**about, "versions": versions(packages), "texts": case["texts"], "tokens": found}
        (folder / "expected.json").write_text(json.dumps(expected) + "\n")
        print(case["name"], len(vectors), flush=True)


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Installed versions by package."""
    return {name: importlib.metadata.version(name) for name in packages}

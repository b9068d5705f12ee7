"""The tiny index that is kept for each released version of the format, and its answers.

    python -m tools.goldens.index

Writes golden/index/v<N> for the current version, once: an index of a released version is never made again, because the
test that opens it asks whether what users have on disk can still be read. Vectors lie on a grid where float32 is exact.

The answers of an index with words have BM25 scores too, but no fused ones: how scores are fused is no part of a format.
"""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refcolbert import Index
from refcolbert.storage.format import FORMAT_VERSION
from tools import ROOT

from .provenance import commit, hashed, provenance

INDEXES = ROOT / "golden" / "index"
DIM = 8
KINDS: dict[str, dict[str, Any]] = {
    "raw": {"nbits": "float16", "words": "porter"},
    "encoded": {"nbits": 4, "train_at": 60, "words": "porter"},
}


def grid(seed: int, n: int) -> NDArray[np.float32]:
    """[n, DIM] multiples of 1/8."""
    return np.random.default_rng(seed).integers(-8, 9, (n, DIM)).astype(np.float32) / np.float32(8)


def fill(index: Index) -> None:
    """Twenty documents, one of them replaced and two deleted, in several segments."""
    records = [
        {"id": f"d{i}", "text": f"Text {i}: naïve 文", "metadata": {"n": i, "even": i % 2 == 0}} for i in range(20)
    ]
    index.add(records[:16], vectors=[grid(i, 3 + i % 4) for i in range(16)])
    index.add(records[16:], vectors=[grid(i, 3) for i in range(16, 20)])
    index.upsert([{"id": "d3", "text": "changed"}], vectors=[grid(33, 4)])
    index.delete(["d5", "d17"])


def answers(index: Index) -> dict[str, Any]:
    """The answers of the index: ids, hits with scores, a filtered search, one document, a search by words if it can."""
    q = grid(100, 4)
    found = {
        "ids": index.ids(),
        "hits": [[h.id, h.score, h.text] for h in index.search(q, 30)],
        "even": [[h.id, h.score] for h in index.search(q, 3, where={"even": True, "n": {"$gte": 4}})],
        "metadata": index.get(["d4"])[0].metadata,
    }
    if index.view.manifest.words is not None:
        found["words"] = [[h.id, h.score, h.text] for h in index.search("texts: CHANGED naive 文 7", 30, mode="words")]
    return found


def about(reason: str) -> dict[str, Any]:
    """Provenance of the folders. Ids, texts and metadata are exact, scores to a relative rounding of a sum."""
    more = {
        "generated_by": f"tools/goldens/index.py at {commit()}",
        "command": "python -m tools.goldens.index",
        "seed": 0,
        "source": hashed("tools/goldens/index.py"),
        "versions": {"numpy": np.__version__},
    }
    exact = dict.fromkeys(("ids", "order", "texts", "metadata"), 0.0)
    return provenance("index", "raw, encoded", more, {**exact, "scores": 1e-12}, reason)


def main() -> None:
    """Write the current version's index and answers."""
    folder = INDEXES / f"v{FORMAT_VERSION}"
    if folder.exists():
        raise SystemExit(f"{folder} is there already and stays as it is")
    for name, options in KINDS.items():
        folder.mkdir(parents=True, exist_ok=True)
        scratch = folder / f"{name}-scratch"
        with Index.create(scratch, dim=DIM, **options) as index:
            fill(index)
            index.snapshot(folder / name)
        (folder / name / "writer.lock").unlink()
        found = answers(Index.open(folder / name, verify="full"))
        (folder / f"{name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        for path in sorted(scratch.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        scratch.rmdir()
    path = INDEXES / "provenance.json"
    path.write_text(json.dumps(about(f"the first of format version {FORMAT_VERSION}"), indent=1) + "\n")
    print(f"{folder}: {sum(p.stat().st_size for p in folder.rglob('*') if p.is_file()):,} bytes")


if __name__ == "__main__":
    main()

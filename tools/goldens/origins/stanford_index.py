"""An index that colbert-ai itself writes: python -m tools.goldens.origins.stanford_index BASE OUT, where colbert-ai is.

For each number of bits OUT/<bits>bits gets the index folder as colbert-ai leaves it, but for the settings that name
places of a machine, and `decompressed.npz`: the vectors that colbert-ai's own codec gives for each chunk.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from colbert import Indexer
from colbert.data.collection import Collection
from colbert.indexing.codecs.residual import ResidualCodec
from colbert.infra import ColBERTConfig, Run, RunConfig

from .common import versions
from .stanford import VOLATILE, write

DIM, CHUNK = 32, 5  # documents of a chunk, so that there are several
SCENES = ("late interaction", "amber urine", "every query token", "the document scores", "what color is code")
TEXTS = [f"{SCENES[i % 5]} {'of the square ' * (i % 4)}{i} in {SCENES[(i * 3 + 1) % 5]}" for i in range(12)]


def index(checkpoint: Path, nbits: int, out: Path) -> None:
    """Let colbert-ai index the texts, and decompress what it wrote."""
    Collection.get_chunksize = lambda self: CHUNK
    with (
        tempfile.TemporaryDirectory() as root,
        Run().context(RunConfig(nranks=1, root=root, experiment="e", avoid_fork_if_possible=True)),
    ):
        config = ColBERTConfig(nbits=nbits, dim=DIM, kmeans_niters=4, index_bsize=4, avoid_fork_if_possible=True)
        indexer = Indexer(str(checkpoint), config=config, verbose=0)
        folder = Path(indexer.index(name="i", collection=TEXTS, overwrite=True))
        codec, found = ResidualCodec.load(str(folder)), {}
        for chunk in range(len(list(folder.glob("doclens.*.json")))):
            found[f"chunk{chunk}"] = codec.decompress(ResidualCodec.Embeddings.load(str(folder), chunk)).numpy()
        shutil.copytree(folder, out)
    for name in ("metadata.json", "plan.json"):
        content = json.loads((out / name).read_text())
        content["config"] = {key: value for key, value in content["config"].items() if key not in VOLATILE}
        (out / name).write_text(json.dumps(content, indent=1) + "\n")
    np.savez_compressed(out / "decompressed.npz", **found)


def main() -> None:
    """Both numbers of bits, and what wrote them."""
    base, out = Path(sys.argv[1]), Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as scratch:
        checkpoint = Path(scratch) / "checkpoint"
        write({"base": str(base), "options": {"metadata": {"dim": DIM}}}, checkpoint)
        for nbits in (2, 4):
            index(checkpoint, nbits, out / f"{nbits}bits")
    about = {"versions": versions(["colbert-ai", "torch", "transformers", "faiss-cpu"]), "texts": TEXTS}
    about["command"] = "python -m tools.goldens.plaid PYTHON"
    (out / "provenance.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()

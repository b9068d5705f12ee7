"""Write golden/plaid: small indexes that colbert-ai itself writes, and its own decompression of them.

    python -m tools.goldens.plaid PYTHON --reason "..." [--out golden/plaid]

PYTHON is the interpreter of an environment with colbert-ai (`python -m tools.environments stanford`); the transformer
is the seeded one of `tools.goldens.bases`. k-means makes other centroids each time, so a new run is another golden.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tools import ROOT

from .bases import write_base
from .provenance import commit, hashed, provenance


def main() -> None:
    """Make the base here, then let colbert-ai index with it."""
    parser = argparse.ArgumentParser(description="Write golden/plaid with colbert-ai.")
    parser.add_argument("python", type=Path, help="the interpreter of an environment that has colbert-ai")
    parser.add_argument("--out", type=Path, default=ROOT / "golden" / "plaid")
    parser.add_argument("--reason", required=True, help="why; kept beside what is written")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        write_base("bert-uncased", Path(scratch))
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": "", "CUDA_VISIBLE_DEVICES": ""}
        command = [
            arguments.python.absolute(),
            "-m",
            "tools.goldens.origins.stanford_index",
            scratch,
            arguments.out.absolute(),
        ]
        subprocess.run(command, check=True, env=offline, cwd=ROOT)
    path = arguments.out / "provenance.json"
    path.write_text(json.dumps(about(json.loads(path.read_text()), arguments.reason), indent=1) + "\n")


def about(said: dict[str, Any], reason: str) -> dict[str, Any]:
    """Provenance of the folders; `said` has colbert-ai's versions and the texts."""
    more = {
        "generated_by": f"tools/goldens/origins/stanford_index.py at {commit()}",
        "command": "python -m tools.goldens.plaid PYTHON",
        "seed": 3,  # of the weights; colbert-ai's k-means takes none
        "source": {**hashed("tools/goldens/origins/stanford_index.py"), "texts": said["texts"]},
        "versions": said["versions"],
    }
    return provenance("plaid", "2bits, 4bits", more, {"vectors": 1e-6}, reason)


if __name__ == "__main__":
    main()

"""Write golden/plaid: small indexes that colbert-ai itself writes, and its own decompression of them.

    python -m tools.golden_plaid PYTHON [--out golden/plaid]

PYTHON is the interpreter of an environment with colbert-ai (`tools.golden.ENVIRONMENTS["stanford"]`); the transformer
is the seeded one of `tools.bases`. k-means makes other centroids each time, so a new run is another golden.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from .bases import write_base

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Make the base here, then let colbert-ai index with it."""
    parser = argparse.ArgumentParser(description="Write golden/plaid with colbert-ai.")
    parser.add_argument("python", type=Path, help="the interpreter of an environment that has colbert-ai")
    parser.add_argument("--out", type=Path, default=ROOT / "golden" / "plaid")
    arguments = parser.parse_args()
    shutil.rmtree(arguments.out, ignore_errors=True)
    arguments.out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        write_base("bert-uncased", Path(scratch))
        offline = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": "", "CUDA_VISIBLE_DEVICES": ""}
        command = [arguments.python.absolute(), "-m", "tools.origins.stanford_index", scratch, arguments.out.absolute()]
        subprocess.run(command, check=True, env=offline, cwd=ROOT)


if __name__ == "__main__":
    main()

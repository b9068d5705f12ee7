"""The environments of other implementations, which cannot share one: each is made when it is first needed.

`python -m tools.environments NAME` makes one and prints its interpreter.
"""

import platform
import subprocess
import sys
from pathlib import Path

import click

from tools import ROOT

__all__ = ["ENVIRONMENTS", "python_of"]

ENVIRONMENTS = {  # name of the folder behind .venv- -> what pip installs, call by call
    # Both engines bring the torch that they were compiled for, 2.11 with CUDA: on 2.13 they crash, a CPU build lacks a
    # library.
    "peers": ["fast-plaid==1.7.0.2110 xtr-warp-rs==2.1.0.2110 maxsim-cpu==0.1.0"],
    # The wheel's names demand glibc 2.39, but only weak symbols do: it runs on older ones if pip is told to unpack it.
    "tachiom": ["numpy", f"--no-deps --platform manylinux_2_39_{platform.machine()} --target {{site}} tachiom==0.4.0"],
    "stanford": ["torch==2.13.0 colbert-ai==0.2.22 faiss-cpu transformers<4.50 ninja setuptools"],
    "pylate": [
        "torch==2.13.0 sentence-transformers==5.3.0 transformers==5.3.0 datasets accelerate pandas ujson==5.12.0",
        "--no-deps pylate==1.6.0 fastkmeans==0.5.0",
    ],
    # refcolbert itself is imported from this folder: installing it would bring the onnxruntime without CUDA.
    "cuda": [
        "onnxruntime-gpu[cuda,cudnn] numpy tokenizers huggingface-hub tqdm filelock click markdown-it-py pyyaml",
    ],
    "words": ["bm25s==0.2.14"],
    "multivector": ["torch==2.13.0 sentence-transformers==6.2.0"],
    "bge_m3": ["torch==2.13.0 FlagEmbedding==1.4.2 transformers==5.3.0"],
}


def python_of(name: str | None, *packages: str) -> Path:
    """The interpreter of an environment that can import `packages`, made where it cannot; None: this interpreter."""
    if name is None:
        return Path(sys.executable)
    folder = ROOT / f".venv-{name}"
    python, ready = folder / "bin" / "python", folder / ".ready"
    if not ready.is_file():
        click.echo(f"making {folder.name}: {', '.join(ENVIRONMENTS[name])}", err=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        for arguments in ENVIRONMENTS[name]:
            (site,) = folder.glob("lib/python*/site-packages")
            _install(python, *arguments.format(site=site).split())
        ready.touch()
    if packages and subprocess.run([python, "-c", f"import {', '.join(packages)}"], capture_output=True).returncode:
        _install(python, *packages)
    return python


def _install(python: Path, *arguments: str) -> None:
    subprocess.run([python, "-m", "pip", "install", "--quiet", *arguments], check=True)


@click.command()
@click.argument("name", type=click.Choice(list(ENVIRONMENTS)))
def main(name: str) -> None:
    """Make the environment NAME where it is not yet there, and print its interpreter."""
    click.echo(str(python_of(name)))


if __name__ == "__main__":
    main()

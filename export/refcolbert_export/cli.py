"""The verbs that the torch side adds to the command line. Importing this module imports no torch."""

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from refcolbert.errors import MissingDependency

__all__ = ["export", "verify"]


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--variant",
    type=click.Choice(["float32", "float16", "int8", "dynamic-int8"]),
    default="float32",
    show_default=True,
    help="float16 and int8 store less and compute in float32; dynamic-int8 computes in int8: fast, less exact.",
)
@click.option("--query-prompt", metavar="NAME", help="The checkpoint's prompt for queries, if not its own choice.")
@click.option("--document-prompt", metavar="NAME", help="The same for documents.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that the checkpoint brings along.")
def export(
    checkpoint: Path,
    out: Path,
    variant: str,
    query_prompt: str | None,
    document_prompt: str | None,
    trust_remote_code: bool,
) -> None:
    """Turn a trained ColBERT CHECKPOINT into the ONNX model folder OUT, and prove that both agree."""
    named = {"query": query_prompt, "document": document_prompt}
    prompts = {side: name for side, name in named.items() if name is not None}
    convert = _torch_side("folder").export_checkpoint
    report = convert(checkpoint, out, variant=variant, trust_remote_code=trust_remote_code, prompts=prompts)
    click.echo(f"{out}: {_summary(report)}")


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--against", type=click.Path(path_type=Path), help="The checkpoint to compare with; needs torch.")
@click.option("--trust-remote-code", is_flag=True, help="Run Python code that the checkpoint brings along.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def verify(out: Path, against: Path | None, trust_remote_code: bool, as_json: bool) -> None:
    """Check that the model folder OUT still gives the vectors of its parity report, or those of a checkpoint."""
    if against is None:
        from .parity import recheck

        found = recheck(out)
        text = f"{found['texts']} texts, probes within {found['worst_probe']:.1e} of the report"
    else:
        found = _torch_side("folder").verify_against(out, against, trust_remote_code=trust_remote_code)
        text = _summary(found)
    click.echo(json.dumps(found, indent=1) if as_json else f"{out}: {text}")


def _summary(report: dict[str, Any]) -> str:
    worst = report["worst"]
    return (
        f"{len(report['texts'])} texts and {len(report['shapes'])} shapes agree with the checkpoint, "
        f"max-abs {worst['max_abs']:.1e}, min cosine {worst['min_cosine']:.7f}"
    )


def _torch_side(module: str) -> ModuleType:
    """Import a module of this package that needs torch. Raises `MissingDependency`."""
    try:
        return importlib.import_module(f"{__package__}.{module}")
    except ModuleNotFoundError as error:
        if error.name in ("torch", "transformers", "onnx", "safetensors"):
            raise MissingDependency(
                f"this command needs {error.name}, which is not installed: pip install 'refcolbert[export]'"
            ) from error
        raise

"""Run the conformance suite against every engine, keep the results, and write docs/conformance-results.md.

    python -m tools.conformance [run [NAMES ...] | tables]

`run` makes the environments that are missing, by the recipes of `tools.environments`, runs the suite in each, and
writes results.json here; `tables` writes the tables from it, without any environment: a case that is new since an
engine ran is not offered by it if its adapter lacks what the case needs, otherwise the engine has to run.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import click

from tools import ROOT
from tools.environments import python_of

from .engines import ENGINES
from .pages import write
from .tables import RESULTS, with_new_cases

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "RAYON_NUM_THREADS")


def face(name: str) -> dict[str, object]:
    """One engine's results: version, and of each case whether it passed, failed or was not offered, and why."""
    module, environment, package = ENGINES[name]
    python = python_of(environment, "pytest", "hypothesis")
    ask = f"from importlib.metadata import version; print(version({package!r}))"
    version = subprocess.run([python, "-c", ask], check=True, capture_output=True, text=True).stdout if package else ""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "results.json"
        command: list[str | Path] = [
            python,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/conformance/test_conformance.py",
        ]
        command += ["--impl", module, "--examples", "50", "--tb=no", "--conformance-json", out]
        variables = dict.fromkeys(THREADS, "1") | {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "CI": "true"}
        subprocess.run(command, cwd=ROOT, env={**os.environ, **variables}, stdout=subprocess.DEVNULL)
        if not out.exists():
            raise click.ClickException(f"{name}: the run ended without results")
        return {"version": version.strip(), "cases": json.loads(out.read_text())[module]}


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Write what each engine passes and fails."""
    if context.invoked_subcommand is None:
        context.invoke(run)


@main.command()
@click.argument("names", nargs=-1, type=click.Choice(list(ENGINES)))
def run(names: tuple[str, ...]) -> None:
    """Run these engines, or all, and write the tables."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in names or ENGINES:
        results[name] = face(name)
        counts = [kind for kind, _ in results[name]["cases"].values()]
        click.echo(f"{name}: " + ", ".join(f"{counts.count(kind)} {kind}" for kind in dict.fromkeys(counts)))
    ordered = {name: results[name] for name in ENGINES if name in results}
    RESULTS.write_text(json.dumps(ordered, indent=1, sort_keys=False) + "\n")
    write()


@main.command()
def tables() -> None:
    """Write the tables from the results that are kept."""
    results = with_new_cases(json.loads(RESULTS.read_text()), {name: module for name, (module, *_) in ENGINES.items()})
    RESULTS.write_text(json.dumps(results, indent=1, sort_keys=False) + "\n")
    write()


if __name__ == "__main__":
    main()

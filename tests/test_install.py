"""The wheel, installed alone into a new environment, indexes and searches with its own model, without torch."""

import os
import subprocess
import sys
import tarfile
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SESSION = """
import sys
import refcolbert
with refcolbert.Index.create(sys.argv[1]) as index:
    index.add(["the cat sat on the mat", "stocks fell on monday"])
    hit = index.search("a cat on a mat", k=1)[0]
    assert (hit.id, hit.rank) == ("0", 1), hit
    assert abs(sum(match.similarity for match in hit.explain().matches) - hit.score) < 1e-9
for name in ("torch", "transformers", "onnx", "scipy"):
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(name + " is installed")
print(refcolbert.__file__)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """The interpreter of an environment that holds the wheel and its dependencies, nothing else."""
    folder = tmp_path_factory.mktemp("install")
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", folder / "wheel", ROOT)
    venv.create(folder / "env", with_pip=True)
    interpreter = folder / "env" / ("Scripts" if os.name == "nt" else "bin") / "python"
    run(interpreter, "-m", "pip", "install", *(folder / "wheel").glob("*.whl"))
    return interpreter


def run(*command, **options):
    """Run a command to its end; its output is the error when it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=900, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.install
def test_core_alone_encodes_indexes_and_searches(python, tmp_path):
    """The core's install pulls no torch and does its whole job."""
    where = run(python, "-c", SESSION, tmp_path / "i", cwd=tmp_path)
    assert str(ROOT / "refcolbert") not in where


@pytest.mark.install
def test_command_line_without_the_extra_names_it(python, tmp_path):
    """The installed command works, and the torch side's verb says which extra it needs."""
    command = python.with_name("refcolbert")
    assert "export" in run(command, "--help")
    (tmp_path / "texts.txt").write_text("rain is expected at noon")
    run(command, "index", tmp_path / "i", tmp_path / "texts.txt")
    assert "rain" in run(command, "search", tmp_path / "i", "rain at noon")
    (tmp_path / "checkpoint").mkdir()
    failed = subprocess.run(
        [command, "export", tmp_path / "checkpoint", tmp_path / "out"], capture_output=True, text=True, timeout=120
    )
    assert failed.returncode == 1
    assert "refcolbert[export]" in failed.stderr


@pytest.mark.install
def test_the_source_distribution_is_the_repository(tmp_path):
    """The sdist holds every tracked file that is not hidden: the site can be built and the tests run from it."""
    pytest.importorskip("setuptools", "77")
    program = "import sys; from setuptools.build_meta import build_sdist; print(build_sdist(sys.argv[1]))"
    name = run(sys.executable, "-c", program, tmp_path, cwd=ROOT).splitlines()[-1]
    with tarfile.open(tmp_path / name) as archive:
        held = {member.name.partition("/")[2] for member in archive if member.isfile()}
    tracked = run("git", "ls-files", cwd=ROOT).splitlines()
    assert not [path for path in tracked if not path.startswith(".") and path not in held]


def test_the_extra_of_the_site_has_what_its_pages_import():
    """The API page describes the service, whose packages the extra `docs` then needs as well."""
    assert "refcolbert.service.server" in (ROOT / "docs" / "api.md").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert "refcolbert[serve]" in extras["docs"]

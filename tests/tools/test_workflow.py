"""The workflow for hosted CI: it tests what the package says that it supports, by the Makefile's own commands."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def jobs():
    """The jobs of the workflow."""
    return yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())["jobs"]


def test_every_version_of_python_that_is_named_is_tested(jobs):
    """The matrix has all versions of the classifiers."""
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    named = {match[1] for name in classifiers if (match := re.fullmatch(r".*Python :: (3\.\d+)", name))}
    assert named
    assert named <= set(jobs["core"]["strategy"]["matrix"]["python"])


def test_targets_and_extras_exist(jobs):
    """Each `make` target is in the Makefile, each extra in pyproject.toml."""
    commands = " ".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"make (\w+)", commands)) <= targets
    assert set(re.findall(r"'\.\[(\w+)\]'", commands)) <= set(extras)
    assert "make core" in commands

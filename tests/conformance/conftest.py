"""`--impl package.module`: which implementation the cases face. Without it, those of this repository."""

import importlib.util
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import settings

from . import registry

OWN = ("refcolbert.definition", "tools.conformance.core", "conformance.complete")
RESULTS, REPRODUCERS = pytest.StashKey(), pytest.StashKey()


def pytest_addoption(parser):
    """The options of this suite."""
    parser.addoption(
        "--impl", action="append", metavar="MODULE", help="implementation(s) that the conformance cases face"
    )
    parser.addoption("--examples", type=int, help="drawn for each case; else what the Hypothesis profile says")
    parser.addoption("--conformance-json", metavar="FILE", help="write passed, failed and not offered there, by case")


def chosen(config):
    """Names of the implementations to face."""
    given = config.getoption("--impl", None)
    whole = importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("tokenizers")
    return given or (OWN if whole else (OWN[0], OWN[2]))


def pytest_configure(config):
    """Places for the results, and for what runs the failures again. An adapter that does not load ends the run."""
    config.stash[RESULTS], config.stash[REPRODUCERS] = {}, []
    for name in config.getoption("--impl", None) or ():
        try:
            registry.load(name)
        except Exception as error:
            place = "a module that can be imported from the folder where pytest was started"
            raise pytest.UsageError(f"--impl {name}: {type(error).__name__}: {error}; expected {place}") from error


def pytest_generate_tests(metafunc):
    """One test for each implementation and case."""
    if "conformance_case" in metafunc.fixturenames:
        pairs = [(name, case) for name in chosen(metafunc.config) for case in registry.all_cases().values()]
        metafunc.parametrize(("implementation_name", "conformance_case"), pairs, ids=lambda v: getattr(v, "name", v))


def pytest_collection_modifyitems(config, items):
    """Whoever names an implementation asks about that one, not about this suite."""
    if config.getoption("--impl", None):
        items[:] = [item for item in items if "conformance_case" in getattr(item, "fixturenames", ())]


@pytest.fixture(autouse=True)
def every_index_is_sound():
    """Replaces the fixture of the same name one folder up, which needs the whole package."""


@pytest.fixture
def max_examples(request):
    """How many examples of each case: of the profile's a tenth, where the everyday tests run all implementations."""
    if request.config.getoption("--impl", None):
        return request.config.getoption("--examples")
    return request.config.getoption("--examples", None) or max(settings().max_examples // 10, 10)


@pytest.fixture
def record(request):
    """A dictionary implementation -> case -> result."""
    return request.config.stash[RESULTS]


@pytest.fixture
def reproducers(request):
    """A list of calls that run a failed case again."""
    return request.config.stash[REPRODUCERS]


def pytest_terminal_summary(terminalreporter, config):
    """How to run failures again; how many cases each implementation passes, fails, and does not offer."""
    if config.stash[REPRODUCERS]:
        terminalreporter.write_line("Paste this into a Python in the root of the clone to run the failures again:")
        terminalreporter.write_line("\n".join([registry.PREAMBLE, *config.stash[REPRODUCERS]]))
    results = config.stash[RESULTS]
    for name, found in results.items():
        counts = Counter(kind for kind, _ in found.values())
        text = ", ".join(f"{counts[kind]} {kind}" for kind in ("passed", "failed", "not offered"))
        terminalreporter.write_line(f"conformance of {name}: {text}")
    if config.getoption("--conformance-json", None):
        Path(config.getoption("--conformance-json")).write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")

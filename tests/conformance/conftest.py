"""The option `--impl package.module` chooses the implementation; by default those of this repository are tested."""

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
    """Add the options of this suite."""
    parser.addoption(
        "--impl", action="append", metavar="MODULE", help="implementation(s) to run the conformance cases against"
    )
    parser.addoption("--examples", type=int, help="examples per case; by default those of the Hypothesis profile")
    parser.addoption("--conformance-json", metavar="FILE", help="write the result of each case there")


def chosen(config):
    """Names of the implementations to test."""
    named = config.getoption("--impl", None)
    whole = importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("tokenizers")
    return named or (OWN if whole else (OWN[0], OWN[2]))


def pytest_configure(config):
    """Prepare the results and the reproducers. An adapter that does not load ends the run."""
    config.stash[RESULTS], config.stash[REPRODUCERS] = {}, []
    for name in config.getoption("--impl", None) or ():
        try:
            registry.load(name)
        except Exception as error:
            place = "a module that can be imported from the folder where pytest was started"
            raise pytest.UsageError(f"--impl {name}: {type(error).__name__}: {error}; expected {place}") from error


def pytest_generate_tests(metafunc):
    """Make one test per implementation and case."""
    if "conformance_case" in metafunc.fixturenames:
        pairs = [(name, case) for name in chosen(metafunc.config) for case in registry.all_cases().values()]
        metafunc.parametrize(("implementation_name", "conformance_case"), pairs, ids=lambda v: getattr(v, "name", v))


def pytest_collection_modifyitems(config, items):
    """With --impl run the cases alone, not the tests of the suite itself."""
    if config.getoption("--impl", None):
        items[:] = [item for item in items if "conformance_case" in getattr(item, "fixturenames", ())]


@pytest.fixture(autouse=True)
def every_index_is_sound():
    """Replace the fixture of the same name one folder up, which needs the whole package."""


@pytest.fixture
def max_examples(request):
    """Examples per case: --examples, or a tenth of the profile's if the implementations of this repository are run."""
    if request.config.getoption("--impl", None):
        return request.config.getoption("--examples")
    return request.config.getoption("--examples", None) or max(settings().max_examples // 10, 10)


@pytest.fixture
def record(request):
    """A dictionary from implementation to case to result."""
    return request.config.stash[RESULTS]


@pytest.fixture
def reproducers(request):
    """A list of calls that run the failed cases again."""
    return request.config.stash[REPRODUCERS]


def pytest_terminal_summary(terminalreporter, config):
    """Print how to run failures again, and how many cases each implementation passes, fails and does not offer."""
    if config.stash[REPRODUCERS]:
        terminalreporter.write_line("Paste this into a Python in the root of the clone to run the failures again:")
        terminalreporter.write_line("\n".join([registry.PREAMBLE, *config.stash[REPRODUCERS]]))
    results = config.stash[RESULTS]
    for name, cases in results.items():
        counts = Counter(kind for kind, _ in cases.values())
        text = ", ".join(f"{counts[kind]} {kind}" for kind in ("passed", "failed", "not offered"))
        terminalreporter.write_line(f"conformance of {name}: {text}")
    if config.getoption("--conformance-json", None):
        Path(config.getoption("--conformance-json")).write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")

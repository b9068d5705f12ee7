"""docs/benchmarks.md is what its generator makes of benchmarks/*.json."""

import importlib.util
import re

import pytest

from tools.bench import pages

BENCHMARKS = pages.load()


def test_the_page_is_generated():
    """The page equals the generator's output; run `python -m tools.bench.pages` when it does not."""
    assert pages.PAGE.read_text() == pages.page()


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_command_exists(name):
    """The command of a benchmark is a module of tools, a make target or, where its tool has gone, in the notes."""
    benchmark = BENCHMARKS[name]
    module = re.search(r"python -m (\S+)", benchmark["command"])
    if module is None:
        target = benchmark["command"].removeprefix("make ")
        assert re.search(rf"^{target}:", (pages.ROOT / "Makefile").read_text(), re.MULTILINE)
    elif importlib.util.find_spec(module[1]) is None:
        assert any("has been removed" in note for note in benchmark["notes"])


def test_a_benchmark_with_a_missing_cell_is_refused():
    """A row with fewer cells than there are columns is an error that names the file."""
    benchmark = dict.fromkeys(pages.KEYS, "") | {"columns": ["a", "b"], "rows": [["1"]]}
    with pytest.raises(ValueError, match=r"x\.json: expected 2 cells"):
        pages.section("x.json", benchmark)

"""What holds of the adapters where no framework is installed; tests/adapters has the rest."""

import subprocess
import sys

import pytest

from refcolbert import Index
from refcolbert.adapters.pylate import pylate_results


@pytest.mark.parametrize(
    ("adapter", "package"), [("langchain", "langchain_core"), ("llamaindex", "llama_index"), ("haystack", "haystack")]
)
def test_a_missing_framework_is_named(adapter, package):
    """Importing an adapter names the extra to install when its framework cannot be imported."""
    code = f"""
import sys
sys.modules["{package}"] = None
from refcolbert.errors import MissingDependency
try:
    import refcolbert.adapters.{adapter}
except MissingDependency as error:
    print(error)
"""
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120)
    assert f"pip install 'refcolbert[{adapter}]'" in found.stdout


def test_answers_take_pylates_shape(tmp_path, encoder):
    """Each query has a list of ids and scores, best first, an empty one when nothing was found."""
    index = Index.create(tmp_path / "i", encoder)
    index.add(["strptime turns a text into a date", "csv reader gives each row as a list"])
    answers = index.search_many(["parse a date", "rows"], 2)
    assert pylate_results(answers) == [[{"id": hit.id, "score": hit.score} for hit in hits] for hits in answers]
    assert [len(found) for found in pylate_results(answers)] == [2, 2]
    assert pylate_results(index.search_many(["rows"], where={"no": 1})) == [[]]

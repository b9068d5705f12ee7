"""The frameworks have an environment of their own: where one is missing, its tests are not collected unless named."""

import os
from importlib.util import find_spec

import pytest

from refcolbert import Index

os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")  # read when it is imported

NEEDS = {
    "test_langchain.py": "langchain_core",
    "test_langchain_store.py": "langchain_tests",
    "test_llamaindex.py": "llama_index",
    "test_llamaindex_index.py": "llama_index",
    "test_haystack.py": "haystack",
    "test_haystack_store.py": "haystack",
}
collect_ignore = [name for name, package in NEEDS.items() if find_spec(package) is None]
if collect_ignore:
    collect_ignore.append("test_documents.py")

NOTES = [
    {"id": "dates", "text": "strptime turns a text into a date", "metadata": {"year": 2021, "lang": "en"}},
    {"id": "rows", "text": "csv reader gives each row as a list", "metadata": {"year": 2024, "lang": "en"}},
    {"id": "datum", "text": "ein Text wird ein Datum", "metadata": {"year": 2024, "lang": "de"}},
    {"id": "files", "text": "walk lists the files in a folder", "metadata": {"lang": "en"}},
]


def pytest_collection_modifyitems(items):
    """Everything in this folder is marked `adapters`."""
    for item in items:
        if item.path.parent.name == "adapters":
            item.add_marker(pytest.mark.adapters)


@pytest.fixture
def index(tmp_path, encoder):
    """Four notes with texts and metadata."""
    index = Index.create(tmp_path / "notes.index", encoder)
    index.add(NOTES)
    return index


@pytest.fixture
def textless(tmp_path, encoder):
    """A document without a text."""
    index = Index.create(tmp_path / "textless.index", encoder)
    index.add([{"id": "a"}], vectors=[encoder.encode_documents(["something"])[0]])
    return index

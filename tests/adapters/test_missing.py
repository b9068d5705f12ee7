"""Adapters without their framework; this runs in every environment."""

import subprocess
import sys

import pytest


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

"""Random damage to whatever is parsed: the short form of `python -m tools.faults.fuzz`."""

import importlib.util
import os

import pytest

from refcolbert.storage.format import Manifest
from tools.faults.fuzz import TARGETS, fuzz

NEEDS_TORCH = {"PLAID .pt"} if importlib.util.find_spec("torch") is None else set()


@pytest.mark.parametrize("name", sorted(set(TARGETS) - NEEDS_TORCH))
def test_only_our_own_errors_come_out(name, scratch):
    """Some damaged inputs of each kind are read or refused by type, and some are refused."""
    found = fuzz(name, scratch, seconds=60, most=60)
    assert found.bad == []
    assert 0 < found.refused <= found.inputs == 60


def test_a_parser_that_fails_otherwise_is_found(scratch, monkeypatch):
    """An exception of another kind and the death of the process are findings."""
    monkeypatch.setattr(Manifest, "from_bytes", lambda data: {}[len(data)])
    assert any("KeyError" in bad for bad in fuzz("manifest", scratch / "a", seconds=60, most=20).bad)
    monkeypatch.setattr(Manifest, "from_bytes", lambda data: os._exit(7))
    assert any("ended with 7" in bad for bad in fuzz("manifest", scratch / "b", seconds=60, most=20).bad)

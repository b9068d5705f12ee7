"""Committed results of other implementations: golden/<suite>/<case>.json and <case>.npz."""

import json

import numpy as np

from .oracle import ROOT

GOLDEN = ROOT / "golden"


def names(suite):
    """The cases of a suite."""
    return sorted(path.stem for path in (GOLDEN / suite).glob("*.json"))


def arrays_of(suite, name):
    """The arrays of a case, by name."""
    with np.load(GOLDEN / suite / f"{name}.npz") as arrays:
        return dict(arrays)


def tolerance_of(suite, name, array):
    """The absolute tolerance of an array, as the case states it; 0 means exact."""
    return json.loads((GOLDEN / suite / f"{name}.json").read_text())["tolerance"][array]

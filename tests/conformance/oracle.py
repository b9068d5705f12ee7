"""The definition and its numbered equations.

It is loaded from its file, because importing the package would import ONNX Runtime, which no case needs.
"""

import importlib.util
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _load():
    name = "colbert_definition"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, ROOT / "refcolbert" / "definition.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def equation_of(name):
    """The number of the equation that a function of the definition states; None for other names."""
    stated = re.search(EQUATION, getattr(getattr(definition, name, None), "__doc__", None) or "", re.MULTILINE)
    return stated and stated[1]


EQUATION, SECTION = r"^ +Equation (\d+\.\d+): (.+)$", r"^# ---- (\d+)\. (.+)$"
definition = _load()
_source = Path(definition.__file__).read_text(encoding="utf-8")
STATEMENTS = dict(re.findall(EQUATION, _source, re.MULTILINE) + re.findall(SECTION, _source, re.MULTILINE))

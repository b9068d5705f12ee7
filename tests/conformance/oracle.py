"""The definition, loaded from its file: importing the package would pull in ONNX Runtime, which no case needs."""

import importlib.util
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


definition = _load()

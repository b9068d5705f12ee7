"""ColBERT retrieval in process, without torch: encode, index, update, search and explain in NumPy and ONNX Runtime."""

import logging

from . import errors
from ._version import __version__
from .encoder import Encoder
from .maxsim import maxsim
from .ragged import Ragged
from .spec import EncodingSpec

__all__ = ["Encoder", "EncodingSpec", "Ragged", "__version__", "errors", "maxsim"]

logging.getLogger("refcolbert").addHandler(logging.NullHandler())

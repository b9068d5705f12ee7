"""Types of arrays, named once for the whole package. Every array also carries a comment with its shape."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Bools", "Bytes", "Doubles", "Floats", "Ints"]

Array = NDArray[Any]
Floats = NDArray[np.float32]  # vectors and similarities
Doubles = NDArray[np.float64]  # canonical scores
Ints = NDArray[np.int64]  # row numbers, positions, offsets
Bools = NDArray[np.bool_]  # masks
Bytes = NDArray[np.uint8]  # packed residuals, quantized similarities

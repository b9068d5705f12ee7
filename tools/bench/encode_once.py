"""Encode one document of a given token length: python -m tools.bench.encode_once MODEL LENGTH.

Prints the seconds it took and the process's peak memory in MiB. Imports no torch.
"""

import resource
import sys
import time
from pathlib import Path

from refcolbert.encoding.encoder import Encoder

__all__ = ["main"]


def main() -> None:
    """Load, encode once, report."""
    encoder, length = Encoder(Path(sys.argv[1])), int(sys.argv[2])
    text = _cut(encoder, " ".join("ab"[i % 2] for i in range(length)), length)
    start = time.perf_counter()
    encoder.encode_documents([text])
    seconds = time.perf_counter() - start
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)  # Linux counts KiB


def _cut(encoder: Encoder, text: str, length: int) -> str:
    """So much of the text as takes `length` tokens, frame included."""
    frame = len(encoder.tokenizer.documents([""])[0].ids)
    (found,) = encoder.tokenizer.documents([text])
    spans = [span for span in found.spans if span is not None]
    return text[: spans[min(length - frame, len(spans)) - 1][1]]


if __name__ == "__main__":
    main()

"""Parquet and Arrow files: their rows, a few at a time."""

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

from ..errors import InvalidInput

__all__ = ["arrow_tables", "parquet_tables"]

ROWS = 1024  # of a table


def parquet_tables(stream: BinaryIO, name: str) -> Iterator[Any]:
    """Yield the rows of a Parquet file as Arrow tables. Raises `InvalidInput` if it cannot be read."""
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(stream if stream.seekable() else io.BytesIO(stream.read()))
        yield file.schema_arrow.empty_table()
        for batch in file.iter_batches(ROWS):
            batch.validate(full=True)
            yield pyarrow.Table.from_batches([batch])
    except (pyarrow.ArrowException, OSError, EOFError) as error:
        raise InvalidInput(f"{name}: not a Parquet file that can be read: {error}; write it again") from error


def arrow_tables(stream: BinaryIO, name: str) -> Iterator[Any]:
    """Yield the rows of an Arrow file or stream as Arrow tables. Raises `InvalidInput` if it cannot be read."""
    import pyarrow
    from pyarrow import ipc

    data = pyarrow.py_buffer(stream.read())
    try:
        # Files of pandas and polars, or streams, which Hugging Face's datasets write.
        is_file = bytes(data[:6]) == b"ARROW1"
        table = ipc.open_file(data).read_all() if is_file else ipc.open_stream(data).read_all()
        # Arrow trusts the offsets in a file: a wrong one would end the process.
        table.validate(full=True)
        yield table
    except (pyarrow.ArrowException, OSError, EOFError) as error:
        raise InvalidInput(f"{name}: not an Arrow file that can be read: {error}; write it again") from error

"""Sharded indexes for tests: cut out of one index, so that both hold the same documents under the same codec."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

from refcolbert import Index, ShardedIndex
from refcolbert.storage.shards import write_shards

RAM = Path("/dev/shm")  # noqa: S108 - a new folder of our own is made in it


@contextmanager
def in_memory():
    """A new folder, in memory where there is such a disk: every example of a property writes many files."""
    with tempfile.TemporaryDirectory(dir=RAM if RAM.is_dir() else None) as folder:
        yield Path(folder) / "s"


def cut(whole, folder, bounds):
    """A sharded index in `folder` of the documents whole[0:bounds[0]], whole[bounds[0]:bounds[1]], ..., whole[...:]."""
    ids = whole.ids()
    names = [f"shard-{i:04d}" for i in range(len(bounds) + 1)]
    for name, first, last in zip(names, [0, *bounds], [*bounds, len(ids)], strict=True):
        whole.snapshot(folder / name)
        with Index.open(folder / name) as shard:
            shard.delete([*ids[:first], *ids[last:]])
            shard.compact()
    write_shards(folder, names)
    return ShardedIndex.open(folder)

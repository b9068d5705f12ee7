"""One index built by many processes or machines: a sharded index, whose bytes do not depend on who built what.

Read in this order:

    partitions   files, bags, dataframes and lists -> partitions, each of which becomes one shard
    callables    the work on one partition, as classes that any engine can send to its workers
    workers      where the work is done: in this process, or by a cluster of Dask
    steps        the build: read, encode a sample, fit the codec, build the shards, publish
    search       a sharded index that the workers of Dask search

Only `workers` imports Dask, when it is given a client. `__all__` lists the public names.
"""

from .callables import BuildShard, EncodeDocuments
from .partitions import partitions
from .search import open_index
from .steps import build, prepare, publish

__all__ = ["BuildShard", "EncodeDocuments", "build", "open_index", "partitions", "prepare", "publish"]

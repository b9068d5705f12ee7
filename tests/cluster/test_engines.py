"""The callables in engines other than Dask. `make engines` installs them; without an engine, its test is skipped."""

import pytest
from clusters import TINY, documents

from refcolbert import cluster
from refcolbert.cluster import EncodeDocuments

DOCUMENTS = documents(60)
COLUMNS = {name: [d[name] for d in DOCUMENTS] for name in ("id", "text")} | {"n": list(range(60))}


@pytest.fixture
def shard(encoder, tmp_path):
    """A callable that builds shards of an index with a codec."""
    return cluster.prepare(tmp_path / "x", COLUMNS["text"], 60, encoder, train_at=300)


def published(tmp_path, names):
    """The index of these shards, checked: ids, and metadata of the last document."""
    index = cluster.publish(tmp_path / "x", names)
    index.check()
    assert index.get(["d59"])[0].metadata == {"n": 59}
    return index.ids()


def test_datasets_build(shard, tmp_path):
    """`datasets.map` builds a shard for each batch, in two processes."""
    datasets = pytest.importorskip("datasets")
    given = datasets.Dataset.from_dict(COLUMNS)
    done = given.map(shard, batched=True, batch_size=20, remove_columns=given.column_names, num_proc=2)
    assert sum(done["documents"][:]) == 60
    assert published(tmp_path, done["name"][:]) == COLUMNS["id"]


def test_datasets_encode(encoder):
    """`datasets.map` keeps the texts and adds their vectors."""
    datasets = pytest.importorskip("datasets")
    encode = EncodeDocuments(str(TINY), encoder.hash)
    done = datasets.Dataset.from_dict({"text": COLUMNS["text"][:5]}).map(encode, batched=True)
    assert [len(row["vectors"]) for row in done] == [row["tokens"] * encoder.dim for row in done]


def test_ray_builds(shard, tmp_path):
    """`map_batches` of Ray builds a shard for each batch."""
    pytest.importorskip("ray")
    import ray.data

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*COLUMNS.values(), strict=True)]
        done = ray.data.from_items(rows, override_num_blocks=1).map_batches(shard, batch_size=30).take_all()
    finally:
        ray.shutdown()
    assert published(tmp_path, [row["name"] for row in done]) == COLUMNS["id"]


def test_ray_encodes(encoder):
    """`map_batches` of Ray adds ragged columns."""
    pytest.importorskip("ray")
    import ray.data

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        encode = EncodeDocuments(str(TINY), encoder.hash)
        done = ray.data.from_items([{"text": text} for text in COLUMNS["text"][:5]]).map_batches(encode).take_all()
    finally:
        ray.shutdown()
    assert [len(row["vectors"]) for row in done] == [row["tokens"] * encoder.dim for row in done]

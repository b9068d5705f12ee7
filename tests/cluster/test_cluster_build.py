"""A sharded index that many workers build."""

import json
import re
import threading

import pandas as pd
import pytest
from clusters import SETTINGS, documents, parts, times, tree

from refcolbert import Index, ShardedIndex, cluster
from refcolbert.cluster import steps
from refcolbert.cluster.workers import Workers
from refcolbert.corpus.readers import read_documents
from refcolbert.errors import DuplicateId, IndexExists, IndexLocked, InvalidInput


def codecs(index):
    """The hashes of the codec's files in each shard."""
    return {tuple(sorted(f.sha256 for f in shard.view.manifest.codec.files.values())) for shard in index.shards}


def test_threads_write_the_bytes_of_one_process(encoder, threads, alone, tmp_path):
    """A cluster of threads writes the same files as a build without a cluster."""
    cluster.build(tmp_path / "x", parts(), threads, encoder=encoder, **SETTINGS)
    assert tree(tmp_path / "x") == alone


def test_processes_write_the_bytes_of_one_process(encoder, processes, alone, tmp_path):
    """A cluster of processes writes the same files as a build without a cluster."""
    cluster.build(tmp_path / "x", parts(), processes, encoder=encoder, **SETTINGS)
    assert tree(tmp_path / "x") == alone


def test_the_index_is_sound_and_finds_documents(encoder, tmp_path):
    """Each shard holds one partition in order, and a search finds documents of all of them."""
    with cluster.build(tmp_path / "x", parts(), encoder=encoder, **SETTINGS) as index:
        assert [shard.ids() for shard in index.shards] == [[d["id"] for d in part] for part in parts()]
        index.check()
        hits = index.search("a date", k=240, exact=True)
        assert sorted(hit.id for hit in hits) == sorted(d["id"] for d in documents())


def test_nothing_but_the_index_is_left(encoder, tmp_path):
    """The sample, the codec and the folder of the build are gone when the index is published."""
    index = cluster.build(tmp_path / "x", parts(), encoder=encoder, **SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert {path.name for path in (tmp_path / "x").iterdir()} == {
        *(shard.path.name for shard in index.shards),
        "shards.json",
        "writer.lock",
    }


def test_the_codec_does_not_depend_on_the_partitions(encoder, monkeypatch, tmp_path):
    """Two, three or eight partitions give the same codec, although it is fitted to a sample."""
    monkeypatch.setattr(steps, "SAMPLE", 100)
    monkeypatch.setattr(steps, "SAMPLE_BATCH", 32)
    found = [codecs(cluster.build(tmp_path / str(n), parts(n), encoder=encoder, **SETTINGS)) for n in (2, 3, 8)]
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 1


def test_the_sample_has_the_expected_size():
    """About the wanted share of documents is chosen, by their text alone, whatever the partitions."""
    limit = f"{(1 << 64) // 4:016x}"
    texts = [f"text {i}" for i in range(4000)]
    chosen = steps.choose(texts, 0, limit)
    assert 850 < len(chosen) < 1150
    assert sorted(steps.choose(texts[:1000], 0, limit) + steps.choose(texts[1000:], 0, limit)) == chosen
    assert steps.choose(texts, 1, limit) != chosen


def test_another_seed_gives_another_codec(encoder, tmp_path):
    """The seed reaches the sample and the codec."""
    found = [codecs(cluster.build(tmp_path / str(s), parts(), encoder=encoder, seed=s, **SETTINGS)) for s in (0, 1)]
    assert found[0] != found[1]


def test_few_tokens_stay_raw(encoder, tmp_path):
    """Below `train_at` tokens, shards have raw vectors and can never fit a codec of their own."""
    index = cluster.build(tmp_path / "x", parts(), encoder=encoder)
    assert {shard.view.manifest.nbits for shard in index.shards} == {"float16"}
    assert index.info()["centroids"] is None


@pytest.mark.parametrize("nbits", ["float16", "float32"])
def test_raw_formats_take_no_sample(encoder, nbits, tmp_path):
    """Raw vectors are stored as the model makes them."""
    index = cluster.build(tmp_path / "x", parts(), encoder=encoder, nbits=nbits)
    one = Index.build(tmp_path / "one", documents(), encoder, nbits=nbits)
    assert index.vectors(["d100"]).vectors == pytest.approx(one.vectors(["d100"]).vectors, abs=1e-3)


def test_pooling_happens_once(encoder, tmp_path):
    """Vectors of the sample are pooled as those of other documents are."""
    index = cluster.build(tmp_path / "x", parts(), encoder=encoder, pool_factor=2)
    one = Index.build(tmp_path / "one", documents(), encoder, pool_factor=2)
    assert index.info()["tokens"] == one.info()["tokens"]


def test_documents_without_ids_are_numbered(encoder, tmp_path):
    """A document without an id gets its number in the collection; an empty partition has no shard."""
    index = cluster.build(
        tmp_path / "x", [["one", "two"], [], [{"id": "own", "text": "three"}, "four"]], encoder=encoder
    )
    assert [shard.ids() for shard in index.shards] == [["0", "1"], ["own", "3"]]


def test_files_are_cut_at_lines(encoder, threads, tmp_path):
    """A JSONL file becomes several shards with the documents and ids that reading it as a whole gives."""
    file = tmp_path / "docs.jsonl"
    file.write_text("".join(json.dumps({"text": d["text"], "n": d["metadata"]["n"]}) + "\n" for d in documents()))
    index = cluster.build(tmp_path / "x", str(tmp_path / "*.jsonl"), threads, encoder=encoder, partition_size=4096)
    assert len(index.shards) > 2
    assert index.get(index.ids()) == list(read_documents(file))


def test_bags_are_built(encoder, threads, alone, tmp_path):
    """Each partition of a dask.bag becomes a shard, with a client and without."""
    bags = pytest.importorskip("dask.bag")
    for name, client in (("x", threads), ("y", None)):
        bag = bags.from_sequence(documents(), npartitions=4)
        cluster.build(tmp_path / name, bag, client, encoder=encoder, **SETTINGS)
        assert tree(tmp_path / name) == alone


def test_dataframes_are_built(encoder, threads, tmp_path):
    """Each partition of a dask.dataframe becomes a shard; columns other than id and text are metadata."""
    frames = pytest.importorskip("dask.dataframe", exc_type=ImportError)
    frame = pd.DataFrame([{"id": d["id"], "text": d["text"], **d["metadata"]} for d in documents()])
    index = cluster.build(tmp_path / "x", frames.from_pandas(frame, npartitions=3), threads, encoder=encoder)
    assert len(index.shards) == 3
    assert index.get(["d7"])[0].metadata == {"n": 7}


def test_frames_are_partitions(encoder, tmp_path):
    """A partition may be a frame of pandas."""
    frames = [pd.DataFrame({"text": ["one", "two"], "year": [1999, 2000]}), pd.DataFrame({"text": ["three"]})]
    index = cluster.build(tmp_path / "x", frames, encoder=encoder)
    assert [d.metadata for d in index.get(["0", "1", "2"])] == [{"year": 1999}, {"year": 2000}, {}]


def test_a_repeated_id_is_named_and_the_rest_is_kept(encoder, threads, tmp_path):
    """An id in two shards is refused with both names; when it is corrected, other shards are not built again."""
    given = parts()
    given[3][0] = {**given[3][0], "id": "d3"}
    with pytest.raises(DuplicateId, match=r"'d3' occurs in shard-0000-\w+ and in shard-0003-"):
        cluster.build(tmp_path / "x", given, threads, encoder=encoder, nbits="float16")
    before, told = times(tmp_path / "x.building"), []
    cluster.build(tmp_path / "x", parts(), threads, encoder=encoder, nbits="float16", progress=told.append)
    assert sum(told) == 240
    after = times(tmp_path / "x")
    assert len(set(before.items()) & set(after.items())) == 3


def test_a_repeated_id_of_one_partition_is_refused(encoder, tmp_path):
    """An id that occurs twice in a partition is refused."""
    with pytest.raises(DuplicateId, match="'a'"):
        cluster.build(tmp_path / "x", [[{"id": "a", "text": "one"}, {"id": "a", "text": "two"}]], encoder=encoder)


@pytest.mark.parametrize("where", [None, "threads"])
@pytest.mark.parametrize("nbits", [2, "float16"])
def test_progress_counts_every_document_once(encoder, request, where, nbits, tmp_path):
    """A function is told of all documents, those of the sample included, before the build ends."""
    client = where and request.getfixturevalue(where)
    told = []
    cluster.build(tmp_path / "x", parts(), client, encoder=encoder, nbits=nbits, train_at=500, progress=told.append)
    assert sum(told) == 240


def test_work_that_is_done_again_counts_once():
    """The progress of a shard never exceeds its documents, although two workers may have begun it."""
    told = []

    def twice(item, report):
        report(10)
        report(10)

    Workers(progress=told.append).map("shard", twice, [("item",)], [10])
    assert sum(told) == 10


def test_an_error_of_the_progress_function_ends_the_build(encoder, threads, tmp_path):
    """It is called by the thread that called `build`, which raises its error."""

    def stop(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cluster.build(tmp_path / "x", parts(), threads, encoder=encoder, progress=stop)


def test_the_bar_shows_rates_and_workers(encoder, threads, capfd, tmp_path):
    """The progress bar shows documents per second, the time left, and the rate of each worker."""
    cluster.build(tmp_path / "x", parts(12), threads, encoder=encoder, nbits="float16", progress=True)
    shown = capfd.readouterr().err
    assert re.search(r"shard: 100%\S* 240/240 \[\d+:\d+<\d+:\d+, +\S+doc/s, 2 workers: \d+, \d+\]", shown), shown


def test_an_existing_path_is_refused(encoder, tmp_path):
    """Nothing is built over something else."""
    (tmp_path / "x").mkdir()
    with pytest.raises(IndexExists):
        cluster.build(tmp_path / "x", parts(), encoder=encoder)


def test_two_builds_of_one_path_are_refused(encoder, tmp_path):
    """The second build of a path raises while the first one runs."""
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait(60)
        return ["one"]

    first = threading.Thread(target=cluster.build, args=(tmp_path / "x", [slow]), kwargs={"encoder": encoder})
    first.start()
    assert begun.wait(60)
    with pytest.raises(IndexLocked, match="being written"):
        cluster.build(tmp_path / "x", [["one"]], encoder=encoder)
    go_on.set()
    first.join()
    assert ShardedIndex.open(tmp_path / "x").ids() == ["0"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([[], []], "found none"),
        ([{"text": "one"}], "expected partitions"),
        ("nowhere/*.jsonl", "found nothing at nowhere"),
        ([["one", 2]], "document"),
    ],
)
def test_what_cannot_be_built_is_named(encoder, given, message, tmp_path):
    """Input that is not made of partitions of documents raises before anything is encoded."""
    with pytest.raises(InvalidInput, match=message):
        cluster.build(tmp_path / "x", given, encoder=encoder)

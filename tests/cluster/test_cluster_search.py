"""A sharded index that the workers of a Dask cluster search."""

import os
import signal

import pytest
from clusters import SETTINGS, parts

from refcolbert import ShardedIndex, cluster
from refcolbert.errors import InvalidInput, UnknownId

QUERIES = ["parse a date", "a file with lines", "the clock", "zone"] * 20


@pytest.fixture(scope="module")
def built(encoder, tmp_path_factory):
    """Eight shards."""
    return cluster.build(tmp_path_factory.mktemp("built") / "x", parts(8), encoder=encoder, **SETTINGS)


def answers(hits):
    """What a caller sees of hits, the bits of scores included."""
    return [(hit.rank, hit.id, hit.score, hit.parts, hit.similarity, hit.text, hit.metadata) for hit in hits]


@pytest.mark.parametrize("kind", ["threads", "processes"])
@pytest.mark.parametrize("mode", ["late", "words", "hybrid"])
def test_workers_answer_as_one_process_does(request, built, encoder, kind, mode):
    """Exact answers to more queries than are sent together are equal to the bit."""
    index = cluster.open_index(built.path, request.getfixturevalue(kind), encoder)
    found = index.search_many(QUERIES, 5, mode=mode, exact=True)
    assert list(map(answers, found)) == list(map(answers, built.search_many(QUERIES, 5, mode=mode, exact=True)))


def test_documents_and_explanations_come_from_the_workers(built, encoder, threads):
    """get and explain are those of the index."""
    index = cluster.open_index(built.path, threads, encoder)
    ids = built.ids()[::50]
    assert index.get(ids) == built.get(ids)
    with pytest.raises(UnknownId):
        index.get(["nobody"])
    query = {"mode": "hybrid", "exact": True}
    assert (
        index.search("a date", 1, **query)[0].explain().to_dict()
        == built.search("a date", 1, **query)[0].explain().to_dict()
    )


def test_a_killed_worker_changes_no_answer(built, encoder, processes):
    """Its shards are searched by another worker."""
    index = cluster.open_index(built.path, processes, encoder)
    expected = list(map(answers, built.search_many(QUERIES[:4], 5, exact=True)))
    assert list(map(answers, index.search_many(QUERIES[:4], 5, exact=True))) == expected
    os.kill(next(iter(processes.run(os.getpid).values())), signal.SIGKILL)
    assert list(map(answers, index.search_many(QUERIES[:4], 5, exact=True))) == expected


def test_a_write_after_opening_is_noticed(encoder, threads, tmp_path):
    """Workers that open the shards later find another generation, and say so."""
    made = cluster.build(tmp_path / "x", parts(2), encoder=encoder, **SETTINGS)
    index = cluster.open_index(made.path, threads, encoder)
    made.delete(made.ids()[:1])
    with pytest.raises(InvalidInput, match="open the index again"):
        index.search("date")


def test_an_index_is_built_again_from_its_shards(built, encoder, tmp_path):
    """The documents of a sharded index are partitions of another one, for example with other bits or another model."""
    again = cluster.build(tmp_path / "x", built, encoder=encoder, **SETTINGS | {"nbits": 8})
    assert again.ids() == built.ids()
    assert again.get(again.ids()) == built.get(built.ids())
    assert [len(shard) for shard in again.shards] == [len(shard) for shard in built.shards]


def test_some_shards_are_opened(built):
    """They come in the order of the index; an unknown name is refused."""
    first, *_, last = built.names
    some = ShardedIndex.open(built.path, shards=[last, first])
    assert some.names == (first, last)
    assert some.ids() == [*built.shards[0].ids(), *built.shards[-1].ids()]
    for wrong in (["nobody"], [], first):
        with pytest.raises(InvalidInput, match="some of the shards"):
            ShardedIndex.open(built.path, shards=wrong)

import logging
from contextlib import ExitStack

import pytest
from clusters import SETTINGS, parts, tree

from refcolbert import cluster


@pytest.fixture(scope="session")
def alone(encoder, tmp_path_factory):
    """The files of a build by this process alone."""
    path = tmp_path_factory.mktemp("alone") / "index"
    cluster.build(path, parts(), encoder=encoder, **SETTINGS).close()
    return tree(path)


@pytest.fixture(scope="session")
def threads():
    """A client of two workers that are threads of this process."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as local, distributed.Client(local) as client:
        yield client


@pytest.fixture(scope="session")
def started():
    """A list that holds the client of two worker processes, once there is one, and what ends its cluster."""
    pytest.importorskip("distributed")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    held = []
    yield held
    for ending, _ in held:
        ending.close()


@pytest.fixture
def processes(started):
    """A client of two workers that are processes, which are started again when they die."""
    from refcolbert.cluster.workers import local_cluster

    if started:
        try:
            started[-1][1].wait_for_workers(2, timeout=15)
        except TimeoutError:
            # Dask gave up on a worker that an earlier test has killed.
            started.pop()[0].close()
    if not started:
        ending = ExitStack()
        started.append((ending, ending.enter_context(local_cluster(2))))
    return started[-1][1]

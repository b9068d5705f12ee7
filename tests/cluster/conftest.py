import logging

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
def processes():
    """A client of two workers that are processes, which are started again when they die."""
    pytest.importorskip("distributed")
    from refcolbert.cluster.workers import local_cluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with local_cluster(2) as client:
        yield client

"""Workers, drivers and disks that fail while an index is built. Nothing of it changes the index."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import clusters
import dask
import pytest
from clusters import SETTINGS, TINY, SignalIn, parts, times, tree
from distributed import Client, LocalCluster
from machines import another_machine

from refcolbert import Encoder, __version__, cluster
from refcolbert.cluster.workers import local_cluster
from refcolbert.errors import IndexWriteError, InvalidInput


def one_of(client):
    """The address of one worker, when all that died are there again."""
    client.wait_for_workers(2, timeout=60)
    return min(client.scheduler_info(n_workers=-1)["workers"])


@pytest.mark.parametrize(("step", "after"), [("read", 0), ("choose", 0), ("encode", 0.1), ("shard", 0.1), ("ids", 0)])
def test_a_killed_worker_changes_nothing(encoder, processes, alone, step, after, tmp_path):
    """A worker that dies in any step is replaced, the bytes are the same, and no document is counted twice."""
    flag, told = tmp_path / "dead", []
    processes.register_plugin(SignalIn(step, str(flag), after))
    cluster.build(tmp_path / "x", parts(), processes, encoder=encoder, progress=told.append, **SETTINGS)
    assert flag.exists()
    assert sum(told) == 240
    assert tree(tmp_path / "x") == alone


@pytest.fixture
def impatient():
    """Dask as it gives up a silent worker: after seconds in place of minutes."""
    seconds = {"scheduler.worker-ttl": "5s", "comm.timeouts.connect": "3s", "comm.timeouts.tcp": "15s"}
    with dask.config.set({f"distributed.{name}": value for name, value in seconds.items()}):
        yield


def found(flag):
    """The number of the process that has written a flag, once it is there."""
    deadline = time.monotonic() + 60
    while not (flag.exists() and flag.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return int(flag.read_text())


def test_a_worker_that_stops_for_a_while_changes_nothing(encoder, processes, alone, tmp_path):
    """A stopped worker is waited for, and the bytes are the same."""
    flag = tmp_path / "stopped"
    one_of(processes)
    processes.register_plugin(SignalIn("shard", str(flag), number=signal.SIGSTOP))
    threading.Thread(target=lambda: (found(flag), time.sleep(1), os.kill(found(flag), signal.SIGCONT))).start()
    cluster.build(tmp_path / "x", parts(), processes, encoder=encoder, **SETTINGS)
    assert flag.exists()
    assert tree(tmp_path / "x") == alone


def test_workers_do_not_print_the_error_of_a_task(capfd):
    """The caller gets the error of a task, and no worker prints a traceback."""
    with local_cluster(1) as client, pytest.raises(ZeroDivisionError):
        client.submit(divmod, 1, 0).result()
    assert "Traceback" not in capfd.readouterr().err


def test_a_worker_that_stops_for_good_is_given_up(encoder, impatient, alone, tmp_path):
    """The other worker does the work of one that does not answer any more, and the bytes are the same."""
    flag = tmp_path / "stopped"
    with local_cluster(2) as client:
        client.wait_for_workers(2, timeout=60)
        client.register_plugin(SignalIn("shard", str(flag), number=signal.SIGSTOP))
        cluster.build(tmp_path / "x", parts(), client, encoder=encoder, **SETTINGS)
        found(flag)
    assert tree(tmp_path / "x") == alone


def test_a_machine_that_is_cut_off_is_given_up(encoder, impatient, alone, tmp_path):
    """When the link to a worker is cut in a step, the others do its work, and the bytes are the same."""
    flag = tmp_path / "cut"
    options = {"n_workers": 1, "threads_per_worker": 1, "memory_limit": None, "dashboard_address": ":0"}
    with (
        another_machine() as machine,
        LocalCluster(**options, host=machine.here) as local,
        Client(local) as client,
        far_worker(machine, local.scheduler_address),
    ):
        client.wait_for_workers(2, timeout=60)
        client.register_plugin(SignalIn("shard", str(flag), number=0, host=machine.address))
        threading.Thread(target=lambda: (found(flag), machine.reachable(False))).start()
        cluster.build(tmp_path / "x", parts(), client, encoder=encoder, **SETTINGS)
        found(flag)
        # Dask has given up the worker, or does it now.
        deadline = time.monotonic() + 60
        while len(client.scheduler_info(n_workers=-1)["workers"]) > 1 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(client.scheduler_info(n_workers=-1)["workers"]) == 1
    assert tree(tmp_path / "x") == alone


@contextmanager
def far_worker(machine, scheduler):
    """A worker of Dask on another machine."""
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--host", machine.address]
    options = ["--nthreads", "1", "--no-nanny", "--no-dashboard"]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([*machine.inside, *worker, *options], env=env, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def test_a_killed_driver_goes_on(encoder, alone, tmp_path):
    """After client, scheduler and workers were killed, the same call keeps the shards that are complete."""
    command = [sys.executable, clusters.__file__, str(tmp_path / "x")]
    driver = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (before := times(tmp_path / "x.building")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.wait()
    assert before
    cluster.build(tmp_path / "x", parts(), encoder=encoder, **SETTINGS)
    assert before.items() <= times(tmp_path / "x").items()
    assert tree(tmp_path / "x") == alone


def test_a_full_disk_is_reported_and_the_build_goes_on(encoder, processes, alone, tmp_path):
    """A worker that cannot write raises `IndexWriteError`; with space again, the same call completes the index."""
    worker = one_of(processes)
    processes.run(clusters.limit_files, 2000, workers=[worker])
    with pytest.raises(IndexWriteError, match="could not be written"):
        cluster.build(tmp_path / "x", parts(), processes, encoder=encoder, **SETTINGS)
    processes.run(clusters.limit_files, None, workers=[worker])
    cluster.build(tmp_path / "x", parts(), processes, encoder=encoder, **SETTINGS)
    assert tree(tmp_path / "x") == alone


def test_another_version_on_a_worker_is_refused(encoder, processes, tmp_path):
    """A worker with another version of refcolbert is named, and nothing is built."""
    worker = one_of(processes)
    processes.run(clusters.pretend, "9.9.9", workers=[worker])
    try:
        with pytest.raises(InvalidInput, match=rf"{worker}: expected refcolbert {__version__}, found 9\.9\.9"):
            cluster.build(tmp_path / "x", parts(), processes, encoder=encoder)
    finally:
        processes.run(clusters.pretend, __version__, workers=[worker])


def test_another_model_on_a_worker_is_refused(processes, tmp_path):
    """Workers that find another model at its path are named."""
    shutil.copytree(TINY, tmp_path / "model")
    encoder = Encoder.load(tmp_path / "model")
    spec = Path(tmp_path / "model" / "encoding.json")
    spec.write_text(spec.read_text() + "\n")
    with pytest.raises(InvalidInput, match=f"{one_of(processes)}: expected the model {encoder.hash[:12]}, found"):
        cluster.build(tmp_path / "x", parts(), processes, encoder=encoder)

"""Shared by all tests: Hypothesis profiles, the tiny model, and a check of every index that a test makes."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TINY_MODEL = Path(__file__).parent / "models" / "tiny"

# "dev" while writing, "ci" repeatable, "quick" where the same tests run again, "nightly" and "release" search deeper:
# HYPOTHESIS_PROFILE=nightly make test
slow_is_fine = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("dev", max_examples=50, deadline=None, suppress_health_check=slow_is_fine)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, suppress_health_check=slow_is_fine)
settings.register_profile(
    "quick", max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=slow_is_fine
)
settings.register_profile("nightly", max_examples=5_000, deadline=None, suppress_health_check=slow_is_fine)
settings.register_profile("release", max_examples=50_000, deadline=None, suppress_health_check=slow_is_fine)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))


# The package is imported where it is used: tests/conformance runs without ONNX Runtime and tokenizers.


@pytest.fixture(scope="session")
def encoder():
    """The tiny committed model: seeded random weights, dim 16, any English text."""
    from refcolbert import Encoder

    return Encoder.load(TINY_MODEL)


@pytest.fixture(scope="session")
def s3():
    """The URL of a bucket of a server that speaks S3."""
    from stores import s3_server

    with s3_server() as bucket:
        yield bucket


@pytest.fixture(autouse=True)
def every_index_is_sound(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Verify whatever index a test has created, at its end; a test that damages one on purpose removes it."""
    from refcolbert import Index
    from refcolbert.storage.store import Store

    created: list[Path] = []
    create = Index.create.__func__  # type: ignore[attr-defined]

    def recording(cls, path, *args, **kwargs):
        created.append(Path(path))
        return create(cls, path, *args, **kwargs)

    monkeypatch.setattr(Index, "create", classmethod(recording))
    move, snapshot = Store.move, Index.snapshot  # builds, imports and copies lie where these say
    monkeypatch.setattr(Store, "move", lambda self, path: (created.append(Path(path)), move(self, path))[1])
    monkeypatch.setattr(Index, "snapshot", lambda self, path: (created.append(Path(path)), snapshot(self, path))[1])
    yield
    for path in created:
        if (path / "manifest.json").exists():
            Index.open(path, verify="full").check()


RAM = Path("/dev/shm")  # noqa: S108 - a new folder of our own is made in it


@pytest.fixture
def scratch(tmp_path):
    """A folder that does not exist yet, in memory where there is such a disk: every case of a campaign writes files."""
    folder = Path(tempfile.mkdtemp(dir=RAM if RAM.is_dir() else tmp_path))
    yield folder / "x"
    shutil.rmtree(folder, ignore_errors=True)

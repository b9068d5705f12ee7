"""A server of objects for tests of URLs."""

from contextlib import contextmanager
from importlib.util import find_spec

import fsspec
import pytest

KINDS = ["memory", "file", *(["s3"] if find_spec("s3fs") and find_spec("moto") else [])]


@contextmanager
def s3_server():
    """A server that speaks S3, and a bucket of it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "any")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket"
    server.stop()

"""A real S3 server for the tests: moto's, in a thread, over HTTP."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def bucket_server() -> Iterator[str]:
    """The URL of an empty bucket of a server that runs while the block does; keys are in the environment meanwhile."""
    moto = pytest.importorskip("moto.server", reason="SKIPPED LOUDLY: no moto (make setup)")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
        server.start()
        try:
            host, port = server.get_host_and_port()
            endpoint = f"http://{host}:{port}"
            pytest.importorskip("boto3").client("s3", endpoint_url=endpoint).create_bucket(Bucket="releases")
            yield f"s3://releases/fed?endpoint={endpoint}"
        finally:
            server.stop()

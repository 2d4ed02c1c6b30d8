"""A stand-in for S3 on loopback, and addresses of stores in it and in memory."""

import logging
import uuid
from collections.abc import Iterator

import pytest
from bucket_stores import SECRET


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    moto_server = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def server(endpoint: str) -> Iterator[None]:
    """The variables that lead clients to the server. Clients are kept from test to test: to make one takes long."""
    import fsspec

    clients = fsspec.get_filesystem_class("s3")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "AWS_PROFILE"):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        clients.clear_instance_cache()
        yield
        clients.clear_instance_cache()


@pytest.fixture
def s3(server: None) -> str:
    """The address of a bucket of one's own."""
    import fsspec

    bucket = f"bucket-{uuid.uuid4().hex[:12]}"
    fsspec.filesystem("s3").mkdir(bucket)
    return f"s3://{bucket}/mtx"


@pytest.fixture
def new_clients(s3: str) -> Iterator[None]:
    """No client of another test, nor for another: where variables differ."""
    import fsspec

    clients = fsspec.get_filesystem_class("s3")
    clients.clear_instance_cache()
    yield
    clients.clear_instance_cache()


@pytest.fixture
def memory() -> str:
    return f"memory://{uuid.uuid4().hex[:12]}/mtx"


@pytest.fixture(params=["s3", "memory"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))

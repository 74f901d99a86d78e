"""gRPC servers over loopback, and their clients."""

import contextlib

import pytest

from tests.support.grpc_running import running


@pytest.fixture
def started(versions):
    """A function that starts a server with options and gives its client, its metrics and itself."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(running(versions, **options))


@pytest.fixture
def client(started):
    return started()[0]

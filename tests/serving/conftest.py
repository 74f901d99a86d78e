"""Fixtures that several folders of the server's tests share."""

import pytest


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Version 7 of a model named `kinds`, loaded once for a module: what a core needs of a repository."""
    from tests.support import saved_models
    from tests.support.one_version import OneVersion

    found = OneVersion("kinds", saved_models.kinds(tmp_path_factory.mktemp("kinds"), version=7))
    yield found
    found.loaded.close()


@pytest.fixture
def start_server():
    """A function that starts a whole server on free ports of the loopback; ended after the test."""
    from serving.server import create_server

    servers = []

    def start(**flags):
        made = create_server(host="127.0.0.1", pick_ports=True, **flags)
        servers.append(made)
        made.start()
        return made

    yield start
    for made in servers:
        made.stop(0)


@pytest.fixture
def fake():
    """A small server in TF Serving's form, for the tests of clients."""
    from tests.support.fake_serving import fake_serving

    with fake_serving() as server:
        yield server

"""One loaded version of the model `kinds`."""

import pytest


@pytest.fixture(scope="module")
def servable(versions):
    return versions.loaded

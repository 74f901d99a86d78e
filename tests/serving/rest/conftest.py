"""REST applications over a fake core, without a socket."""

import pytest

from tests.support.rest_fakes import Browser


@pytest.fixture
def browser():
    """A function that opens a browser on an application with these options; closed after the test."""
    opened = []

    def start(**options):
        opened.append(Browser(**options))
        return opened[-1]

    yield start
    for each in opened:
        each.close()

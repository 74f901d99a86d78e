"""What a call of the server's code fails with."""

import pytest

from serving.errors import Code, ServingError


def error_of(call, *arguments, **settings):
    """Code and message of the error that a call must raise."""
    with pytest.raises(ServingError) as caught:
        call(*arguments, **settings)
    return caught.value.code, caught.value.message


def code_of(call):
    """OK, or the code of the one kind of error that a call may raise."""
    try:
        call()
    except ServingError as error:
        return error.code
    return Code.OK

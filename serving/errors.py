"""The error type of both transports: a canonical code with its gRPC and HTTP status, and a message.

Codes and their numbers are those of google.rpc.Code, which TensorFlow's C++ status, gRPC and
tensorflow/core/protobuf/error_codes.proto share. Nothing heavy is imported here.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf


class Code(enum.IntEnum):
    """A canonical status code; TF Serving's metrics and status pages show its name."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


# tensorflow_serving/model_servers/http_rest_api_util.cc: the HTTP status for each code.
HTTP_STATUS = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
    Code.UNAUTHENTICATED: 401,
}
# tensorflow_serving/model_servers/grpc_status_util.cc
GRPC_MESSAGE_LENGTH = 1024
GRPC_TRUNCATED = "...TRUNCATED"


class ServingError(Exception):
    """A request that cannot be answered.

    Attributes:
      code: canonical status code.
      message: text for the client; REST sends it whole, gRPC its first 1024 characters.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def http_status(self) -> int:
        """The HTTP status of REST's answer."""
        return HTTP_STATUS[self.code]

    @property
    def grpc_details(self) -> str:
        """The text of gRPC's status."""
        if len(self.message) <= GRPC_MESSAGE_LENGTH:
            return self.message
        return self.message[:GRPC_MESSAGE_LENGTH] + GRPC_TRUNCATED


def invalid(message: str) -> ServingError:
    """An INVALID_ARGUMENT error: a mistake of the client."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def from_tensorflow(error: tf.errors.OpError) -> ServingError:
    """Converts a `tf.errors.OpError`, with the operation's own code and text."""
    try:
        code = Code(error.error_code)
    except ValueError:
        code = Code.UNKNOWN
    return ServingError(code, error.message or code.name)

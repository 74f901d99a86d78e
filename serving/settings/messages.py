"""Protobuf messages of configuration files in text format, and their parser.

The package tensorflow-serving-api lacks three messages whose files TF Serving's flags name:
--monitoring_config_file (tensorflow_serving/config/monitoring_config.proto), --ssl_config_file
(config/ssl_config.proto) and --batching_parameters_file (BatchingParameters of
servables/tensorflow/session_bundle_config.proto). They are declared here, field by field, in a descriptor
pool of their own, so that a package that contains them can be imported beside this module.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message,
    message_factory,
    text_format,
    wrappers_pb2,
)

from serving.errors import Code, ServingError, invalid
from serving.settings import file_system

MessageT = TypeVar("MessageT", bound=message.Message)

_PACKAGE = "tensorflow.serving"
_Field = descriptor_pb2.FieldDescriptorProto
_INT64_VALUE = ".google.protobuf.Int64Value"
_STRING_VALUE = ".google.protobuf.StringValue"
_BOOL_VALUE = ".google.protobuf.BoolValue"


class _Declared(NamedTuple):
    """A field: its number, name, type (a scalar's, or a message's full name) and whether it is repeated."""

    number: int
    name: str
    type: int | str
    repeated: bool = False


_MESSAGES = {
    "PrometheusConfig": [
        _Declared(1, "enable", _Field.TYPE_BOOL),
        _Declared(2, "path", _Field.TYPE_STRING),
    ],
    "MonitoringConfig": [
        _Declared(1, "prometheus_config", f".{_PACKAGE}.PrometheusConfig"),
    ],
    "SSLConfig": [
        _Declared(1, "server_key", _Field.TYPE_STRING),
        _Declared(2, "server_cert", _Field.TYPE_STRING),
        _Declared(3, "custom_ca", _Field.TYPE_STRING),
        _Declared(4, "client_verify", _Field.TYPE_BOOL),
    ],
    "BatchingParameters": [
        _Declared(1, "max_batch_size", _INT64_VALUE),
        _Declared(2, "batch_timeout_micros", _INT64_VALUE),
        _Declared(3, "max_enqueued_batches", _INT64_VALUE),
        _Declared(4, "num_batch_threads", _INT64_VALUE),
        _Declared(5, "thread_pool_name", _STRING_VALUE),
        _Declared(6, "allowed_batch_sizes", _Field.TYPE_INT64, repeated=True),
        _Declared(7, "pad_variable_length_inputs", _Field.TYPE_BOOL),
        _Declared(8, "enable_large_batch_splitting", _BOOL_VALUE),
        _Declared(9, "max_execution_batch_size", _INT64_VALUE),
    ],
}


def _declare(pool: descriptor_pool.DescriptorPool) -> None:
    """Adds the messages, and the wrapper types that they use, to `pool`."""
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="serving/config_messages.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
    )
    for message_name, fields in _MESSAGES.items():
        declared = file.message_type.add(name=message_name)
        for field in fields:
            added = declared.field.add(
                name=field.name,
                number=field.number,
                label=_Field.LABEL_REPEATED if field.repeated else _Field.LABEL_OPTIONAL,
            )
            if isinstance(field.type, str):
                added.type, added.type_name = _Field.TYPE_MESSAGE, field.type
            else:
                added.type = field.type
    pool.AddSerializedFile(file.SerializeToString())


def _message_classes() -> dict[str, Any]:
    """The class of each message, by its short name."""
    pool = descriptor_pool.DescriptorPool()
    _declare(pool)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


_CLASSES = _message_classes()
PrometheusConfig = _CLASSES["PrometheusConfig"]
MonitoringConfig = _CLASSES["MonitoringConfig"]
SSLConfig = _CLASSES["SSLConfig"]
BatchingParameters = _CLASSES["BatchingParameters"]


def parse_text(text: bytes | str, into: MessageT) -> MessageT:
    """Parses a message in protobuf's text format; an empty text is an empty message.

    Args:
      text: UTF-8.
      into: a message, emptied first.

    Returns:
      `into`.

    Raises:
      ServingError: INVALID_ARGUMENT, in one line, `Error parsing text-format FULL.NAME: LINE:COLUMN: REASON`.
    """
    into.Clear()
    try:
        text_format.Parse(text if isinstance(text, str) else text.decode("utf-8"), into)
        return into
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        column = error.start - error.object.rfind(b"\n", 0, error.start)
        reason = f"{line}:{column}: the text is not UTF-8: {error.reason}"
    except text_format.ParseError as error:
        where = "" if error.GetLine() is None else f"{error.GetLine()}:{error.GetColumn()}"
        reason = ": ".join(part for part in (where, str(error).removeprefix(f"{where} : ")) if part)
    except RecursionError:
        reason = "nested too deeply"
    raise invalid(f"Error parsing text-format {into.DESCRIPTOR.full_name}: {' '.join(reason.split())}")


def read_text_file(path: str, into: MessageT) -> MessageT:
    """Reads a configuration file in protobuf's text format.

    Args:
      path: of this machine, or a URI that TensorFlow reads.
      into: a message, emptied first.

    Returns:
      `into`.

    Raises:
      ServingError: in one line: NOT_FOUND when there is no such file, FAILED_PRECONDITION when it cannot be
        read, INVALID_ARGUMENT when it is not the message in text format (see `parse_text`).
    """
    try:
        text = file_system.read(path)
    except FileNotFoundError:
        raise ServingError(Code.NOT_FOUND, f"{path}; No such file or directory") from None
    except OSError as error:
        raise ServingError(Code.FAILED_PRECONDITION, f"{path}; {error.strerror or error}") from error
    try:
        return parse_text(text, into)
    except ServingError as error:
        raise invalid(f"Invalid protobuf file: '{path}': {error.message}") from None

"""TF Serving's command line: `--flag=value`, with the same names and defaults. Nothing heavy is imported.

As in tensorflow_serving/model_servers/main.cc, and by hand because argparse has other rules: an invalid
value ends the program, but an unknown flag is only reported, so that a launch line for another release still
starts.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MIXED_PRECISIONS = ("", "bfloat16")
BOOLEANS = {"": True, "true": True, "1": True, "false": False, "0": False}


# In these `~` is expanded, as no shell does after `=`.
PATHS = frozenset(
    {
        "access_log",
        "api_token_file",
        "batching_parameters_file",
        "grpc_socket_path",
        "model_base_path",
        "model_config_file",
        "monitoring_config_file",
        "rest_ssl_config_file",
        "ssl_config_file",
        "tensorflow_session_config_file",
    }
)


class FlagError(ValueError):
    """An invalid value of a flag; the text is for the user."""


def _flag(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


def cpus() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Flags:
    """Every flag with its default; `--help` explains them."""

    port: int = _flag(8500, "TCP port of gRPC; 0 for none, then --grpc_socket_path is needed")
    grpc_socket_path: str = _flag("", "UNIX socket that gRPC listens on too")
    rest_api_port: int = _flag(0, "TCP port of REST, metrics and the demo page; 0 for none")
    rest_api_num_threads: int = _flag(0, "threads that answer REST requests; 0 for four a processor")
    rest_api_timeout_in_ms: int = _flag(30000, "time limit of a REST request")
    rest_api_enable_cors_support: bool = _flag(False, "send CORS headers, so that pages elsewhere may ask")
    model_name: str = _flag("default", "name of the model at --model_base_path")
    model_base_path: str = _flag("", "folder of versions; ignored with --model_config_file")
    model_config_file: str = _flag("", "ModelServerConfig in text form: several models, policies, labels")
    model_config_file_poll_wait_seconds: int = _flag(0, "reads the file again so often; 0 for once")
    file_system_poll_wait_seconds: int = _flag(1, "looks for versions so often; 0 for once")
    max_num_load_retries: int = _flag(5, "tries after the first failed load of a version")
    load_retry_interval_micros: int = _flag(60_000_000, "time between them")
    num_load_threads: int = _flag(0, "threads that load; 0 loads one after the other")
    num_unload_threads: int = _flag(0, "threads that unload; 0 unloads one after the other")
    allow_version_labels_for_unavailable_models: bool = _flag(
        False, "lets a new label point at a version that is not loaded, so at start too"
    )
    enable_batching: bool = _flag(False, "gather requests into batches")
    batching_parameters_file: str = _flag("", "BatchingParameters in text form")
    enable_per_model_batching_parameters: bool = _flag(
        False, "takes sizes and timeouts from each version's batching_params.pbtxt"
    )
    enable_model_warmup: bool = _flag(True, "run assets.extra/tf_serving_warmup_requests before serving")
    num_request_iterations_for_warmup: int = _flag(0, "runs of each warm-up request; 0 and 1 are one")
    monitoring_config_file: str = _flag("", "MonitoringConfig in text form: the Prometheus page")
    ssl_config_file: str = _flag("", "SSLConfig in text form: TLS on gRPC")
    use_alts_credentials: bool = _flag(False, "Google's ALTS on gRPC; not with --ssl_config_file")
    grpc_channel_arguments: str = _flag("", "key=value, separated by commas, handed to gRPC")
    grpc_max_threads: int = _flag(0, "threads that answer gRPC requests; 0 for four a processor")
    enable_grpc_healthcheck_service: bool = _flag(False, "offer grpc.health.v1.Health")
    saved_model_tags: str = _flag("serve", "tags of the graph in the SavedModel, separated by commas")
    tensorflow_session_parallelism: int = _flag(0, "threads of both TensorFlow pools; 0 for automatic")
    tensorflow_intra_op_parallelism: int = _flag(0, "threads that share one operation; 0 for automatic")
    tensorflow_inter_op_parallelism: int = _flag(0, "operations side by side; 0 for automatic")
    tensorflow_session_config_file: str = _flag("", "ConfigProto in text form")
    mixed_precision: str = _flag("", "bfloat16: convolutions and products in it, on CPUs")
    per_process_gpu_memory_fraction: float = _flag(0.0, "share of a GPU's memory; 0 lets TensorFlow decide")
    enable_signature_method_name_check: bool = _flag(False, "refuse Predict on unusual method names")
    enable_serialization_as_tensor_content: bool = _flag(False, "answer numbers in tensor_content")
    rest_ssl_config_file: str = _flag("", "SSLConfig in text form: TLS on REST (not in TF Serving)")
    api_token_file: str = _flag(
        "", "file whose text every request must bring as bearer token (not in TF Serving)"
    )
    rest_api_max_request_bytes: int = _flag(256 * 2**20, "largest REST body; 0 for any (not in TF Serving)")
    rest_api_max_decompressed_bytes: int = _flag(
        100 * 2**20, "largest gzip body, unpacked (fixed in TF Serving)"
    )
    rest_api_header_timeout_in_ms: int = _flag(
        10_000, "how long a header may take to arrive (not in TF Serving)"
    )
    access_log: str = _flag("", "file of JSON lines, one a request; - for stdout (not in TF Serving)")
    drain_timeout_seconds: float = _flag(
        30.0, "how long SIGTERM waits for what was begun (not in TF Serving)"
    )
    enable_demo_page: bool = _flag(True, "a page at / to try a model of pictures with (not in TF Serving)")
    json: bool = _flag(False, "print the figures as one JSON object, last line of stdout (not in TF Serving)")

    def __post_init__(self) -> None:
        for name in PATHS:
            object.__setattr__(self, name, os.path.expanduser(getattr(self, name)))


# Flags of TF Serving without an effect in this server: accepted silently, their values unchecked.
WITHOUT_EFFECT = frozenset(
    {
        "enable_profiler",
        "flush_filesystem_caches",
        "num_tflite_interpreters_per_pool",
        "num_tflite_pools",
        "platform_config_file",
        "prefer_tflite_model",
        "remove_unused_fields_from_bundle_metagraph",
        "skip_initialize_tpu",
        "thread_pool_factory_config_file",
        "xla_cpu_compilation_enabled",
        "xla_gpu_compilation_enabled",
    }
)


def parse(argv: Sequence[str]) -> tuple[Flags, list[str]]:
    """Parses a command line.

    Args:
      argv: without the program's name.

    Returns:
      The flags, and a line for the user about each unknown argument.

    Raises:
      FlagError: an invalid value; one line.
    """
    types = {known.name: type(known.default) for known in dataclasses.fields(Flags)}
    values: dict[str, Any] = {}
    notices: list[str] = []
    for argument in argv:
        name, equals, text = argument.removeprefix("--").partition("=")
        if not argument.startswith("--") or name not in types:
            if name not in WITHOUT_EFFECT or not argument.startswith("--"):
                notices.append(f"unknown argument: {argument}{_cure(argument, types)}")
            continue
        values[name] = _value(name, types[name], text, bool(equals))
    flags = Flags(**values)
    _check(flags)
    return flags, notices


def usage() -> str:
    """The text of `--help`: all flags, their defaults and meanings."""
    lines = [
        "usage: python -m serving.server --model_name=NAME --model_base_path=FOLDER [--flag=value ...]",
        "",
    ]
    for known in dataclasses.fields(Flags):
        lines.append(f"  --{known.name}={_shown(known.default)}")
        lines.append(f"        {known.metadata['help']}")
    lines += ["", f"Read and without effect: {', '.join(sorted(WITHOUT_EFFECT))}"]
    return "\n".join(lines)


def _value(name: str, kind: type, text: str, given: bool) -> Any:
    """Converts the text of one flag to its type."""
    if kind is bool:
        if text.lower() in BOOLEANS:
            return BOOLEANS[text.lower()]
        raise FlagError(f"--{name} must be true or false; received {text!r}")
    if not given:
        raise FlagError(f"--{name} needs a value, as in --{name}=VALUE")
    if kind is str:
        return text
    try:
        return kind(text)
    except ValueError:
        noun = "a whole number" if kind is int else "a number"
        raise FlagError(f"--{name} must be {noun}; received {text!r}") from None


def _check(flags: Flags) -> None:
    """Raises FlagError for values with which no server can start."""
    if not flags.port and not flags.grpc_socket_path:
        raise FlagError("--port=0 needs --grpc_socket_path")
    for name in ("port", "rest_api_port"):
        if not 0 <= getattr(flags, name) < 2**16:
            raise FlagError(f"--{name} must lie between 0 and 65535; received {getattr(flags, name)}")
    if flags.port and flags.port == flags.rest_api_port:
        raise FlagError(f"--rest_api_port must differ from --port; both are {flags.port}")
    if not flags.model_base_path and not flags.model_config_file:
        raise FlagError("--model_base_path or --model_config_file is needed")
    if flags.use_alts_credentials and flags.ssl_config_file:
        raise FlagError("--use_alts_credentials and --ssl_config_file exclude each other")
    if flags.batching_parameters_file and not flags.enable_batching:
        raise FlagError("--batching_parameters_file needs --enable_batching")
    if flags.mixed_precision not in MIXED_PRECISIONS:
        raise FlagError(f"--mixed_precision must be bfloat16 or empty; received {flags.mixed_precision!r}")
    if flags.tensorflow_session_parallelism and (
        flags.tensorflow_intra_op_parallelism or flags.tensorflow_inter_op_parallelism
    ):
        raise FlagError(
            "--tensorflow_session_parallelism sets both pools; leave out --tensorflow_intra_op_parallelism "
            "and --tensorflow_inter_op_parallelism"
        )


def _cure(argument: str, known: dict[str, type]) -> str:
    """A hint for the two most common mistakes."""
    if not argument.startswith("-"):
        return " (a value is joined to its flag with =, as in --port=8500)"
    name = argument.lstrip("-").partition("=")[0]
    return f" (did you mean --{name}?)" if name in known else ""


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)

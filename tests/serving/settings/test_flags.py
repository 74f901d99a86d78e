"""TF Serving's command line: syntax, defaults, manners."""

import dataclasses

import pytest

from serving.settings import flags
from serving.settings.flags import FlagError, Flags, parse

BASE = "--model_base_path=/models/m"


def test_defaults_are_tf_serving_s():
    found, notices = parse([BASE])
    assert notices == []
    assert (found.port, found.rest_api_port, found.model_name) == (8500, 0, "default")
    assert (found.max_num_load_retries, found.load_retry_interval_micros) == (5, 60_000_000)
    assert (found.file_system_poll_wait_seconds, found.enable_model_warmup) == (1, True)
    assert not found.enable_batching


def test_a_launch_line_of_tensorflow_model_server():
    line = (
        "--port=8500 --rest_api_port=8501 --model_name=alexnet --model_base_path=/models/alexnet "
        "--enable_batching --batching_parameters_file=/b.config --monitoring_config_file=/m.config "
        "--file_system_poll_wait_seconds=0 --tensorflow_intra_op_parallelism=2 --enable_profiler=false "
        "--flush_filesystem_caches=true --xla_cpu_compilation_enabled --num_tflite_pools=4"
    )
    found, notices = parse(line.split())
    assert notices == []
    assert found == Flags(
        rest_api_port=8501,
        model_name="alexnet",
        model_base_path="/models/alexnet",
        enable_batching=True,
        batching_parameters_file="/b.config",
        monitoring_config_file="/m.config",
        file_system_poll_wait_seconds=0,
        tensorflow_intra_op_parallelism=2,
    )


@pytest.mark.parametrize(
    ("text", "value"), [("", True), ("=true", True), ("=false", False), ("=1", True), ("=False", False)]
)
def test_booleans(text, value):
    assert parse([BASE, f"--enable_model_warmup{text}"])[0].enable_model_warmup is value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port=eight"], "--port must be a whole number; received 'eight'"),
        (["--port"], "--port needs a value, as in --port=VALUE"),
        (["--port=70000"], "--port must lie between 0 and 65535; received 70000"),
        (["--enable_batching=maybe"], "--enable_batching must be true or false; received 'maybe'"),
        (
            ["--per_process_gpu_memory_fraction=half"],
            "--per_process_gpu_memory_fraction must be a number; received 'half'",
        ),
        (["--mixed_precision=half"], "--mixed_precision must be bfloat16 or empty; received 'half'"),
        (["--port=0"], "--port=0 needs --grpc_socket_path"),
        (["--rest_api_port=8500"], "--rest_api_port must differ from --port; both are 8500"),
        (["--batching_parameters_file=/b"], "--batching_parameters_file needs --enable_batching"),
        (
            ["--use_alts_credentials", "--ssl_config_file=/s"],
            "--use_alts_credentials and --ssl_config_file exclude each other",
        ),
        (
            ["--tensorflow_session_parallelism=1", "--tensorflow_inter_op_parallelism=1"],
            "--tensorflow_session_parallelism sets both pools; leave out --tensorflow_intra_op_parallelism "
            "and --tensorflow_inter_op_parallelism",
        ),
    ],
)
def test_values_that_cannot_be_used(arguments, message):
    with pytest.raises(FlagError) as failure:
        parse([BASE, *arguments])
    assert str(failure.value) == message


def test_a_model_is_needed():
    with pytest.raises(FlagError, match="--model_base_path or --model_config_file is needed"):
        parse([])


def test_what_is_not_known_is_only_pointed_out():
    found, notices = parse([BASE, "--of_tomorrow=1", "-model_name=m", "8502"])
    assert found == Flags(model_base_path="/models/m")
    assert notices == [
        "unknown argument: --of_tomorrow=1",
        "unknown argument: -model_name=m (did you mean --model_name?)",
        "unknown argument: 8502 (a value is joined to its flag with =, as in --port=8500)",
    ]


def test_usage_names_every_flag_with_its_default():
    text = flags.usage()
    assert text.startswith("usage: python -m serving.server")
    for known in dataclasses.fields(Flags):
        assert f"--{known.name}=" in text
    assert "--enable_model_warmup=true" in text

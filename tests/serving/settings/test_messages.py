"""Messages that tensorflow-serving-api leaves out, and the text format they are read from."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest
from tensorflow_serving.config import model_server_config_pb2

from serving.errors import Code, ServingError
from serving.settings import messages as config_messages
from serving.settings.messages import (
    BatchingParameters,
    MonitoringConfig,
    SSLConfig,
    parse_text,
    read_text_file,
)

BATCHING = """
max_batch_size { value: 128 }, batch_timeout_micros: { value: 0 }  # a comma, a colon, a comment
max_enqueued_batches { value: 100 }
num_batch_threads { value: 8 }
thread_pool_name { value: "pool" }
allowed_batch_sizes: 1
allowed_batch_sizes: [32, 128]
pad_variable_length_inputs: true
enable_large_batch_splitting { value: false }
"""


def failure(text: bytes | str, message) -> str:
    with pytest.raises(ServingError) as caught:
        parse_text(text, message)
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert "\n" not in caught.value.message
    return caught.value.message


def test_full_names_are_tensorflow_servings():
    names = [c.DESCRIPTOR.full_name for c in (BatchingParameters, MonitoringConfig, SSLConfig)]
    assert names == [
        f"tensorflow.serving.{n}" for n in ("BatchingParameters", "MonitoringConfig", "SSLConfig")
    ]
    assert MonitoringConfig().prometheus_config.DESCRIPTOR.full_name == "tensorflow.serving.PrometheusConfig"


def test_field_numbers_by_the_wire_format():
    ssl = SSLConfig(server_key="k", server_cert="c", custom_ca="a", client_verify=True)
    assert ssl.SerializeToString(deterministic=True) == b"\x0a\x01k\x12\x01c\x1a\x01a\x20\x01"
    monitoring = MonitoringConfig()
    monitoring.prometheus_config.enable, monitoring.prometheus_config.path = True, "/m"
    assert monitoring.SerializeToString(deterministic=True) == b"\x0a\x06\x08\x01\x12\x02/m"
    # max_batch_size=1, thread_pool_name=5, allowed_batch_sizes=6 (packed), padding=7, splitting=8, and 9
    parameters = BatchingParameters(allowed_batch_sizes=[5], pad_variable_length_inputs=True)
    parameters.max_batch_size.value, parameters.thread_pool_name.value = 5, "p"
    parameters.enable_large_batch_splitting.value = True
    parameters.max_execution_batch_size.value = 3
    assert parameters.SerializeToString(deterministic=True) == (
        b"\x0a\x02\x08\x05\x2a\x03\x0a\x01p\x32\x01\x05\x38\x01\x42\x02\x08\x01\x4a\x02\x08\x03"
    )


def test_batching_parameters_from_text():
    read = parse_text(BATCHING, BatchingParameters())
    assert (read.max_batch_size.value, read.num_batch_threads.value, read.thread_pool_name.value) == (
        128,
        8,
        "pool",
    )
    assert list(read.allowed_batch_sizes) == [1, 32, 128]
    assert read.pad_variable_length_inputs
    # A wrapper tells "set to its zero" from "not set".
    assert read.HasField("batch_timeout_micros")
    assert read.HasField("enable_large_batch_splitting")
    assert not read.HasField("max_execution_batch_size")


def test_parsing_forgets_what_the_message_held():
    message = parse_text("allowed_batch_sizes: 3", BatchingParameters())
    assert list(parse_text("allowed_batch_sizes: 4", message).allowed_batch_sizes) == [4]
    assert not parse_text("# nothing but a comment\n", message).ListFields()
    assert not parse_text(b"", message).ListFields()


def test_unknown_field():
    assert failure("\n  nam: 1", model_server_config_pb2.ModelServerConfig()) == (
        "Error parsing text-format tensorflow.serving.ModelServerConfig: 2:3: "
        'Message type "tensorflow.serving.ModelServerConfig" has no field named "nam".'
    )


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("prometheus_config {", ": 1:19: "),
        ('prometheus_config { path: "a\n', ": 1:27: "),
        ("prometheus_config { enable: maybe }", ": 1:29: "),
        ("prometheus_config { enable: true } prometheus_config { enable: false }", ": 1:54: "),
        (b"# caf\xc3\xa9\nprometheus_config { path: '\xff' }", ": 2:28: the text is not UTF-8"),
    ],
)
def test_broken_text_says_where(text, where):
    message = failure(text, MonitoringConfig())
    assert message.startswith(f"Error parsing text-format tensorflow.serving.MonitoringConfig{where}")


def test_nesting_without_end():
    deep = "custom_model_config {" + "[type.googleapis.com/google.protobuf.Any] {" * 2_000
    assert failure(deep, model_server_config_pb2.ModelServerConfig()).startswith(
        "Error parsing text-format tensorflow.serving.ModelServerConfig: "
    )


def test_files(tmp_path):
    file = tmp_path / "batching.txt"
    file.write_text(BATCHING, encoding="utf-8")
    assert read_text_file(str(file), BatchingParameters()).max_batch_size.value == 128
    # A URI goes to TensorFlow's file systems.
    assert read_text_file(f"file://{file}", BatchingParameters()).max_batch_size.value == 128


def test_file_that_does_not_parse(tmp_path):
    file = tmp_path / "models.config"
    file.write_text("model_config_list {\n  config { name: 'a'\n", encoding="utf-8")
    with pytest.raises(ServingError) as caught:
        read_text_file(str(file), model_server_config_pb2.ModelServerConfig())
    assert caught.value.code == Code.INVALID_ARGUMENT
    assert caught.value.message.startswith(
        f"Invalid protobuf file: '{file}': Error parsing text-format tensorflow.serving.ModelServerConfig: 2:"
    )


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_missing_file(tmp_path, scheme):
    with pytest.raises(ServingError, match="none") as caught:
        read_text_file(f"{scheme}{tmp_path}/none", BatchingParameters())
    assert caught.value.code == Code.NOT_FOUND
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("name", ["/tmp", "/a\0b"])
def test_unreadable_file(name):
    with pytest.raises(ServingError) as caught:
        read_text_file(name, BatchingParameters())
    assert caught.value.message.startswith(f"{name}; ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_forbidden_file(tmp_path):
    file = tmp_path / "secret"
    file.touch(mode=0o000)
    with pytest.raises(ServingError, match="Permission denied"):
        read_text_file(str(file), BatchingParameters())


def test_imported_twice():
    first = config_messages.BatchingParameters
    again = importlib.reload(config_messages).BatchingParameters
    assert again is not first
    assert again.FromString(first(allowed_batch_sizes=[7]).SerializeToString()).allowed_batch_sizes == [7]


def test_beside_a_package_that_ships_them():
    """Another package's tensorflow.serving.BatchingParameters in the default pool, before and after ours."""
    script = """
from google.protobuf import descriptor_pb2, descriptor_pool
def other(name):
    file = descriptor_pb2.FileDescriptorProto(name=name + ".proto", package="tensorflow.serving")
    file.message_type.add(name=name)
    descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
other("BatchingParameters")
from serving.settings import messages as config_messages
other("SSLConfig")
for name in ("BatchingParameters", "SSLConfig"):
    theirs = descriptor_pool.Default().FindMessageTypeByName("tensorflow.serving." + name)
    print(len(theirs.fields), len(getattr(config_messages, name).DESCRIPTOR.fields))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["0 9", "0 4"]

"""TF Serving's batching parameters: defaults, checks and their words, files."""

import os

import pytest

from serving.batching import parameters as batching_parameters
from serving.batching.parameters import BatchingParameters
from serving.errors import Code, ServingError
from serving.settings import messages as config_messages


def read(text):
    return batching_parameters.from_proto(
        config_messages.parse_text(text, config_messages.BatchingParameters())
    )


def refused(text):
    with pytest.raises(ServingError) as caught:
        read(text)
    assert caught.value.code == Code.INVALID_ARGUMENT
    return caught.value.message


def test_defaults_are_tf_servings():
    parameters = read("")
    assert parameters == BatchingParameters()
    assert parameters.max_batch_size == 1000
    assert parameters.batch_timeout_micros == 0
    assert parameters.max_enqueued_batches == 10
    assert parameters.num_batch_threads == len(os.sched_getaffinity(0))
    assert parameters.thread_pool_name == "batch_threads"
    assert parameters.allowed_batch_sizes == ()
    assert not parameters.pad_variable_length_inputs
    assert not parameters.enable_large_batch_splitting


def test_the_pool_without_a_file_has_its_own_name():
    assert batching_parameters.without_file().thread_pool_name == "model_server_batch_threads"


def test_every_field_is_read():
    parameters = read(
        """
        max_batch_size { value: 128 }, batch_timeout_micros: { value: 2500 }
        max_enqueued_batches { value: 7 }
        num_batch_threads { value: 3 }
        thread_pool_name { value: "pool" }
        allowed_batch_sizes: 32
        allowed_batch_sizes: 128
        pad_variable_length_inputs: true
        enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 64 }
        """
    )
    assert parameters == BatchingParameters(128, 2500, 7, 3, "pool", (32, 128), True, True, 64)
    assert parameters.batch_rows == 64
    assert parameters.batch_timeout == 0.0025


def test_zero_that_is_set_is_not_the_default():
    assert refused("num_batch_threads { value: 0 }") == "num_batch_threads must be positive; was 0"
    assert refused("max_batch_size { }") == "input_batch_size_limit must be positive; was 0"


def test_rows_of_a_batch():
    assert BatchingParameters(max_batch_size=8).batch_rows == 8
    # Counts only when requests are split.
    assert BatchingParameters(max_batch_size=8, max_execution_batch_size=4).batch_rows == 8
    assert BatchingParameters(max_batch_size=8, enable_large_batch_splitting=True).batch_rows == 8


def test_padding_goes_up_to_the_next_allowed_size():
    parameters = BatchingParameters(max_batch_size=16, allowed_batch_sizes=(2, 4, 16))
    assert [parameters.padded(rows) for rows in (1, 2, 3, 4, 5, 16)] == [2, 2, 4, 4, 16, 16]
    assert BatchingParameters().padded(7) == 7


def test_no_room_in_the_queue_still_means_one_batch():
    assert read("max_enqueued_batches { value: 0 }").queue_batches == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "max_batch_size { value: 64 } allowed_batch_sizes: 8 allowed_batch_sizes: 32",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 32; expected 64",
        ),
        (
            "allowed_batch_sizes: 8",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8; expected 1000",
        ),
        (
            "max_batch_size { value: 64 } enable_large_batch_splitting { value: true } "
            "max_execution_batch_size { value: 32 } allowed_batch_sizes: 32",
            "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 32; expected 64",
        ),
        (
            "max_batch_size { value: 8 } allowed_batch_sizes: [4, 4, 8]",
            "allowed_batch_sizes entries must be monotonically increasing",
        ),
        ("num_batch_threads { value: -1 }", "num_batch_threads must be positive; was -1"),
        ("batch_timeout_micros { value: -5 }", "batch_timeout_micros must be non-negative; was -5"),
        ("max_enqueued_batches { value: -5 }", "max_enqueued_batches must be non-negative; was -5"),
        (
            "enable_large_batch_splitting { value: true } max_enqueued_batches { value: 0 }",
            "max_enqueued_batches must be positive; was 0",
        ),
        (
            "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 0 }",
            "max_execution_batch_size must be positive; was 0",
        ),
        (
            "enable_large_batch_splitting { value: true } max_batch_size { value: 4 } "
            "max_execution_batch_size { value: 8 }",
            "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or equal "
            "to max_execution_batch_size; were 4 and 8",
        ),
    ],
)
def test_values_that_no_model_loads_with(text, message):
    assert refused(text) == message


def test_a_file(tmp_path):
    file = tmp_path / "batching.txt"
    file.write_text("max_batch_size { value: 4 }  # pictures\n")
    assert batching_parameters.read_file(str(file)).max_batch_size == 4
    file.write_text("max_batch_size: 4")
    with pytest.raises(ServingError, match=r"Error parsing text-format tensorflow\.serving\.Batch"):
        batching_parameters.read_file(str(file))


def test_a_versions_own_file(tmp_path):
    assert batching_parameters.read_per_model(str(tmp_path)) is None
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 6 }")
    found = batching_parameters.read_per_model(f"{tmp_path}/")
    assert found is not None
    assert found.max_batch_size == 6
    (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 6 } allowed_batch_sizes: 3")
    with pytest.raises(ServingError, match="Last entry in allowed_batch_sizes"):
        batching_parameters.read_per_model(str(tmp_path))

"""Batching parameters: TF Serving's message, its defaults and the rules for its values."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from google.protobuf.message import Message

from serving.errors import Code, ServingError, invalid
from serving.settings import file_system
from serving.settings import messages as config_messages
from serving.settings.flags import cpus

# Beside saved_model.pb, read with --enable_per_model_batching_parameters.
PER_MODEL_FILE = "batching_params.pbtxt"
# What the pool is called when --enable_batching comes without a file (model_servers/server.cc).
POOL_WITHOUT_FILE = "model_server_batch_threads"


@dataclass(frozen=True)
class BatchingParameters:
    """The message BatchingParameters of session_bundle_config.proto with its defaults, checked.

    Attributes:
      max_batch_size: rows of a batch, and of the largest request. With splitting only the latter.
      batch_timeout_micros: how long the oldest request of a batch waits for others; 0 runs the batch as it is
        as soon as a thread is free.
      max_enqueued_batches: batches that wait in one queue, including the one that is being filled.
      num_batch_threads: batches that run at a time, over all models.
      thread_pool_name: name of those threads.
      allowed_batch_sizes: ascending; a batch is padded up to the next of them. Empty for no padding.
      pad_variable_length_inputs: pads the other dimensions to the largest of a batch.
      enable_large_batch_splitting: whether requests are cut where a batch is full.
      max_execution_batch_size: rows of a batch when requests are split; None for max_batch_size.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=cpus)
    thread_pool_name: str = "batch_threads"
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    @property
    def batch_rows(self) -> int:
        """The most rows in a batch, without padding."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size

    @property
    def batch_timeout(self) -> float:
        """Seconds that the oldest request of a batch waits for others."""
        return self.batch_timeout_micros / 1e6

    def padded(self, rows: int) -> int:
        """Number of rows in a batch of `rows` rows after padding."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)

    @property
    def queue_batches(self) -> int:
        """The most batches in one queue; 0 means 1, which TF Serving keeps for old configurations."""
        return max(self.max_enqueued_batches, 1)

    def __post_init__(self) -> None:
        """Raises ServingError, INVALID_ARGUMENT, for values that TF Serving refuses."""
        if self.num_batch_threads < 1:
            raise invalid(f"num_batch_threads must be positive; was {self.num_batch_threads}")
        if self.max_batch_size < 1:
            raise invalid(f"input_batch_size_limit must be positive; was {self.max_batch_size}")
        if self.batch_timeout_micros < 0:
            raise invalid(f"batch_timeout_micros must be non-negative; was {self.batch_timeout_micros}")
        if self.max_enqueued_batches < 0:
            raise invalid(f"max_enqueued_batches must be non-negative; was {self.max_enqueued_batches}")
        if self.enable_large_batch_splitting:
            self._check_splitting()
        self._check_allowed_batch_sizes()

    def _check_splitting(self) -> None:
        if self.max_enqueued_batches < 1:
            raise invalid(f"max_enqueued_batches must be positive; was {self.max_enqueued_batches}")
        if self.batch_rows < 1:
            raise invalid(f"max_execution_batch_size must be positive; was {self.batch_rows}")
        if self.max_batch_size < self.batch_rows:
            raise invalid(
                "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or "
                f"equal to max_execution_batch_size; were {self.max_batch_size} and {self.batch_rows}"
            )

    def _check_allowed_batch_sizes(self) -> None:
        """TF Serving requires the last one to be max_batch_size, also when requests are split."""
        sizes = self.allowed_batch_sizes
        if any(later <= earlier for earlier, later in itertools.pairwise(sizes)):
            raise invalid("allowed_batch_sizes entries must be monotonically increasing")
        if sizes and sizes[-1] != self.max_batch_size:
            raise invalid(
                "Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
                f"{sizes[-1]}; expected {self.max_batch_size}"
            )


def from_proto(message: Message) -> BatchingParameters:
    """Reads a tensorflow.serving.BatchingParameters message; unset fields get TF Serving's defaults.

    Raises:
      ServingError: INVALID_ARGUMENT for values that TF Serving refuses.
    """
    wrapped = (
        "max_batch_size",
        "batch_timeout_micros",
        "max_enqueued_batches",
        "num_batch_threads",
        "thread_pool_name",
        "enable_large_batch_splitting",
        "max_execution_batch_size",
    )
    return BatchingParameters(
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length_inputs=message.pad_variable_length_inputs,
        **{name: getattr(message, name).value for name in wrapped if message.HasField(name)},
    )


def without_file() -> BatchingParameters:
    """Parameters for --enable_batching without --batching_parameters_file."""
    return BatchingParameters(thread_pool_name=POOL_WITHOUT_FILE)


def read_file(path: str) -> BatchingParameters:
    """Reads --batching_parameters_file.

    Raises:
      ServingError: the file cannot be read, is not the message in text form, or has refused values.
    """
    return from_proto(config_messages.read_text_file(path, config_messages.BatchingParameters()))


def read_per_model(version_path: str) -> BatchingParameters | None:
    """Reads a version's own batching parameters; None without such a file: its requests are then not batched.

    The thread pool is the server's: the file's settings for it have no effect.

    Args:
      version_path: folder that holds saved_model.pb.

    Raises:
      ServingError: as `read_file`.
    """
    path = file_system.join(version_path, PER_MODEL_FILE)
    try:
        return read_file(path)
    except ServingError as error:
        if error.code == Code.NOT_FOUND:
            return None
        raise

"""The settings of the model repository."""

from __future__ import annotations

from dataclasses import dataclass

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig


@dataclass(frozen=True)
class RepositorySettings:
    """Values of TF Serving's flags of the same names (tensorflow_serving/model_servers/main.cc).

    Attributes:
      model_config: the first configuration.
      file_system_poll_wait_seconds: between two polls of the base paths; 0 polls once (and after every change
        of the configuration), negative never.
      model_config_file: file from which the configuration is read again; empty for none.
      model_config_file_poll_wait_seconds: between two readings; 0 for never.
    """

    model_config: ModelServerConfig
    file_system_poll_wait_seconds: float = 1
    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    num_load_threads: int = 0
    num_unload_threads: int = 0
    allow_version_labels_for_unavailable_models: bool = False
    model_config_file: str = ""
    model_config_file_poll_wait_seconds: float = 0

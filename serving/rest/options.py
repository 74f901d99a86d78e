"""Settings of the REST transport, with the names of the server's flags."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serving.security import SslConfig

MIB = 1024 * 1024


@dataclasses.dataclass(frozen=True)
class RestOptions:
    """Settings of `RestApp` and `RestServer`.

    Attributes:
      num_threads: threads that answer requests (--rest_api_num_threads).
      timeout_in_ms: limit of one run of a model (--rest_api_timeout_in_ms).
      enable_cors_support: CORS headers on every /v1/ answer (--rest_api_enable_cors_support).
      prometheus_path: path of the metrics page; "" for none (--monitoring_config_file).
      api_token: requests must carry it as `authorization: Bearer TOKEN`; "" for none (--api_token_file).
      max_request_bytes: of a body as it is sent, 0 for any (--rest_api_max_request_bytes).
      max_decompressed_bytes: of a gzip body once unpacked (--rest_api_max_decompressed_bytes).
      header_timeout_in_ms: limit for a request's header to arrive (--rest_api_header_timeout_in_ms).
      body_timeout_in_ms: limit for the next part of a body to arrive, or of an answer to be read.
      keep_alive_seconds: how long a connection may be idle between two requests.
      max_header_bytes: of a request's line and header together.
      access_log: path of the file, "-" for stdout, "" for none (--access_log).
      demo_folder: files of the demo page; None for no page (--enable_demo_page).
      ssl_config: an SSLConfig message; None for plain HTTP (--rest_ssl_config_file).
    """

    num_threads: int
    timeout_in_ms: int = 30_000
    enable_cors_support: bool = False
    prometheus_path: str = ""
    api_token: str = ""
    max_request_bytes: int = 256 * MIB
    max_decompressed_bytes: int = 100 * MIB
    header_timeout_in_ms: int = 10_000
    body_timeout_in_ms: int = 30_000
    keep_alive_seconds: int = 75
    max_header_bytes: int = 64 * 1024
    access_log: str = ""
    demo_folder: Path | None = None
    ssl_config: SslConfig | None = None

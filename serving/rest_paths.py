"""The URLs under /v1/: what a method and a path ask for.

tensorflow_serving/model_servers/http_rest_api_util.cc. A path is matched as it was sent, query string
included; names and labels are percent-decoded afterwards.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import NamedTuple

from serving.errors import invalid
from serving.specs import ModelSpec

WHICH = rb"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
PREFIX = re.compile(rb"/v1/.*", re.IGNORECASE)
# The verb is the one word whose case counts.
INFERENCE = re.compile(
    rb"/v1/models/(?P<name>[^/:]+)" + WHICH + rb":(?P<verb>(?-i:classify|regress|predict))", re.I
)
INFORMATION = re.compile(rb"/v1/models(?:/(?P<name>[^/:]+))?" + WHICH + rb"(?P<metadata>/metadata)?", re.I)
# Ours, outside /v1/.
RETRY = re.compile(rb"/models/(?P<name>[^/:]+)/versions/(?P<version>[0-9]+):retry")
INT64_END = 2**63


class Route(NamedTuple):
    """What is asked for.

    Attributes:
      action: `predict`, `classify`, `regress`, `status` or `metadata`.
      spec: of which model.
    """

    action: str
    spec: ModelSpec

    @property
    def api(self) -> str:
        """The label API of the metrics: empty for what is no inference."""
        return "" if self.action in ("status", "metadata") else self.action


def is_rest(target: bytes) -> bool:
    """Whether a path lies under /v1/."""
    return PREFIX.fullmatch(target) is not None


def route(method: str, target: bytes) -> Route:
    """Resolves a request.

    Args:
      method: as sent, `GET`.
      target: path and query string as sent.

    Raises:
      ServingError: INVALID_ARGUMENT `Malformed request: METHOD PATH`, or what is wrong with the names.
    """
    pattern = {"POST": INFERENCE, "GET": INFORMATION}.get(method)
    match = pattern.fullmatch(target) if pattern else None
    if match is None:
        raise invalid(f"Malformed request: {method} {target.decode('utf-8', 'replace')}")
    groups = match.groupdict()
    if groups["name"] is None:
        raise invalid("Missing model name in request.")
    version = None if groups["version"] is None else _number(groups["version"])
    label = None if groups["label"] is None else decoded(groups["label"])
    action = "metadata" if groups.get("metadata") else "status"
    if method == "POST":
        action = groups["verb"].decode("ascii")
    return Route(action, ModelSpec(decoded(groups["name"]), version, label))


def retry_of(target: bytes) -> tuple[str, int] | None:
    """Name and version of `/models/NAME/versions/V:retry`; None for another path.

    Raises:
      ServingError: INVALID_ARGUMENT: the version is no int64.
    """
    match = RETRY.fullmatch(target)
    return (decoded(match["name"]), _number(match["version"])) if match else None


def _number(version: bytes) -> int:
    digits = version.decode("ascii")
    if len(digits.lstrip("0")) > len(str(INT64_END)) or int(digits) >= INT64_END:
        raise invalid(f"Failed to convert version: {digits} to numeric.")
    return int(digits)


def decoded(part: bytes) -> str:
    """A path's part without percent signs; what is not UTF-8 then can name nothing."""
    return urllib.parse.unquote_to_bytes(part).decode("utf-8", "replace")

"""Which versions of a model lie in its base path, and which of them its policy wants.

A version folder's name is a number, whatever else lies beside it. Folders are only listed: what changes
inside one is not looked at (tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc).
"""

from __future__ import annotations

import logging
import re

from serving import file_system
from serving.errors import Code, ServingError
from serving.model_config import ModelSettings

# What absl::SimpleAtoi takes for a number: a sign, and the digits after leading zeros, 19 at most for int64.
_VERSION = re.compile(r"[ \t\n\v\f\r]*([+-]?)0*([0-9]{1,19})[ \t\n\v\f\r]*")
_INT64 = range(-(2**63), 2**63)


def version_number(name: str) -> int | None:
    """The version that a folder's name stands for: `7` and `007` both 7; None for `7.tmp`, `_7`, `7e2`."""
    match = _VERSION.fullmatch(name)
    if match is None:
        return None
    number = int(match[1] + match[2])
    return number if number in _INT64 else None


def wanted_versions(model: ModelSettings) -> dict[int, str]:
    """Looks into a model's base path.

    Returns:
      The path of each version that the model's policy wants; empty when there is none, which unloads the
      model.

    Raises:
      ServingError: NOT_FOUND when the base path is missing or cannot be read; nothing should change then.
    """
    try:
        names = file_system.children(model.base_path)
    except OSError as error:
        raise ServingError(
            Code.NOT_FOUND,
            f"Could not find base path {model.base_path} for servable {model.name} with error "
            f"{error.strerror or error}",
        ) from error
    found: dict[int, str] = {}
    for name in sorted(names):
        version = version_number(name)
        if version is None:
            continue
        if version in found:
            logging.getLogger("serving").warning(
                "Duplicate version directories detected. Version %d will be loaded from %s, %s will be "
                "ignored.",
                version,
                name,
                found[version],
            )
        found[version] = name
    return {
        version: file_system.join(model.base_path, found[version]) for version in model.policy.choose(found)
    }


def shortcoming(model: ModelSettings, versions: dict[int, str]) -> str:
    """What is missing among the versions found, in TF Serving's words; empty when nothing is."""
    missing = sorted(model.policy.versions - set(versions))
    if missing:
        return (
            f"Version(s) {', '.join(map(str, missing))} of servable {model.name}, requested to be served as "
            f"'specific', were not found under base path {model.base_path}"
        )
    if not versions:
        return (
            f"No versions of servable {model.name} found under base path {model.base_path}. Did you forget "
            "to name your leaf directory as a number (eg. '/1/')?"
        )
    return ""

"""Which versions of a model lie in its base path, and which of them its policy wants.

A version folder's name is a number, whatever else lies beside it. Folders are only listed: what changes
inside one is not looked at (tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc).
"""

from __future__ import annotations

import re
from typing import NamedTuple

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


class Look(NamedTuple):
    """What a look into a base path found.

    Attributes:
      wanted: the path of each version that the policy wants; empty unloads the model.
      complaint: what an operator should know of it, in TF Serving's words; empty when all is well.
    """

    wanted: dict[int, str]
    complaint: str


def look(model: ModelSettings) -> Look:
    """Looks into a model's base path.

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
    complaints = []
    for name in sorted(names):
        version = version_number(name)
        if version is None:
            continue
        if version in found:
            complaints.append(
                f"Duplicate version directories detected. Version {version} will be loaded from {name}, "
                f"{found[version]} will be ignored."
            )
        found[version] = name
    missing = sorted(model.policy.versions - set(found))
    if missing:
        complaints.append(
            f"Version(s) {', '.join(map(str, missing))} of servable {model.name}, requested to be served as "
            f"'specific', were not found under base path {model.base_path}"
        )
    elif not found:
        complaints.append(
            f"No versions of servable {model.name} found under base path {model.base_path}. Did you forget "
            "to name your leaf directory as a number (eg. '/1/')?"
        )
    wanted = {
        number: file_system.join(model.base_path, found[number]) for number in model.policy.choose(found)
    }
    return Look(wanted, " ".join(complaints))

"""What may follow the place in a SPEC: `tfds:NAME?label=FEATURE`."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.config import DataConfig
from pipelines.errors import DataError


def parse_options(config: DataConfig, legal: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Takes the options off the place that a SPEC names.

    Args:
      config: its `spec` is `KIND:PLACE?OPTION=VALUE&OPTION=VALUE`, the options left away or not.
      legal: option -> what its value stands for, in capitals.

    Returns:
      The place, and option -> value for those that are given.

    Raises:
      DataError: an option is unknown, has no value, or is given twice.
    """
    place, mark, query = config.location.partition("?")
    options: dict[str, str] = {}
    for part in query.split("&") if mark else ():
        name, _, value = part.partition("=")
        if name not in legal or not value or name in options:
            forms = " or ".join(f"{option}={meaning}" for option, meaning in legal.items())
            raise DataError(
                f"--data {config.spec}: after `?` come {forms}, each once, joined by `&`; received {part!r}"
            )
        options[name] = value
    return place, options

"""Where pictures come from: `open_source` turns a SPEC into a Source; `source` describes what a source is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.sources.spec import open_source

__all__ = ["open_source"]


def __getattr__(name: str) -> Any:
    # Not imported at once: `source` loads TensorFlow, which a command's --help does without.
    if name == "open_source":
        from pipelines.sources.spec import open_source

        return open_source
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

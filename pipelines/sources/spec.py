"""From a SPEC to a source: the only module that knows every kind of data set."""

from __future__ import annotations

from pipelines import progress
from pipelines.config import DataConfig
from pipelines.sources.source import Source


def open_source(config: DataConfig) -> Source:
    """Opens the data set that `config.spec` names.

    Raises:
      DataError: when it cannot be used, in one line with the cure.
    """
    with progress.phase("opening the data set"):
        return _open(config)


def _open(config: DataConfig) -> Source:
    # Imported by need: TFDS alone costs a second, and each kind brings only what it uses.
    if config.kind == "synthetic":
        from pipelines.sources.synthetic import SyntheticSource

        return SyntheticSource(config)
    if config.kind == "folder":
        from pipelines.sources.folder import FolderSource

        return FolderSource(config)
    if config.kind == "tfds":
        from pipelines.sources.tfds import TfdsSource

        return TfdsSource(config)
    if config.kind == "records":
        from pipelines.sources.records import RecordsSource

        return RecordsSource(config)
    if config.kind == "cifar":
        from pipelines.sources.cifar import CifarSource

        return CifarSource(config)
    from pipelines.sources.imagenet import ImagenetSource

    return ImagenetSource(config)

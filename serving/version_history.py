"""Versions that are gone: TF Serving lists them for ever, here for as long as there is room."""

from __future__ import annotations

from collections import OrderedDict

from serving.specs import ServableId, VersionStatus

# A model that gets a new version every hour shows its last four days.
VERSIONS_OF_A_MODEL = 100
MODELS = 1000


class VersionHistory:
    """The last status of versions that ended; not thread-safe.

    The oldest of a model's versions is forgotten when there are more than `versions` of it, and the model
    longest untouched when there are more than `models`, so that a server that runs for years does not grow.
    """

    def __init__(self, versions: int = VERSIONS_OF_A_MODEL, models: int = MODELS) -> None:
        self._versions = versions
        self._limit = models
        self._models: OrderedDict[str, OrderedDict[int, VersionStatus]] = OrderedDict()

    def remember(self, name: str, status: VersionStatus) -> None:
        """Notes how a version ended."""
        ended = self._models.setdefault(name, OrderedDict())
        self._models.move_to_end(name)
        ended[status.version] = status
        ended.move_to_end(status.version)
        if len(ended) > self._versions:
            ended.popitem(last=False)
        if len(self._models) > self._limit:
            self._models.popitem(last=False)

    def forget(self, servable_id: ServableId) -> None:
        """Leaves out a version that lives again."""
        self._models.get(servable_id.name, OrderedDict()).pop(servable_id.version, None)

    def of(self, name: str) -> list[VersionStatus]:
        """What is remembered of a model's versions, in no order that means anything."""
        return list(self._models.get(name, OrderedDict()).values())

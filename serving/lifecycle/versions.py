"""The state of a version, and the choice of a model's next version to load or unload.

The policy is TF Serving's availability-preserving one: the old version serves until the new one is available,
so both are in memory for a while (tensorflow_serving/core/availability_preserving_policy.cc).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.errors import ServingError
from serving.specs import ServableId, State, VersionStatus

if TYPE_CHECKING:
    from serving.model.servable import Servable

# A model that gets a new version every hour shows its last four days.
VERSIONS_OF_A_MODEL = 100
MODELS = 1000


@dataclass(eq=False)
class Version:
    """One managed version; read and changed only under the manager's lock.

    Attributes:
      id: model and number.
      path: the folder last found for it; a loaded version may come from an earlier one.
      wanted: whether the version policy chooses it (TF Serving: aspired).
      state: as in GetModelStatus.
      error: why its last load failed.
      loading: whether a thread is loading it now; between two tries it is in state LOADING and this is False.
      tries: number of tries to load it.
      due: second of the manager's clock from which it may be tried (again).
      servable: answers requests, from AVAILABLE until it is closed.
      users: number of requests that hold it.
    """

    id: ServableId
    path: str
    wanted: bool = True
    state: State = State.START
    error: ServingError | None = None
    loading: bool = False
    tries: int = 0
    due: float = float("-inf")
    servable: Servable | None = None
    users: int = 0

    @property
    def failed(self) -> bool:
        """Whether loading has failed for good."""
        return self.state == State.END and self.error is not None

    @property
    def waiting(self) -> bool:
        """Whether it is to be loaded, now or when its next try is due."""
        return self.state in (State.START, State.LOADING) and not self.loading

    @property
    def status(self) -> VersionStatus:
        """The version's status; as in TF Serving without an error until the last try has failed."""
        if self.state != State.END or self.error is None:
            return VersionStatus(self.id.version, self.state)
        return VersionStatus(self.id.version, self.state, self.error.code, self.error.message)


def available(versions: Iterable[Version]) -> Version | None:
    """The highest available version."""
    ready = (version for version in versions if version.state == State.AVAILABLE)
    return max(ready, key=_number, default=None)


def outcome(versions: Collection[Version]) -> Version | None:
    """The highest available version, else the highest that failed, else None."""
    failed = (version for version in versions if version.failed)
    return available(versions) or max(failed, key=_number, default=None)


def next_to_load(versions: Iterable[Version], now: float) -> Version | None:
    """The highest of a model's wanted versions whose load is due."""
    due = (version for version in versions if version.wanted and version.waiting and version.due <= now)
    return max(due, key=_number, default=None)


def next_to_unload(versions: Iterable[Version]) -> Version | None:
    """The lowest available version that is not wanted any more, once the model can do without it.

    That is when a wanted version is available, when none is wanted, or when another unwanted one is
    available.
    """
    versions = list(versions)
    idle = [version for version in versions if version.state == State.AVAILABLE and not version.wanted]
    wanted = [version for version in versions if version.wanted]
    if not wanted or len(idle) > 1 or available(wanted) is not None:
        return min(idle, key=_number, default=None)
    return None


def _number(version: Version) -> int:
    return version.id.version


class VersionHistory:
    """The last states of versions that ended; not thread-safe.

    The oldest of a model's versions is forgotten when there are more than `versions` of it, and the model
    longest untouched when there are more than `models`, so that a server that runs for years does not grow.
    """

    def __init__(self, versions: int = VERSIONS_OF_A_MODEL, models: int = MODELS) -> None:
        self._versions = versions
        self._limit = models
        self._models: OrderedDict[str, OrderedDict[int, VersionStatus]] = OrderedDict()

    def remember(self, name: str, status: VersionStatus) -> None:
        """Adds the last status of a version."""
        ended = self._models.setdefault(name, OrderedDict())
        self._models.move_to_end(name)
        ended[status.version] = status
        ended.move_to_end(status.version)
        if len(ended) > self._versions:
            ended.popitem(last=False)
        if len(self._models) > self._limit:
            self._models.popitem(last=False)

    def forget(self, servable_id: ServableId) -> None:
        """Removes a version that is loaded again."""
        self._models.get(servable_id.name, OrderedDict()).pop(servable_id.version, None)

    def of(self, name: str) -> list[VersionStatus]:
        """The last states of a model's versions, in no particular order."""
        return list(self._models.get(name, OrderedDict()).values())

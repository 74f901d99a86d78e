"""The model repository: models are configured, found on disk, loaded, and chosen for requests.

The configuration changes by request or by file; base paths are polled; the manager does the loading.
Nothing here blocks a request.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, cast

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.errors import Code, ServingError, invalid
from serving.lifecycle import manager as loading
from serving.lifecycle import model_config
from serving.lifecycle.catalog import Catalog
from serving.lifecycle.manager import Manager, OnEvent
from serving.lifecycle.settings import RepositorySettings
from serving.lifecycle.threads import PeriodicTask
from serving.lifecycle.versions import Version
from serving.settings import flags
from serving.specs import ModelSpec, VersionStatus

if TYPE_CHECKING:
    from serving.model.servable import Servable

# During the initial load; later --num_load_threads applies.
LOADS_PER_CPU = 4


class Repository:
    """The versions of all models. Thread-safe.

    Args:
      load: loads a version folder as a servable and warms it up; any exception is a failed try.
      settings: see `RepositorySettings`.
      on_event: called at every change of a version's state, in order; it must be quick and must not raise.
      clock: a monotonic clock in seconds, for the times of retries.
    """

    def __init__(
        self,
        load: loading.Load,
        settings: RepositorySettings,
        on_event: OnEvent = lambda servable_id, status: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._manager = Manager(
            load,
            settings.max_num_load_retries,
            settings.load_retry_interval_micros / 1e6,
            settings.num_load_threads,
            settings.num_unload_threads,
            on_event,
            clock,
        )
        self._catalog = Catalog(settings, self._manager)
        self._pollers: list[PeriodicTask] = []
        self._started = False

    def start(self) -> None:
        """Loads the configured models, and waits until each has a version that is available or has failed.

        Waits without limit for a base path that is missing or has no versions yet.

        Raises:
          ServingError: an invalid configuration; UNKNOWN when a model's versions failed; CANCELLED by `stop`.
        """
        settings = self._settings
        try:
            self._catalog.apply(settings.model_config)
            # As many at once as the machine can use, since no requests are served yet.
            self._manager.limit_load_threads(LOADS_PER_CPU * flags.cpus())
            if settings.file_system_poll_wait_seconds >= 0:
                version_poller = PeriodicTask(
                    "versions", self._catalog.poll, settings.file_system_poll_wait_seconds
                )
                self._catalog.on_change = version_poller.wake
                self._pollers.append(version_poller)
                version_poller.wake()
            if settings.model_config_file and settings.model_config_file_poll_wait_seconds > 0:
                seconds = settings.model_config_file_poll_wait_seconds
                self._pollers.append(PeriodicTask("config", self._catalog.read_file, seconds))
            for poller in self._pollers:
                poller.start()
            self._catalog.wait_for(lambda: self._catalog.models, "servable(s)")
        except BaseException:
            self.stop()
            raise
        self._manager.limit_load_threads(settings.num_load_threads)
        self._started = True

    def reload(self, config: ModelServerConfig) -> None:
        """Replaces the list of models, as HandleReloadConfigRequest does.

        Models left out are unloaded. Waits until every model that was not listed before has a version that is
        available or failed; a later call need not wait for this one.

        Raises:
          ServingError: INVALID_ARGUMENT, FAILED_PRECONDITION of the configuration, which changes nothing
            then; UNKNOWN when a new model's versions failed; CANCELLED by `stop`.
        """
        if config.WhichOneof("config") != model_config.MODEL_LIST:
            raise invalid(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                "currently supported"
            )
        new = self._catalog.apply(config)
        self._catalog.wait_for(lambda: new, "model(s)")

    def servable(self, spec: ModelSpec) -> ServableHandle:
        """The version that a request means, to be held with `with`.

        Without a version or label it is the highest available one on entering. It is not unloaded while it is
        held.

        Raises:
          ServingError: on entering: INVALID_ARGUMENT without a name or for an unknown label, NOT_FOUND when
            the version is not available.
        """
        return ServableHandle(self._manager, self._catalog, spec)

    def statuses(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The states of a model's versions, highest first, including those that ended.

        Raises:
          ServingError: NOT_FOUND when no version is known, or not this one.
        """
        found = self._manager.statuses(name)
        if version is not None:
            found = [status for status in found if status.version == version]
            if not found:
                raise ServingError(Code.NOT_FOUND, f"Could not find version {version} of model {name}")
        if not found:
            raise ServingError(Code.NOT_FOUND, f"Could not find any versions of model {name}")
        return found

    def models(self) -> list[str]:
        """Names of the configured models, sorted."""
        return sorted(self._catalog.models)

    def labels(self, name: str) -> dict[str, int]:
        """A model's version labels; empty for a model that is not configured."""
        return dict(self._catalog.labels(name))

    def retry(self, name: str, version: int) -> None:
        """Loads a failed version again, with all its tries; returns at once.

        Raises:
          ServingError: NOT_FOUND for an unknown version, FAILED_PRECONDITION when it has not failed or is not
            wanted any more.
        """
        self._manager.retry(name, version)

    def missing(self) -> list[str]:
        """Configured models without an available version, sorted."""
        return [name for name in self.models() if not self._manager.has_available(name)]

    def ready(self) -> bool:
        """Whether the first load is over and every configured model has an available version."""
        return self._started and not self.missing()

    def poll(self) -> None:
        """Polls all base paths now."""
        self._catalog.poll()

    def read_config_file(self) -> None:
        """Reads the configuration file now; an invalid one changes nothing and is logged."""
        self._catalog.read_file()

    def stop(self, timeout: float = 10.0) -> None:
        """Unloads everything and ends all threads; `start` and `reload` that still wait raise CANCELLED.

        Args:
          timeout: seconds to wait for loads in progress and for requests that hold a version.
        """
        for poller in self._pollers:
            poller.stop()
        self._manager.stop(timeout)


class ServableHandle:
    """Holds a version during a `with` block."""

    __slots__ = ("_catalog", "_held", "_manager", "_spec")

    def __init__(self, manager: Manager, catalog: Catalog, spec: ModelSpec) -> None:
        self._manager, self._catalog, self._spec = manager, catalog, spec

    def __enter__(self) -> Servable:
        spec = self._spec
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        version = spec.version
        if spec.label is not None:
            version = self._catalog.labels(spec.name).get(spec.label)
            if version is None:
                raise invalid(f"Unrecognized servable version label: {spec.label}")
        held = self._manager.acquire(spec.name, version)
        if held is None:
            which = f"Latest({spec.name})" if version is None else f"Specific({spec.name}, {version})"
            raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {which}")
        self._held: Version = held
        return cast("Servable", held.servable)  # there is one as long as it is held

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager.release(self._held)

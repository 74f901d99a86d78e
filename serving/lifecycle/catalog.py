"""The configuration in force: which models and labels there are, and what their base paths last held.

It tells the manager which versions are wanted, and knows what to wait for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.errors import Code, ServingError
from serving.lifecycle import model_config
from serving.lifecycle import model_config as version_source
from serving.lifecycle.manager import Manager
from serving.lifecycle.model_config import ModelSettings
from serving.lifecycle.threads import Notices
from serving.settings import messages as config_messages
from serving.specs import ServableId, State, VersionStatus

if TYPE_CHECKING:
    from serving.lifecycle.settings import RepositorySettings

log = logging.getLogger("serving")


class _Outcome(NamedTuple):
    """How a model that was waited for came out: which version, as text, and its status."""

    which: str
    status: VersionStatus


class Catalog:
    """Settings by model name.

    Args:
      settings: of the repository.
      manager: is told which versions are wanted.

    Attributes:
      on_change: called when there are new settings to look at.
    """

    def __init__(self, settings: RepositorySettings, manager: Manager) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._settings = settings
        self._manager = manager
        # One change at a time. Readers take whole mappings, which are replaced and never changed.
        self._changing = threading.Lock()
        self._models: Mapping[str, ModelSettings] | None = None
        self._in_force: ModelServerConfig | None = None
        # One look at a time.
        self._looking = threading.Lock()
        self._problems: dict[str, tuple[ModelSettings, str]] = {}
        self._notices = Notices()
        self._file_notices = Notices()

    @property
    def models(self) -> Mapping[str, ModelSettings]:
        """What is configured; empty when nothing is."""
        return self._models or {}

    def labels(self, name: str) -> Mapping[str, int]:
        """Versions by label."""
        model = self.models.get(name)
        return model.labels if model is not None else {}

    def apply(self, config: ModelServerConfig) -> list[str]:
        """Puts a configuration in force, whole or not at all, without waiting for anything.

        Returns:
          Names of the models that were not configured before.

        Raises:
          ServingError: of the configuration.
        """
        with self._changing:
            models = model_config.checked(config, self._models)
            if models is None:
                log.info("Taking no action for empty config.")
                return []
            self._check_labels(models)
            old = self.models
            log.info("Adding/updating models.")
            for name in models:
                log.info(" (Re-)adding model: %s", name)
            self._models = models
            self._in_force = ModelServerConfig.FromString(config.SerializeToString())
            for name in old:
                if name not in models:
                    log.info(" Removing model: %s", name)
                    self._manager.set_wanted(name, {})
        self.on_change()
        # Who waits for a model that is gone now need not.
        self._manager.wake()
        return [name for name in models if name not in old]

    def look(self) -> None:
        """Looks into every base path, one bad path notwithstanding, and says what is wanted."""
        with self._looking:
            models = self.models
            for model in models.values():
                self._look_into(model)
            for name in self._problems.keys() - models.keys():
                del self._problems[name]
                self._notices.say(name, logging.WARNING, "")

    def read_file(self) -> None:
        """Reads the configuration file again; one that is broken, or may not be, leaves all as it is."""
        path = self._settings.model_config_file
        try:
            config = config_messages.read_text_file(path, ModelServerConfig())
            if config != self._in_force:
                self.apply(config)
        except ServingError as error:
            text = f"The configuration stays as it was, since {path} cannot be applied: {error.message}"
            self._file_notices.say(path, logging.ERROR, text)
        else:
            self._file_notices.say(path, logging.ERROR, "")

    def wait_for(self, names: Callable[[], Iterable[str]], noun: str) -> None:
        """Waits until each model has a version that is available or failed.

        Args:
          names: gives the models' names, asked again after every change.
          noun: what the error calls them.

        Raises:
          ServingError: UNKNOWN with the reason of each model that failed; CANCELLED when the server stops.
        """
        outcomes: list[_Outcome | None] = []

        def over() -> bool:
            outcomes[:] = [self._outcome(name) for name in names()]
            return None not in outcomes

        self._manager.wait_until(over)
        failed = [
            f"{{{outcome.which} due to error: {outcome.status.code.name}: {outcome.status.message}}}, "
            for outcome in outcomes
            if outcome is not None and outcome.status.state != State.AVAILABLE
        ]
        if failed:
            raise ServingError(
                Code.UNKNOWN, f"{len(failed)} {noun} did not become available: {{{''.join(failed)}}}"
            )

    def _outcome(self, name: str) -> _Outcome | None:
        """What there is to wait for no longer; None while it may come."""
        status = self._manager.reached(name)
        if status is not None:
            return _Outcome(str(ServableId(name, status.version)), status)
        model, hopeless = self.models.get(name), None
        if model is None:
            hopeless = VersionStatus(0, State.END, Code.ABORTED, "a later configuration leaves it out")
        elif self._settings.file_system_poll_wait_seconds == 0:
            # Nobody will look again.
            looked_at, problem = self._problems.get(name, (None, ""))
            if looked_at == model and problem:
                hopeless = VersionStatus(0, State.END, Code.NOT_FOUND, problem)
        return None if hopeless is None else _Outcome(f"{{name: {name}}}", hopeless)

    def _look_into(self, model: ModelSettings) -> None:
        wanted, level = None, logging.WARNING
        try:
            wanted, problem = version_source.look(model)
        except ServingError as error:
            problem, level = error.message, logging.ERROR
        with self._changing:
            if self.models.get(model.name) != model:
                return  # Another configuration came meanwhile; its look follows.
            if wanted is not None:
                self._manager.set_wanted(model.name, wanted)
            self._problems[model.name] = (model, "" if wanted else problem)
        self._notices.say(model.name, level, problem)
        if problem:
            self._manager.wake()

    def _check_labels(self, models: Mapping[str, ModelSettings]) -> None:
        """A label may name only what can answer now, or, with the flag, also something new."""
        for model in models.values():
            for label, version in model.labels.items():
                now = self.labels(model.name).get(label, version)
                if self._settings.allow_version_labels_for_unavailable_models and now == version:
                    continue
                if not self._manager.has_available(model.name, version):
                    raise ServingError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {version} of model {model.name}, which is not "
                        "currently available for inference",
                    )

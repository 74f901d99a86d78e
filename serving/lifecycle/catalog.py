"""The current configuration: models and version labels, and the versions last found in the base paths.

It sets the manager's wanted versions, and waits for models to become available.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.errors import Code, ServingError
from serving.lifecycle import model_config
from serving.lifecycle.manager import Manager
from serving.lifecycle.model_config import ModelSettings
from serving.lifecycle.threads import ThrottledLog
from serving.settings import messages as config_messages
from serving.specs import ServableId, State, VersionStatus

if TYPE_CHECKING:
    from serving.lifecycle.settings import RepositorySettings

log = logging.getLogger("serving")


class _ModelOutcome(NamedTuple):
    """The end of waiting for a model: which version, as text, and its status."""

    which: str
    status: VersionStatus


class Catalog:
    """The configured models and their base paths. Thread-safe.

    Args:
      settings: of the repository.
      manager: gets the wanted versions.

    Attributes:
      on_change: called when the configuration has changed, so that base paths are polled.
    """

    def __init__(self, settings: RepositorySettings, manager: Manager) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._settings = settings
        self._manager = manager
        # One change at a time. Readers take whole mappings, which are replaced and never changed.
        self._changing = threading.Lock()
        self._models: Mapping[str, ModelSettings] | None = None
        self._in_force: ModelServerConfig | None = None
        # One poll at a time.
        self._polling = threading.Lock()
        self._problems: dict[str, tuple[ModelSettings, str]] = {}
        self._notices = ThrottledLog()
        self._file_notices = ThrottledLog()

    @property
    def models(self) -> Mapping[str, ModelSettings]:
        """Settings of the configured models by name."""
        return self._models or {}

    def labels(self, name: str) -> Mapping[str, int]:
        """Versions by label."""
        model = self.models.get(name)
        return model.labels if model is not None else {}

    def apply(self, config: ModelServerConfig) -> list[str]:
        """Applies a configuration, completely or not at all, without waiting for loads.

        Returns:
          Names of the models that were not configured before.

        Raises:
          ServingError: the configuration is invalid.
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
        # Threads that wait for a model that was removed need not wait any longer.
        self._manager.wake()
        return [name for name in models if name not in old]

    def poll(self) -> None:
        """Polls every base path and sets the manager's wanted versions; a bad path affects no other."""
        with self._polling:
            models = self.models
            for model in models.values():
                self._poll_model(model)
            for name in self._problems.keys() - models.keys():
                del self._problems[name]
                self._notices.report(name, logging.WARNING, "")

    def read_file(self) -> None:
        """Reads the configuration file again; an invalid one changes nothing and is logged."""
        path = self._settings.model_config_file
        try:
            config = config_messages.read_text_file(path, ModelServerConfig())
            if config != self._in_force:
                self.apply(config)
        except ServingError as error:
            text = f"The configuration stays as it was, since {path} cannot be applied: {error.message}"
            self._file_notices.report(path, logging.ERROR, text)
        else:
            self._file_notices.report(path, logging.ERROR, "")

    def wait_for(self, names: Callable[[], Iterable[str]], noun: str) -> None:
        """Waits until each model has a version that is available or has failed.

        Args:
          names: returns the models' names; called again after every change.
          noun: for the models in the error's text.

        Raises:
          ServingError: UNKNOWN with the reason of each model that failed; CANCELLED when the server stops.
        """
        outcomes: list[_ModelOutcome | None] = []

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

    def _outcome(self, name: str) -> _ModelOutcome | None:
        """How waiting for a model ends; None while a version may still become available."""
        status = self._manager.outcome(name)
        if status is not None:
            return _ModelOutcome(str(ServableId(name, status.version)), status)
        model, failure = self.models.get(name), None
        if model is None:
            failure = VersionStatus(0, State.END, Code.ABORTED, "a later configuration leaves it out")
        elif self._settings.file_system_poll_wait_seconds == 0:
            # The base path is not polled again.
            polled, problem = self._problems.get(name, (None, ""))
            if polled == model and problem:
                failure = VersionStatus(0, State.END, Code.NOT_FOUND, problem)
        return None if failure is None else _ModelOutcome(f"{{name: {name}}}", failure)

    def _poll_model(self, model: ModelSettings) -> None:
        wanted, level = None, logging.WARNING
        try:
            wanted, problem = model_config.poll_base_path(model)
        except ServingError as error:
            problem, level = error.message, logging.ERROR
        with self._changing:
            if self.models.get(model.name) != model:
                return  # Another configuration was applied meanwhile; its poll follows.
            if wanted is not None:
                self._manager.set_wanted(model.name, wanted)
            self._problems[model.name] = (model, "" if wanted else problem)
        self._notices.report(model.name, level, problem)
        if problem:
            self._manager.wake()

    def _check_labels(self, models: Mapping[str, ModelSettings]) -> None:
        """Raises unless each label names an available version; with the flag a new label may name any."""
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

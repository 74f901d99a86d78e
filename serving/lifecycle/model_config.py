"""ModelServerConfig, checked: the models to serve, their base paths and version policies; polling base paths.

The message is tensorflow_serving/config/model_server_config.proto; its rules and the error texts are those of
tensorflow_serving/model_servers/server_core.cc.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tensorflow_serving.config import model_server_config_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.errors import Code, ServingError, invalid
from serving.settings import file_system
from serving.specs import version_number

TENSORFLOW_PLATFORM = "tensorflow"
# What ModelServerConfig.WhichOneof("config") says of a list of models.
MODEL_LIST = "model_config_list"


@dataclass(frozen=True)
class VersionPolicy:
    """The policy that chooses which versions in the base path to serve.

    Attributes:
      kind: `latest`, `all` or `specific`.
      num_versions: number of highest versions, for `latest`.
      versions: version numbers, for `specific`.
    """

    kind: str = "latest"
    num_versions: int = 1
    versions: frozenset[int] = frozenset()

    def choose(self, versions: Iterable[int]) -> list[int]:
        """The versions to serve among `versions`, highest first."""
        found = sorted(versions, reverse=True)
        if self.kind == "all":
            return found
        if self.kind == "specific":
            return [version for version in found if version in self.versions]
        return found[: self.num_versions]


@dataclass(frozen=True)
class ModelSettings:
    """One model of a checked configuration.

    Attributes:
      name: its name in requests.
      base_path: folder of its version folders: an absolute path or a URI.
      platform: always `tensorflow`.
      policy: which versions to serve.
      labels: versions by label; immutable.
    """

    name: str
    base_path: str
    platform: str = TENSORFLOW_PLATFORM
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=lambda: types.MappingProxyType({}))


def single_model(name: str, base_path: str) -> ModelServerConfig:
    """The configuration for --model_name and --model_base_path."""
    config = ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform=TENSORFLOW_PLATFORM)
    return config


def checked(
    config: ModelServerConfig, current: Mapping[str, ModelSettings] | None = None
) -> dict[str, ModelSettings] | None:
    """Checks a configuration that replaces the current one.

    Args:
      config: the message.
      current: the models of the configuration in force; None before the first configuration.

    Returns:
      Settings by model name, in the configuration's order; None when it is empty and there was none before.

    Raises:
      ServingError: FAILED_PRECONDITION when a list of models would turn into something else, UNIMPLEMENTED
        for a custom configuration, INVALID_ARGUMENT for every other violation.
    """
    kind = config.WhichOneof("config")
    if current is not None and kind != MODEL_LIST:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            "Cannot transition to requested config. It is only legal to transition from one ModelConfigList "
            "to another.",
        )
    if kind is None:
        return None
    if kind != MODEL_LIST:
        raise ServingError(Code.UNIMPLEMENTED, "ModelServer does not yet support custom model config.")
    models = list(config.model_config_list.config)
    _check_names(models)
    for model in models:
        if not file_system.is_absolute(model.base_path):
            raise invalid(
                f"Expected model {model.name} to have an absolute path or URI; got base_path()="
                f"{model.base_path}"
            )
    platforms = {model.name: _platform(model) for model in models}
    _check_platforms(platforms, current or {})
    if any(model.HasField("logging_config") for model in models):
        raise invalid("No request-logger-creator provided.")
    return {model.name: _settings(model, platforms[model.name]) for model in models}


def _check_names(models: Iterable[ModelConfig]) -> None:
    seen: set[str] = set()
    for model in models:
        if model.name in seen:
            raise invalid(f"Illegal to list model {model.name} multiple times in config list")
        seen.add(model.name)


def _platform(model: ModelConfig) -> str:
    """The model's platform, from either of its two fields."""
    if model.model_type == model_server_config_pb2.MODEL_TYPE_UNSPECIFIED:
        if not model.model_platform:
            raise invalid(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                "ModelServerConfig::model_platform."
            )
        return str(model.model_platform)
    if model.model_platform:
        raise invalid(
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform."
        )
    if model.model_type != model_server_config_pb2.TENSORFLOW:
        raise invalid(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
    return TENSORFLOW_PLATFORM


def _check_platforms(platforms: Mapping[str, str], current: Mapping[str, ModelSettings]) -> None:
    for name, platform in platforms.items():
        if name in current and platform != current[name].platform:
            raise invalid(
                f"Illegal to change a model's platform. For model {name} platform was "
                f"{current[name].platform} and new platform requested is {platform}"
            )
    for name, platform in platforms.items():
        if platform != TENSORFLOW_PLATFORM:
            raise invalid(f"Model {name} requests unsupported platform {platform}")


def _settings(model: ModelConfig, platform: str) -> ModelSettings:
    return ModelSettings(
        name=model.name,
        base_path=model.base_path,
        platform=platform,
        policy=_policy(model.model_version_policy),
        labels=types.MappingProxyType(dict(model.version_labels)),
    )


def _policy(message: Any) -> VersionPolicy:
    """Reads a FileSystemStoragePathSourceConfig.ServableVersionPolicy."""
    kind = message.WhichOneof("policy_choice") or "latest"
    if kind == "specific":
        return VersionPolicy(kind, versions=frozenset(message.specific.versions))
    if kind == "latest":
        return VersionPolicy(kind, num_versions=max(message.latest.num_versions, 1))
    return VersionPolicy(kind)


class PollResult(NamedTuple):
    """The versions found in a base path.

    Attributes:
      wanted: the path of each version that the policy chooses; empty unloads the model.
      warning: for the log, in TF Serving's words; empty when all is well.
    """

    wanted: dict[int, str]
    warning: str


def poll_base_path(model: ModelSettings) -> PollResult:
    """Lists a model's base path and applies its version policy.

    Raises:
      ServingError: NOT_FOUND when the base path is missing or cannot be read; the versions should then stay
        as they are.
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
    warnings = []
    for name in sorted(names):
        version = version_number(name)
        if version is None:
            continue
        if version in found:
            warnings.append(
                f"Duplicate version directories detected. Version {version} will be loaded from {name}, "
                f"{found[version]} will be ignored."
            )
        found[version] = name
    missing = sorted(model.policy.versions - set(found))
    if missing:
        warnings.append(
            f"Version(s) {', '.join(map(str, missing))} of servable {model.name}, requested to be served as "
            f"'specific', were not found under base path {model.base_path}"
        )
    elif not found:
        warnings.append(
            f"No versions of servable {model.name} found under base path {model.base_path}. Did you forget "
            "to name your leaf directory as a number (eg. '/1/')?"
        )
    wanted = {
        number: file_system.join(model.base_path, found[number]) for number in model.policy.choose(found)
    }
    return PollResult(wanted, " ".join(warnings))

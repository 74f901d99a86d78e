"""ModelServerConfig: what is accepted, what is refused and in which words."""

from __future__ import annotations

import dataclasses

import pytest
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.errors import Code, ServingError
from serving.lifecycle import model_config
from serving.lifecycle.model_config import ModelSettings, VersionPolicy, checked, single_model
from serving.settings.messages import parse_text

CANNOT_TRANSITION = (
    "Cannot transition to requested config. It is only legal to transition from one ModelConfigList to "
    "another."
)


def models(*texts):
    """A configuration of models, each in text format."""
    config = "model_config_list {" + "".join(f"config {{ {text} }}" for text in texts) + "}"
    return parse_text(config, ModelServerConfig())


def model(name="m", path="/models/m", more=""):
    return f"name: '{name}' base_path: '{path}' model_platform: 'tensorflow' {more}"


def refused(config, current=None):
    with pytest.raises(ServingError) as caught:
        checked(config, current)
    return caught.value.code, caught.value.message


def policy(text):
    return checked(models(model(more=f"model_version_policy {{ {text} }}")))["m"].policy


def test_a_model():
    config = models(
        model(more='version_labels { key: "stable" value: 3 } version_labels { key: "canary" value: 4 }')
    )
    assert checked(config) == {
        "m": ModelSettings(
            "m", "/models/m", "tensorflow", VersionPolicy("latest", 1), {"stable": 3, "canary": 4}
        )
    }


def test_settings_cannot_be_changed():
    settings = checked(models(model(more='version_labels { key: "stable" value: 3 }')))["m"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.base_path = "/other"
    with pytest.raises(TypeError):
        settings.labels["stable"] = 4


def test_the_single_model_form():
    assert checked(single_model("alexnet", "/models/alexnet")) == {
        "alexnet": ModelSettings("alexnet", "/models/alexnet")
    }


def test_the_order_is_the_configurations():
    assert list(checked(models(model("b"), model("a"), model("c")))) == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("", [12]),
        ("latest {}", [12]),
        ("latest { num_versions: 0 }", [12]),
        ("latest { num_versions: 2 }", [12, 7]),
        ("latest { num_versions: 9 }", [12, 7, 3, -1]),
        ("all {}", [12, 7, 3, -1]),
        ("specific { versions: 3 versions: 12 versions: 99 }", [12, 3]),
        ("specific { versions: [7] }", [7]),
        ("specific {}", []),
    ],
)
def test_policies(text, chosen):
    assert policy(text).choose([3, 12, -1, 7]) == chosen


@pytest.mark.parametrize("path", ["/models/m", "gs://bucket/m", "s3://bucket/m", "file:///m", "/"])
def test_paths_that_are_absolute(path):
    assert checked(models(model(path=path)))["m"].base_path == path


@pytest.mark.parametrize("path", ["", "m", "models/m", "./m", "C:\\\\models", "://x"])
def test_paths_that_are_not(path):
    shown = path.replace("\\\\", "\\")
    assert refused(models(model(path=path))) == (
        Code.INVALID_ARGUMENT,
        f"Expected model m to have an absolute path or URI; got base_path()={shown}",
    )


def test_a_name_twice():
    assert refused(models(model("a"), model("b"), model("a"))) == (
        Code.INVALID_ARGUMENT,
        "Illegal to list model a multiple times in config list",
    )


@pytest.mark.parametrize(
    ("platform", "message"),
    [
        (
            "",
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform.",
        ),
        (
            "model_platform: 'tensorflow' model_type: TENSORFLOW",
            "Illegal setting both ModelServerConfig::model_type (deprecated) and "
            "ModelServerConfig::model_platform.",
        ),
        ("model_type: OTHER", "ModelServerConfig::model_type choice 2 not supported."),
        ("model_platform: 'caffe'", "Model m requests unsupported platform caffe"),
    ],
)
def test_platforms_that_are_refused(platform, message):
    config = models(f"name: 'm' base_path: '/m' {platform}")
    assert refused(config) == (Code.INVALID_ARGUMENT, message)


def test_the_deprecated_type():
    assert checked(models("name: 'm' base_path: '/m' model_type: TENSORFLOW"))["m"].platform == "tensorflow"


def test_a_platform_may_not_change():
    current = {"m": ModelSettings("m", "/m", platform="other")}
    assert refused(models(model()), current) == (
        Code.INVALID_ARGUMENT,
        "Illegal to change a model's platform. For model m platform was other and new platform requested is "
        "tensorflow",
    )


def test_logging_is_refused():
    config = models(model(more="logging_config { sampling_config { sampling_rate: 0.1 } }"))
    assert refused(config) == (Code.INVALID_ARGUMENT, "No request-logger-creator provided.")


def test_nothing_at_first():
    assert checked(ModelServerConfig()) is None
    assert checked(models()) == {}


@pytest.mark.parametrize("text", ["", "custom_model_config {}"])
def test_a_list_stays_a_list(text):
    config = parse_text(text, ModelServerConfig())
    assert refused(config, {}) == (Code.FAILED_PRECONDITION, CANNOT_TRANSITION)


def test_custom_configuration_at_first():
    config = parse_text("custom_model_config {}", ModelServerConfig())
    assert refused(config) == (
        Code.UNIMPLEMENTED,
        "ModelServer does not yet support custom model config.",
    )


def test_a_list_may_become_empty():
    assert checked(models(), {"m": ModelSettings("m", "/m")}) == {}
    assert models().WhichOneof("config") == model_config.MODEL_LIST

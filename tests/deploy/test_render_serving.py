"""render_serving.py: what it changes, and what it refuses."""

from __future__ import annotations

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tests.support.deployment import DEPLOY, container_of, documents, pod_of, render_serving
from tests.support.kubernetes_fields import departures


def model_in(found):
    text = found["ConfigMap"]["data"]["models.config"]
    (model,) = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    return model


def test_nothing_asked_for_changes_nothing():
    for own, name in ((False, "serving.yaml"), (True, "serving-own.yaml")):
        text = (DEPLOY / "kubernetes" / name).read_text(encoding="utf-8")
        assert render_serving.render(own) == text


@pytest.mark.parametrize("own", [False, True])
def test_what_is_asked_for_is_changed(own):
    found = documents(render_serving.render(own, "mine", "birds", "registry/x:1", [3, 5]))
    assert [fault for one in found.values() for fault in departures(one)] == []
    assert {one["metadata"]["name"] for one in found.values()} == {"mine"}
    assert container_of(found)["image"] == "registry/x:1"
    assert (model_in(found).name, model_in(found).base_path) == ("birds", "/models/birds")
    if not own:
        path = container_of(found)["readinessProbe"]["httpGet"]["path"]
        assert path == "/v1/models/birds/metadata"
        assert container_of(found)["livenessProbe"]["httpGet"]["path"] == "/v1/models/birds"
    scale = found["HorizontalPodAutoscaler"]["spec"]
    assert (scale["minReplicas"], scale["maxReplicas"]) == (3, 5)


@pytest.mark.parametrize("own", [False, True])
def test_an_object_store_instead_of_a_volume(own):
    found = documents(render_serving.render(own, store="gs://bucket/alexnet", account="reader"))
    assert [fault for one in found.values() for fault in departures(one)] == []
    assert model_in(found).base_path == "gs://bucket/alexnet"
    pod = pod_of(found)
    assert (pod["serviceAccountName"], pod["automountServiceAccountToken"]) == ("reader", True)
    names = {volume["name"] for volume in pod["volumes"]}
    assert "models" not in names
    assert {mount["name"] for mount in container_of(found)["volumeMounts"]} == names


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--name", "Mine"], "--name must be small letters"),
        (["--name", "n" * 64], "63 characters at most"),
        (["--model", "a b"], "--model must be letters"),
        (["--pods", "5", "3"], "--pods must be 1 or more"),
        (["--pods", "0", "3"], "--pods must be 1 or more"),
        (["--store", "/models"], "--store must be a URI"),
        (["--account", "a"], "--account is for --store"),
    ],
)
def test_what_kubernetes_would_refuse(capsys, words, said):
    with pytest.raises(SystemExit):
        render_serving.main(words)
    assert said in capsys.readouterr().err


def test_the_command_line(capsys):
    assert render_serving.main(["--own", "--name", "mine"]) == 0
    found = list(yaml.safe_load_all(capsys.readouterr().out))
    assert {one["metadata"]["name"] for one in found} == {"mine"}

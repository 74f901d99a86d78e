"""The files that serve an export elsewhere: coherent with each other, the protocol and a server."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving import client
from serving.batching import parameters as batching_parameters
from serving.settings import flags as flag_module
from serving.settings import messages as config_messages
from tests.support.deployment import DEPLOY, container_of, documents, pod_of
from tests.support.kubernetes_fields import departures
from tests.support.picture_model import brightness, running

CONFIGS = DEPLOY / "tf-serving"
FILES = {
    "kubernetes": ("serving.yaml", "serving-own.yaml", "export.yaml"),
    "kserve": ("tensorflow.yaml", "own.yaml"),
}
SERVERS = ("serving.yaml", "serving-own.yaml")
# Flags of tensorflow_model_server 2.20 that its own server here reads without effect.
THEIRS = set(flag_module.WITHOUT_EFFECT)


def shipped(name):
    return documents((DEPLOY / "kubernetes" / name).read_text(encoding="utf-8"))


def compose():
    return yaml.safe_load((CONFIGS / "compose.yaml").read_text(encoding="utf-8"))["services"]["tf-serving"]


def parsed(name, text):
    """A configuration file as the server reads it; an unknown field or bad syntax is an error."""
    message = {
        "models.config": model_server_config_pb2.ModelServerConfig,
        "batching.config": config_messages.BatchingParameters,
        "monitoring.config": config_messages.MonitoringConfig,
    }[name]
    return text_format.Parse(text, message())


def flags_of(words):
    """The server's flags; a word that it does not know, or a bad value, fails."""
    flags, notices = flag_module.parse(words)
    assert notices == []
    assert {word.partition("=")[0].removeprefix("--") for word in words} & THEIRS == set()
    return flags


@pytest.mark.parametrize("path", [f"{folder}/{name}" for folder, names in FILES.items() for name in names])
def test_every_field_is_one_of_the_api(path):
    found = list(yaml.safe_load_all((DEPLOY / path).read_text(encoding="utf-8")))
    assert [fault for one in found for fault in departures(one)] == []
    for one in found:
        assert len(one["metadata"].keys() & {"name", "generateName"}) == 1


@pytest.mark.parametrize("name", ["models.config", "batching.config", "monitoring.config"])
def test_the_configuration_is_the_same_everywhere(name):
    alone = parsed(name, (CONFIGS / name).read_text(encoding="utf-8"))
    for file in SERVERS:
        assert parsed(name, shipped(file)["ConfigMap"]["data"][name]) == alone
    assert alone.ByteSize() > 0


def test_what_the_configuration_says():
    (model,) = parsed(
        "models.config", (CONFIGS / "models.config").read_text("utf-8")
    ).model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("alexnet", "/models/alexnet", "tensorflow")
    batching = batching_parameters.read_file(str(CONFIGS / "batching.config"))
    assert (batching.max_batch_size, batching.batch_timeout_micros) == (16, 10_000)
    monitoring = parsed("monitoring.config", (CONFIGS / "monitoring.config").read_text("utf-8"))
    assert monitoring.prometheus_config.enable
    for file in SERVERS:
        notes = shipped(file)["Deployment"]["spec"]["template"]["metadata"]["annotations"]
        assert notes["prometheus.io/path"] == monitoring.prometheus_config.path


def test_the_commented_variants_parse():
    text = (CONFIGS / "models.config").read_text(encoding="utf-8")
    text = re.sub(r"\n *model_version_policy.*", "", text)
    text = re.sub(r"\n *# (model_version_policy|version_labels)", r"\n \1", text)
    (model,) = parsed("models.config", text).model_config_list.config
    assert list(model.model_version_policy.specific.versions) == [1, 2]
    assert model.version_labels == {"stable": 1, "canary": 2}


def test_images_are_pinned():
    version = re.fullmatch(r"tensorflow/serving:(\d+\.\d+\.\d+)", compose()["image"])[1]
    assert container_of(shipped("serving.yaml"))["image"] == f"tensorflow/serving:{version}"
    kserve = yaml.safe_load((DEPLOY / "kserve" / "tensorflow.yaml").read_text(encoding="utf-8"))
    assert kserve["spec"]["predictor"]["model"]["runtimeVersion"] == version
    assert f"`tensorflow/serving:{version}`" in (DEPLOY / "README.md").read_text(encoding="utf-8")
    for path in (*DEPLOY.glob("kubernetes/*.yaml"), *DEPLOY.glob("kserve/*.yaml")):
        for line in path.read_text(encoding="utf-8").splitlines():
            image = re.search(r"^\s+image: (\S+)(.*)", line)
            assert not image or image[1] == f"tensorflow/serving:{version}" or "# EDIT" in image[2], path


def test_compose():
    service = compose()
    flags = flags_of(service["command"])
    assert [f"127.0.0.1:{port}:{port}" for port in (flags.port, flags.rest_api_port)] == service["ports"]
    mounts = {mount["target"]: mount for mount in service["volumes"]}
    assert set(mounts) == {"/models/alexnet", "/config"}
    assert all(mount["read_only"] for mount in mounts.values())
    assert mounts["/models/alexnet"]["source"].startswith("${EXPORT:?")
    for path in (flags.model_config_file, flags.batching_parameters_file, flags.monitoring_config_file):
        assert (CONFIGS / Path(path).relative_to("/config")).is_file()
    assert flags.enable_batching


@pytest.mark.parametrize("name", SERVERS)
def test_names_and_ports_that_refer_to_each_other(name):
    found = shipped(name)
    own = found["Deployment"]["metadata"]["name"]
    labels = {"app.kubernetes.io/name": own}
    assert {one["metadata"]["name"] for one in found.values()} == {own}
    assert found["Deployment"]["spec"]["template"]["metadata"]["labels"] == labels
    assert found["Service"]["spec"]["selector"] == labels
    for kind, key in (
        ("NetworkPolicy", "podSelector"),
        ("PodDisruptionBudget", "selector"),
        ("Deployment", "selector"),
    ):
        assert found[kind]["spec"][key]["matchLabels"] == labels
    scaled = found["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", own)
    assert "replicas" not in found["Deployment"]["spec"]
    container = container_of(found)
    flags = flags_of(container["args"])
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"grpc": flags.port, "rest": flags.rest_api_port}
    assert {port["targetPort"]: port["port"] for port in found["Service"]["spec"]["ports"]} == ports
    assert {port["port"] for port in found["NetworkPolicy"]["spec"]["ingress"][0]["ports"]} == set(ports)
    volumes = {volume["name"]: volume for volume in pod_of(found)["volumes"]}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert set(mounts.values()) == set(volumes)
    assert volumes[mounts["/config"]]["configMap"]["name"] == own
    assert Path(flags.model_config_file).name in found["ConfigMap"]["data"]
    claim = volumes[mounts["/models"]]["persistentVolumeClaim"]["claimName"]
    storage = yaml.safe_load_all((DEPLOY / "kubernetes" / "storage.yaml").read_text(encoding="utf-8"))
    assert claim in {one["metadata"]["name"] for one in storage}
    if flags.api_token_file:
        assert mounts[str(Path(flags.api_token_file).parent)] == "secret"


@pytest.mark.parametrize("name", SERVERS)
def test_no_request_is_lost_while_pods_change(name):
    found = shipped(name)
    assert found["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert found["HorizontalPodAutoscaler"]["spec"]["minReplicas"] >= 2
    container = container_of(found)
    waits = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    ready = container["readinessProbe"]
    assert waits >= 5
    # SIGKILL must not come before the server has finished what it began.
    drains = flags_of(container["args"]).drain_timeout_seconds if "own" in name else 0
    assert pod_of(found)["terminationGracePeriodSeconds"] >= waits + drains + 5
    assert ready["periodSeconds"] * ready["failureThreshold"] <= 10


def get(port, path):
    """HTTP status as a probe sees it; 0 when nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def health(command, port):
    """Exit status of compose's health check, asking another port."""
    words = [word.replace("8501", str(port)) for word in command[1:]]
    assert str(port) in words[-1]
    return subprocess.run(words, capture_output=True, timeout=20).returncode


def probe_paths(name):
    container = container_of(shipped(name))
    return {
        kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")
    }


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_probes_follow_the_models_state(tmp_path):
    """Ready while a version is available, live all the time: an unloaded model needs no new start."""
    command = compose()["healthcheck"]["test"]
    folder = brightness(tmp_path / "alexnet")
    config = tmp_path / "models.config"
    shutil.copy(CONFIGS / "models.config", config)
    text = config.read_text(encoding="utf-8").replace("/models/alexnet", str(tmp_path / "alexnet"))
    config.write_text(text, encoding="utf-8")
    with running(model_config_file=str(config), file_system_poll_wait_seconds=1) as server:
        port = server.rest_port
        with contextlib.closing(client.connect(f"127.0.0.1:{port}", model="alexnet")) as asked:
            assert health(command, port) == 0
            for name in SERVERS:
                assert {get(port, path) for path in probe_paths(name).values()} == {200}
            folder.rename(tmp_path / "alexnet" / "1.off")
            while any(one.state.name != "END" for one in asked.status()):
                pass
            assert health(command, port) != 0
            for name in SERVERS:
                paths = probe_paths(name)
                assert get(port, paths["readiness"]) in (404, 503)
                assert get(port, paths["liveness"]) == 200
    assert health(command, port) != 0


def test_kserve_finds_what_it_looks_for():
    own = yaml.safe_load((DEPLOY / "kserve" / "own.yaml").read_text(encoding="utf-8"))
    (container,) = own["spec"]["predictor"]["containers"]
    flags = flags_of(container["args"])
    assert container["name"] == "kserve-container"
    assert [port["containerPort"] for port in container["ports"]] == [flags.rest_api_port]
    assert flags.model_name == own["metadata"]["name"]
    for kind in ("readinessProbe", "livenessProbe"):
        assert container[kind]["httpGet"]["port"] == flags.rest_api_port
    theirs = yaml.safe_load((DEPLOY / "kserve" / "tensorflow.yaml").read_text(encoding="utf-8"))
    uri = theirs["spec"]["predictor"]["model"]["storageUri"]
    assert {entry["name"]: entry["value"] for entry in container["env"]}["STORAGE_URI"] == uri


def test_the_image_of_our_server():
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    stage = text.partition("FROM installed AS serving")[2].partition("FROM ")[0]
    entry, command = (
        yaml.safe_load(re.search(rf"\n{word} (\[.*\])", stage)[1]) for word in ("ENTRYPOINT", "CMD")
    )
    assert entry[:3] == ["python", "-m", "serving.server"]
    flags = flags_of([*entry[3:], *command])
    assert re.search(r"EXPOSE (.*)", stage)[1].split() == [str(flags.port), str(flags.rest_api_port)]
    assert f"http://127.0.0.1:{flags.rest_api_port}/readyz" in stage
    assert text.rstrip().rpartition("FROM ")[2].startswith("installed AS training")


def test_the_readme_shows_what_there_is():
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    for line in re.findall(r"python -m serving\.client (.*?)`", text):
        assert client.make_parser().parse_args(shlex.split(line)).status
    for line in re.findall(r"python -m serving\.server (.*?)`", text):
        flags_of(shlex.split(line))

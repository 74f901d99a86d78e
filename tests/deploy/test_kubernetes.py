"""The files that start a training elsewhere: read as Kubernetes and SLURM read them."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import yaml

from alexnet_tf import recipe, train
from alexnet_tf.distribute import cluster
from alexnet_tf.distribute.losses import EXIT_PEER_LOST
from pipelines import data_service
from pipelines.command import EXIT_INTERRUPTED, EXIT_USER_ERROR
from tests.support.kubernetes_fields import SPECS, departures

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
FILES = ("train.yaml", "storage.yaml", "data-service.yaml")
INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def load_render():
    spec = importlib.util.spec_from_file_location("render", KUBERNETES / "render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


render = load_render()


def documents(text):
    return {found["kind"]: found for found in yaml.safe_load_all(text)}


def shipped(name):
    return documents((KUBERNETES / name).read_text(encoding="utf-8"))


def rendered(*args, **others):
    return documents(render.render(*args, **others))


def pod_template(found):
    (owner,) = (kind for kind in found if kind in ("Job", "StatefulSet"))
    return found[owner]["spec"]["template"]


def expand(text, variables):
    """`$(NAME)` as the kubelet replaces it: known names only; `$$` stands for one `$`."""
    return re.sub(
        r"\$\$|\$\(([A-Za-z_][A-Za-z0-9_]*)\)",
        lambda m: "$" if m[0] == "$$" else variables.get(m[1], m[0]),
        text,
    )


def container_of(found, **fields):
    """A container's variables and its command line, in a pod whose fields have the given values."""
    (container,) = pod_template(found)["spec"]["containers"]
    variables = {}
    for entry in container["env"]:
        if "valueFrom" in entry:
            variables[entry["name"]] = fields[entry["valueFrom"]["fieldRef"]["fieldPath"]]
        else:
            variables[entry["name"]] = expand(entry["value"], variables)  # only what stands above is known
    words = [expand(word, variables) for word in [*container["command"], *container["args"]]]
    return variables, words


@pytest.mark.parametrize("name", FILES)
def test_every_field_is_one_of_the_api(name):
    found = list(yaml.safe_load_all((KUBERNETES / name).read_text(encoding="utf-8")))
    kinds = [(one["apiVersion"], one["kind"]) for one in found]
    assert set(kinds) <= set(SPECS)
    assert [fault for one in found for fault in departures(one)] == []


def test_a_wrong_field_is_found():
    job = shipped("train.yaml")["Job"]
    job["spec"]["template"]["spec"]["containers"][0]["volumeMount"] = []
    job["spec"]["completions"] = "4"
    del job["spec"]["template"]["spec"]["containers"][0]["image"]
    job["spec"]["template"]["spec"]["containers"][0]["env"][1]["value"] = 5
    assert [fault.partition(": ")[0] for fault in departures(job)] == [
        ".spec.completions",
        ".spec.template.spec.containers[0].volumeMount",
        ".spec.template.spec.containers[0].image",
        ".spec.template.spec.containers[0].env[1].value",
    ]


@pytest.mark.parametrize("name", ["train.yaml", "data-service.yaml"])
def test_names_that_refer_to_each_other(name):
    found = shipped(name)
    template, service = pod_template(found), found["Service"]
    labels, pod = template["metadata"]["labels"], template["spec"]
    (container,) = pod["containers"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["publishNotReadyAddresses"] is True
    open_ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for port in service["spec"]["ports"]:
        assert open_ports[port["targetPort"]] == port["port"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    claims = {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "emptyDir" not in v}
    names = set()
    for one in yaml.safe_load_all((KUBERNETES / "storage.yaml").read_text(encoding="utf-8")):
        names.add(one["metadata"]["name"])
        assert one["spec"]["accessModes"] == ["ReadWriteMany"]
    assert claims <= names
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert f"--uid {pod['securityContext']['runAsUser']} " in (ROOT / "deploy/Dockerfile").read_text("utf-8")


@pytest.mark.parametrize("workers", [1, 2, 4, 17])
def test_every_pod_finds_its_cluster(workers):
    found = rendered(workers, "mine")
    job, service = found["Job"], found["Service"]
    name, spec = job["metadata"]["name"], job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", workers, workers)
    assert spec["template"]["spec"]["subdomain"] == service["metadata"]["name"] == "mine"
    (port,) = service["spec"]["ports"]
    # An indexed job names its pods' hosts <job>-<index>; a headless service adds its own name.
    domain = f"{service['metadata']['name']}:{port['port']}"
    addresses = tuple(f"{name}-{index}.{domain}" for index in range(workers))
    for index in range(workers):
        variables, _ = container_of(found, **{INDEX: str(index)})
        assert cluster.from_environment(variables) == cluster.Cluster(addresses, index)


def test_an_index_that_is_not_expanded_is_refused():
    variables, _ = container_of(rendered(2), **{INDEX: "$(WORKER)"})
    with pytest.raises(cluster.UserError, match="TF_CONFIG"):
        cluster.from_environment(variables)


def test_the_command_is_one_that_trains():
    found = shipped("train.yaml")
    _, words = container_of(found, **{INDEX: "0"})
    assert words[:3] == ["python", "-m", "alexnet_tf.train"]
    args = train.make_parser().parse_args(words[3:])
    assert args.devices == "multi-worker"
    assert args.peer_timeout > 6 * 60  # the longest delay before a failed pod is replaced
    assert recipe.get(args.recipe).batch_size % found["Job"]["spec"]["completions"] == 0
    (container,) = pod_template(found)["spec"]["containers"]
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    assert mounts["/" + args.data.partition(":")[2].split("/")[1]] is True
    assert mounts["/" + args.workdir.split("/")[1]] is False


def test_statuses_lead_where_they_should():
    """The first rule that fits decides; no rule means that the failure counts."""
    spec = shipped("train.yaml")["Job"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]

    def action(status, condition=None):
        for rule in spec["podFailurePolicy"]["rules"]:
            assert len(rule.keys() & {"onExitCodes", "onPodConditions"}) == 1
            codes = rule.get("onExitCodes", {"values": [], "containerName": container["name"]})
            assert codes["containerName"] == container["name"]
            if status in codes["values"] or condition in [c["type"] for c in rule.get("onPodConditions", [])]:
                return rule["action"]
        return "Count"

    assert spec["template"]["spec"]["restartPolicy"] == "Never"  # which a failure policy asks for
    assert action(EXIT_USER_ERROR) == "FailJob"
    assert action(EXIT_PEER_LOST) == action(EXIT_INTERRUPTED) == "Ignore"
    assert action(137) == action(1) == "Count"
    assert action(137, "DisruptionTarget") == action(EXIT_USER_ERROR, "DisruptionTarget") == "Ignore"


def test_the_renderer_changes_what_it_is_asked_for():
    assert render.render() == (KUBERNETES / "train.yaml").read_text(encoding="utf-8")
    odd = ["--recipe=smoke", '--set=name="a: b"', "--workdir=/runs/#1"]
    found = rendered(2, "mine", "registry/x:1", odd)
    assert [fault for one in found.values() for fault in departures(one)] == []
    (container,) = pod_template(found)["spec"]["containers"]
    assert container["image"] == "registry/x:1"
    assert container["args"] == ["--devices=multi-worker", "--peer-timeout=900", *odd]
    assert pod_template(found)["metadata"]["labels"] == {"app.kubernetes.io/name": "mine"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "0"], "--workers must be 1 or more; received 0"),
        (["--name", "Mine"], "--name must be small letters"),
        (["--name", "n" * 62], "63 characters at most"),
        (["--name", "n" * 60, "--workers", "101"], "63 characters at most"),
    ],
)
def test_the_renderer_refuses_what_kubernetes_would(capsys, words, said):
    with pytest.raises(SystemExit):
        render.main(words)
    assert said in capsys.readouterr().err


def test_the_renderers_command_line(capsys):
    assert render.main(["--workers", "2", "--name", "n" * 61, "--", "--recipe=smoke"]) == 0
    found = documents(capsys.readouterr().out)
    assert pod_template(found)["spec"]["containers"][0]["args"][2:] == ["--recipe=smoke"]


def test_the_data_service_answers_under_the_name_that_clients_use(capsys, monkeypatch):
    found = shipped("data-service.yaml")
    _, words = container_of(found, **{"metadata.name": "alexnet-data-1"})
    assert words[:3] == ["python", "-m", "pipelines.data_service"]
    asked = {}
    monkeypatch.setattr(data_service, "_serve", lambda arguments: asked.update(vars(arguments)) or {})
    assert data_service.main(words[3:]) == 0
    service = found["Service"]
    assert asked["host"] == f"alexnet-data-1.{service['metadata']['name']}"
    assert [asked["port"], asked["worker_port"]] == [port["port"] for port in service["spec"]["ports"]]
    assert found["StatefulSet"]["spec"]["serviceName"] == service["metadata"]["name"]
    allowed = found["NetworkPolicy"]["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert allowed == pod_template(shipped("train.yaml"))["metadata"]["labels"]


def test_the_image_is_built_from_what_is_there():
    lines = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert {"alexnet_tf", "pipelines", "serving", "pyproject.toml", "setup.cfg", "README.md"} <= set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    let_in = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {f"!{name}" for name in copied} == {line for line in let_in if line.startswith("!")}
    bases = [line.split()[1] for line in lines if line.startswith("FROM ")]
    assert set(bases[1:]) == {"installed"}
    version = re.fullmatch(r"python:3\.(\d+)-slim", bases[0])
    assert 10 <= int(version[1]) <= 13


def test_the_readme_shows_commands_that_exist():
    text = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"deploy/[\w./-]+\w", text)
    assert {"deploy/slurm/train.sbatch", "deploy/kubernetes/render.py", "deploy/Dockerfile"} <= set(shown)
    assert [path for path in shown if not (ROOT / path).exists()] == []
    for line in re.findall(r"(?:alexnet_tf\.launch .*-- |train\.sbatch )(--[^`\n]*)`", text):
        train.make_parser().parse_args(shlex.split(line))
    for status in (EXIT_USER_ERROR, EXIT_PEER_LOST, EXIT_INTERRUPTED):
        assert f"\n| {status} | " in text

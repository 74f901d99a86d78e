"""Which workers train together: TF_CONFIG and SLURM's variables, worked by hand."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_tf.distribute import cluster
from pipelines.errors import UserError


def tf_config(workers, index, *, kind="worker", **others):
    jobs = {"worker": workers, **others} if workers is not None else others
    return {"TF_CONFIG": json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})}


def slurm(procid, ntasks, nodes, tasks, **others):
    step = {"SLURM_STEP_NODELIST": nodes, "SLURM_STEP_TASKS_PER_NODE": tasks}
    return {"SLURM_PROCID": str(procid), "SLURM_STEP_NUM_TASKS": str(ntasks), **step, **others}


@pytest.mark.parametrize(
    ("environ", "workers", "index"),
    [
        (tf_config(["a:1"], 0), ["a:1"], 0),
        (tf_config(["a:1", "b:2", "c:3"], 2), ["a:1", "b:2", "c:3"], 2),
        (tf_config(["a:1", "b:2"], "1"), ["a:1", "b:2"], 1),
        (tf_config(["[::1]:2222", "[fe80::2]:2222"], 1), ["[::1]:2222", "[fe80::2]:2222"], 1),
        (tf_config(["127.0.0.1:1", "127.0.0.1:65535"], 0), ["127.0.0.1:1", "127.0.0.1:65535"], 0),
        (tf_config(["job-0.job.default.svc:80", "b_1:80"], 0), ["job-0.job.default.svc:80", "b_1:80"], 0),
        # A chief is worker 0, whoever asks.
        (tf_config(["b:1", "c:1"], 0, chief=["a:1"]), ["a:1", "b:1", "c:1"], 1),
        (tf_config(["b:1", "c:1"], 0, kind="chief", chief=["a:1"]), ["a:1", "b:1", "c:1"], 0),
        (tf_config(None, 0, kind="chief", chief=["a:1"]), ["a:1"], 0),
        # TF_CONFIG comes before SLURM.
        ({**tf_config(["a:1"], 0), **slurm(1, 2, "n[1-2]", "1(x2)")}, ["a:1"], 0),
        (slurm(0, 1, "node7", "1"), ["node7:8888"], 0),
        (slurm(2, 3, "node[1-2]", "2,1"), ["node1:8888", "node1:8889", "node2:8888"], 2),
        (slurm(1, 3, "a,b,c", "1(x3)", ALEXNET_TF_PORT="70"), ["a:70", "b:70", "c:70"], 1),
        (slurm(3, 4, "n[08-09]", "2(x2)"), ["n08:8888", "n08:8889", "n09:8888", "n09:8889"], 3),
        (slurm(1, 2, "n[1-2]", "1(x2)", SLURM_NODEID="1", SLURM_LOCALID="0"), ["n1:8888", "n2:8888"], 1),
        # A step's own figures come before its job's.
        (
            slurm(1, 2, "n1", "2", SLURM_NTASKS="9", SLURM_JOB_NODELIST="n[1-9]"),
            ["n1:8888", "n1:8889"],
            1,
        ),
        (
            {
                "SLURM_PROCID": "0",
                "SLURM_NTASKS": "2",
                "SLURM_JOB_NODELIST": "n[1-2]",
                "SLURM_TASKS_PER_NODE": "1(x2)",
                "TF_CONFIG": " ",
            },
            ["n1:8888", "n2:8888"],
            0,
        ),
    ],
)
def test_environments_worked_by_hand(environ, workers, index):
    found = cluster.from_environment(environ)
    assert found == cluster.Cluster(tuple(workers), index)
    assert found.count == len(workers)
    assert found.is_chief == (index == 0)
    assert found.address == workers[index]
    # What TensorFlow is told is the same cluster.
    assert cluster.from_environment({"TF_CONFIG": found.tf_config()}) == found


def test_an_argument_comes_before_the_port_variable():
    environ = slurm(0, 2, "a", "2", ALEXNET_TF_PORT="70")
    assert cluster.from_environment(environ, port=90).workers == ("a:90", "a:91")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "names no `cluster`"),
        ("{}", "names no `cluster`"),
        ('{"cluster": {}}', "names no `cluster`"),
        ('{"cluster": ["a:1"]}', "names no `cluster`"),
        ('{"cluster": {"worker": "a:1"}}', "gives `worker` no list of addresses"),
        ('{"cluster": {"worker": []}}', "gives `worker` no list of addresses"),
        ('{"cluster": {"worker": [1]}}', "gives `worker` no list of addresses"),
        ('{"cluster": {"worker": ["a:1"]}}', "names no `task`"),
        ('{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}}', "names a job `ps`"),
        ('{"cluster": {"worker": ["a:1"], "evaluator": ["b:1"]}}', "names a job `evaluator`"),
        (tf_config(["a:1"], 0, chief=["b:1", "c:1"])["TF_CONFIG"], "names 2 chiefs"),
        (tf_config(["a"], 0)["TF_CONFIG"], "the address 'a', which has no port"),
        (tf_config(["a:"], 0)["TF_CONFIG"], "has a port that is not 1 to 65535"),
        (tf_config(["a:0"], 0)["TF_CONFIG"], "has a port that is not 1 to 65535"),
        (tf_config(["a:65536"], 0)["TF_CONFIG"], "has a port that is not 1 to 65535"),
        (tf_config(["a:¹"], 0)["TF_CONFIG"], "has a port that is not 1 to 65535"),
        (tf_config([":1"], 0)["TF_CONFIG"], "is no host:port"),
        (tf_config(["::1:2222"], 0)["TF_CONFIG"], "is no host:port"),
        (tf_config(["grpc://a:1"], 0)["TF_CONFIG"], "is no host:port"),
        (tf_config(["a b:1"], 0)["TF_CONFIG"], "is no host:port"),
        (tf_config(["[a]:1"], 0)["TF_CONFIG"], "no IPv6 address between its brackets"),
        (tf_config(["a:1", "a:1"], 0)["TF_CONFIG"], "the address 'a:1' twice"),
        (tf_config(["a:1"], 0, chief=["a:01"])["TF_CONFIG"], "the address 'a:1' twice"),
        (tf_config(["a:1"], 1)["TF_CONFIG"], "`index` as 1; there are 1 of `worker`"),
        (tf_config(["a:1"], -1)["TF_CONFIG"], "`index` as -1"),
        (tf_config(["a:1"], 0.0)["TF_CONFIG"], "`index` as 0.0"),
        (tf_config(["a:1"], True)["TF_CONFIG"], "`index` as True"),
        (tf_config(["a:1"], "$(WORKER)")["TF_CONFIG"], "`index` as '$(WORKER)'"),
        (tf_config(["a:1"], 0, kind="ps")["TF_CONFIG"], "`type` as 'ps'"),
        (tf_config(["a:1"], 0, kind=None)["TF_CONFIG"], "`type` as None"),
        (tf_config(["a:1"], 0, kind=["worker"])["TF_CONFIG"], "`type` as ['worker']"),
        (tf_config(["a:1"], 0, kind="chief")["TF_CONFIG"], "there are 0 of `chief`"),
    ],
)
def test_a_malformed_tf_config_is_refused_in_one_line(text, said):
    with pytest.raises(UserError) as refused:
        cluster.from_environment({"TF_CONFIG": text})
    message = str(refused.value)
    assert message.startswith("TF_CONFIG ")
    assert said in message
    assert message.endswith(f"received {text}")
    assert "\n" not in message


def test_a_long_tf_config_is_not_repeated_whole():
    with pytest.raises(UserError) as refused:
        cluster.from_environment({"TF_CONFIG": "[" * 10_000})
    assert len(str(refused.value)) < 600


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["cluster", "worker", "chief", "task", "type", "index"]), inner)
        ),
    )
)
@settings(max_examples=100, deadline=None)
def test_any_json_gives_a_cluster_or_a_user_error(value):
    try:
        found = cluster.from_environment({"TF_CONFIG": json.dumps(value)})
    except UserError:
        return
    assert 0 <= found.index < found.count


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SLURM_PROCID": "0"}, "SLURM_NTASKS is not"),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, "SLURM_JOB_NODELIST is not"),
        (slurm(2, 2, "n[1-2]", "1(x2)"), "SLURM_PROCID must be a number below SLURM_STEP_NUM_TASKS"),
        (slurm("x", 2, "n[1-2]", "1(x2)"), "received 'x' and '2'"),
        (slurm(0, 2, "n[1-", "1(x2)"), "'n[1-' is no list of hosts"),
        (slurm(0, 2, "n[1-2]", "1(2)"), "'1(2)' is no list of task numbers"),
        (slurm(0, 3, "n[1-2]", "1(x2)"), "must agree"),
        (slurm(0, 3, "n[1-2]", "1(x3)"), "must agree"),
        (slurm(0, 1, "n1", "1", ALEXNET_TF_PORT="http"), "ALEXNET_TF_PORT must be a port from 1 to 65535"),
        (slurm(0, 2, "n1", "2", ALEXNET_TF_PORT="65535"), "leaves no room for 2 ports"),
        # Tasks dealt out in turn: task 1 is the first of the second node.
        (
            slurm(1, 4, "n[1-2]", "2(x2)", SLURM_NODEID="1", SLURM_LOCALID="0"),
            "add --distribution=block to srun; received SLURM_NODEID=1 for task 1, which would be 0",
        ),
    ],
)
def test_slurm_variables_that_do_not_fit_are_refused(environ, said):
    with pytest.raises(UserError, match=r"SLURM|PORT") as refused:
        cluster.from_environment(environ)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_batch_script_that_forgot_srun_is_told_so():
    job = {"SLURM_JOB_ID": "5", "SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "n[1-2]"}
    script = job | {"SLURM_TASKS_PER_NODE": "1(x2)"}
    assert "without srun, which starts all 2 tasks: srun python" in cluster.from_environment(script).doubt
    task = script | {"SLURM_STEP_ID": "0"}
    alone = script | {"SLURM_NTASKS": "1", "SLURM_JOB_NODELIST": "n1", "SLURM_TASKS_PER_NODE": "1"}
    elsewhere = {name: value for name, value in script.items() if name != "SLURM_JOB_ID"}
    for environ in (task, alone, elsewhere, slurm(0, 2, "n[1-2]", "1(x2)", SLURM_JOB_ID="5")):
        assert cluster.from_environment(environ).doubt == ""


def test_without_any_variable_the_message_says_how_to_start():
    with pytest.raises(UserError, match=r"alexnet_tf\.launch --workers N.*TF_CONFIG.*srun"):
        cluster.from_environment({})
    with pytest.raises(UserError, match="this SLURM job has no tasks yet: srun"):
        cluster.from_environment({"SLURM_JOB_ID": "5"})


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("gpu5", ["gpu5"]),
        ("node[01-03,7],gpu5", ["node01", "node02", "node03", "node7", "gpu5"]),
        ("a[1-2]b[3-4]", ["a1b3", "a1b4", "a2b3", "a2b4"]),
        ("n[098-101]x", ["n098x", "n099x", "n100x", "n101x"]),
        ("a[1-1],b[2],c.example.org", ["a1", "b2", "c.example.org"]),
    ],
)
def test_host_lists(text, hosts):
    assert cluster.expand_host_list(text) == hosts


@pytest.mark.parametrize(
    "text", ["", ",", "a,,b", "n[", "n]", "n[]", "n[1", "n[1-", "n[2-1]", "n[1-2", "n[[1]]", "a b", "n[1-x]"]
)
def test_malformed_host_lists(text):
    with pytest.raises(ValueError, match=r"no list of hosts|has a range"):
        cluster.expand_host_list(text)


def test_a_host_list_without_end_is_refused():
    for text in ("n[1-999999999]", "n[1-9999]m[1-9999]"):
        with pytest.raises(ValueError, match="more than 10000 hosts"):
            cluster.expand_host_list(text)


@pytest.mark.parametrize(("text", "tasks"), [("4", [4]), ("2(x3),1", [2, 2, 2, 1]), ("1,2", [1, 2])])
def test_tasks_per_node(text, tasks):
    assert cluster.expand_tasks_per_node(text) == tasks


def test_the_modules_are_light():
    code = (
        "import sys; from alexnet_tf.distribute import cluster, peers; sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

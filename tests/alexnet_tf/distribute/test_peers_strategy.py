"""TensorFlow's strategy for several machines after our rendezvous: two processes, one of which dies."""

from __future__ import annotations

import pytest

from alexnet_tf import launch
from tests.support import worker_runs

PROGRAM = """
import os, signal, sys
from alexnet_tf.distribute import cluster, peers
from pipelines import command

def body():
    own = cluster.from_environment()
    import tensorflow as tf
    with peers.rendezvous(own, {}, timeout=60) as others:
        with others.starting():
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        with strategy.scope():
            total = tf.Variable(0.0)

        @tf.function
        def step(value):
            def one(value):
                context = tf.distribute.get_replica_context()
                total.assign_add(context.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value)))
            strategy.run(one, args=(value,))

        for number in range(20):
            step(tf.constant(1.0 + own.index))
            if number == 10 and sys.argv[1] == str(own.index):
                os.kill(os.getpid(), signal.SIGKILL)
        return {"total": float(total.numpy())}

sys.exit(command.run(body, as_json="--json" in sys.argv))
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    return worker_runs.install(tmp_path, monkeypatch, "stand_in_with_strategy", PROGRAM, gpus="-1")


def test_the_strategy_takes_over_the_ports(program, capfd):
    figures = launch.launch(2, ["nobody"], as_json=True, program=program)
    assert figures == {"total": 60.0, "workers": 2, "restarts": 0}
    assert "Aborting" not in capfd.readouterr().err  # whoever finished first has waited for the other


def test_a_death_in_a_step_is_told_in_one_line(program, capfd):
    with pytest.raises(launch.WorkerFailed, match="worker 0 was ended by SIGKILL"):
        launch.launch(2, ["0"], program=program)
    lines = capfd.readouterr().err.splitlines()
    (error,) = [line for line in lines if line.startswith("[1] error: ")]
    assert error.startswith("[1] error: worker 0 (127.0.0.1:")
    assert error.endswith("has gone; start all workers again: the run goes on from its last checkpoint")
    assert [line for line in lines if "Traceback" in line] == []

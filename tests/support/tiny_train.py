"""`python -m tiny_train`: the training command with the tiny network, for processes of their own.

TINY_TRAIN_PAUSE makes every call of the step wait so many seconds first. TINY_TRAIN_DIE, a worker's index
and a step, ends that worker there, once: as a machine does that loses its power. TINY_TRAIN_SPEEDS, such as
1.7,0.1, is how many times as fast bfloat16 is found to be on each worker.
"""

import os
import signal
import sys
import time
from pathlib import Path

from pipelines import command

command.quiet_tensorflow(errors=False)
from alexnet_tf import model, train  # noqa: E402
from alexnet_tf.distribute import cluster  # noqa: E402
from alexnet_tf.training import loop as train_loop  # noqa: E402
from alexnet_tf.training import precision  # noqa: E402
from tests.support.tiny_network import tiny_network  # noqa: E402

model.build = tiny_network
call = train_loop._Trainer._call


def disturbed(self, batches, stop):
    time.sleep(float(os.environ.get("TINY_TRAIN_PAUSE", "0")))
    index, _, step = os.environ.get("TINY_TRAIN_DIE", "").partition(":")
    died = Path(self.run.workdir) / "died"
    if index == str(self.placement.shard[0]) and self.state.step == int(step) and not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return call(self, batches, stop)


train_loop._Trainer._call = disturbed
if "TINY_TRAIN_SPEEDS" in os.environ:
    factors = os.environ["TINY_TRAIN_SPEEDS"].split(",")
    precision.measure = lambda: precision.Speeds(float(factors[cluster.from_environment().index]), 1.0)
sys.exit(train.main())

"""A repository of real, tiny SavedModels: switches under load, damaged folders, memory."""

from __future__ import annotations

import gc
import os
import shutil
import threading

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.errors import Code, ServingError
from serving.lifecycle.loader import Loader
from serving.lifecycle.model_config import single_model
from serving.lifecycle.repository import Repository
from serving.lifecycle.settings import RepositorySettings
from serving.model.warmup import WARMUP_FILE
from serving.monitoring import memory as process_memory
from serving.monitoring.metrics import ServerMetrics
from serving.specs import ModelSpec, State
from tests.support.fake_servables import SECONDS, at_rest, serving_threads, states, wait_for
from tests.support.saved_models import half_plus

SWITCHES = 50


@pytest.fixture(scope="module", autouse=True)
def _frozen():
    """As the server is: collections look at the models alone."""
    process_memory.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """Two exports: x / 2 + 2 in `2`, x / 2 + 3 in `3`."""
    base = tmp_path_factory.mktemp("exports")
    for add in (2, 3):
        half_plus(base, add, add)
    return base


@pytest.fixture
def base(exports, tmp_path):
    shutil.copytree(exports / "2", tmp_path / "m" / "2")
    return tmp_path / "m"


@pytest.fixture
def make(base):
    """A function that makes a repository of the model in `base`, started."""
    made = []

    def repository(**settings):
        settings = {"file_system_poll_wait_seconds": 0, "max_num_load_retries": 0, **settings}
        made.append(
            Repository(Loader(ServerMetrics()), RepositorySettings(single_model("m", str(base)), **settings))
        )
        made[-1].start()
        return made[-1]

    yield repository
    for each in made:
        each.stop(SECONDS)
    assert serving_threads() == []


def publish(export, version_folder):
    """As one should: copied beside, then renamed."""
    copy = version_folder.with_name(f"{version_folder.name}.tmp")
    shutil.copytree(export, copy)
    copy.rename(version_folder)


def ask(repository, x=1.0, **spec):
    """The version that answers, and its answer."""
    with repository.servable(ModelSpec("m", **spec)) as servable:
        outputs = servable.predict("", lambda signature: {"x": np.array([x], np.float32)})
        return servable.id.version, outputs["y"].tolist()


def look(repository):
    """States once nothing is under way after a look."""
    repository.poll()
    wait_for(repository._manager, lambda: at_rest(repository._manager))
    return states(repository._manager)


def failed(repository, version):
    (status,) = repository.statuses("m", version)
    assert status.state == State.END
    return status.code, status.message


def test_a_new_version_answers(make, base, exports):
    repository = make(file_system_poll_wait_seconds=0.02)
    assert ask(repository) == (2, [2.5])
    publish(exports / "3", base / "3")
    wait_for(repository._manager, lambda: states(repository._manager) == {3: "AVAILABLE", 2: "END"})
    assert ask(repository) == (3, [3.5])


def test_no_request_fails_during_fifty_switches(make, base, exports):
    repository = make(file_system_poll_wait_seconds=0.005)
    over, answers, failures = threading.Event(), set(), []

    def requests():
        while not over.is_set():
            try:
                version, y = ask(repository)
            except ServingError as error:
                failures.append(error.message)
                return
            # Even versions add 2, odd ones 3: the answer is that version's own.
            if y != [2.5 + version % 2]:
                failures.append(f"{version}: {y}")
            answers.add(version)

    threads = [threading.Thread(target=requests) for _ in range(4)]
    for thread in threads:
        thread.start()
    for version in range(3, 3 + SWITCHES):
        publish(exports / str(2 + version % 2), base / str(version))
        wait_for(repository._manager, lambda version=version: version in answers or failures)
        shutil.rmtree(base / str(version - 1))
    over.set()
    for thread in threads:
        thread.join(SECONDS)
    assert failures == []
    assert answers == set(range(2, 3 + SWITCHES))
    wait_for(repository._manager, lambda: at_rest(repository._manager))
    assert sum(state == "AVAILABLE" for state in states(repository._manager).values()) == 1


@pytest.mark.parametrize(
    ("damage", "code", "words"),
    [
        ("empty folder", Code.NOT_FOUND, "Could not find SavedModel .pb or .pbtxt"),
        ("cut saved_model.pb", Code.DATA_LOSS, "saved_model.pb"),
        ("noise", Code.DATA_LOSS, "saved_model.pb"),
        ("cut variables", Code.OUT_OF_RANGE, "Read less bytes than requested"),
        ("no data file", Code.NOT_FOUND, "variables.data-00000-of-00001; No such file or directory"),
    ],
)
def test_a_damaged_version_leaves_the_old_one(make, base, exports, damage, code, words):
    repository = make()
    copy = base / "3"
    shutil.copytree(exports / "3", copy)
    data = copy / "variables" / "variables.data-00000-of-00001"
    if damage == "empty folder":
        shutil.rmtree(copy)
        copy.mkdir()
    elif damage == "cut saved_model.pb":
        content = (copy / "saved_model.pb").read_bytes()
        (copy / "saved_model.pb").write_bytes(content[: len(content) // 2])
    elif damage == "noise":
        (copy / "saved_model.pb").write_bytes(np.random.default_rng(0).bytes(5000))
    elif damage == "cut variables":
        data.write_bytes(data.read_bytes()[:2])
    else:
        data.unlink()
    assert look(repository) == {3: "END", 2: "AVAILABLE"}
    got, message = failed(repository, 3)
    assert got == code
    assert words in message
    assert ask(repository) == (2, [2.5])
    # Whole now, and tried again on demand.
    shutil.rmtree(copy)
    shutil.copytree(exports / "3", copy)
    repository.retry("m", 3)
    assert look(repository) == {3: "AVAILABLE", 2: "END"}
    assert ask(repository) == (3, [3.5])


def test_a_folder_that_is_still_being_copied(make, base, exports):
    """It fails until all of it is there, and is then found by one of its tries."""
    repository = make(max_num_load_retries=10**6, load_retry_interval_micros=5000)
    (base / "3").mkdir()
    repository.poll()
    wait_for(repository._manager, lambda: repository._manager._models["m"][3].tries > 2)
    assert ask(repository) == (2, [2.5])
    shutil.copytree(exports / "3", base / "3", dirs_exist_ok=True)
    wait_for(repository._manager, lambda: states(repository._manager) == {3: "AVAILABLE", 2: "END"})
    with repository.servable(ModelSpec("m")) as servable:
        assert servable.path == f"{base}/3"


def test_variables_missing(make, base, exports):
    """As with TF Serving it loads, and fails whoever asks, unless a warm-up request asks first."""
    repository = make()
    shutil.copytree(exports / "3", base / "3")
    shutil.rmtree(base / "3" / "variables")
    assert look(repository)[3] == "AVAILABLE"
    with pytest.raises(ServingError) as caught:
        ask(repository)
    assert caught.value.code == Code.FAILED_PRECONDITION


def warm_up_with(folder, x):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(x))
    (folder / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(folder / WARMUP_FILE)) as writer:
        writer.write(log.SerializeToString())


def test_variables_missing_and_a_warm_up_request(make, base, exports):
    repository = make()
    shutil.copytree(exports / "3", base / "3")
    warm_up_with(base / "3", [1.0])
    shutil.rmtree(base / "3" / "variables")
    assert look(repository) == {3: "END", 2: "AVAILABLE"}
    code, message = failed(repository, 3)
    assert code == Code.FAILED_PRECONDITION
    assert f"(warmup record 1 from {base}/3/{WARMUP_FILE})" in message
    assert ask(repository) == (2, [2.5])


def test_a_warm_up_request_that_fails_keeps_the_old_version(make, base, exports):
    repository = make()
    shutil.copytree(exports / "3", base / "3")
    warm_up_with(base / "3", [b"text"])
    assert look(repository) == {3: "END", 2: "AVAILABLE"}
    assert failed(repository, 3)[0] == Code.INVALID_ARGUMENT


def test_a_version_removed_while_it_answers(make, base):
    repository = make()
    with repository.servable(ModelSpec("m")) as servable:
        shutil.rmtree(base / "2")
        repository.poll()
        assert states(repository._manager) == {2: "UNLOADING"}
        outputs = servable.predict("", lambda signature: {"x": np.array([4.0], np.float32)})
        assert outputs["y"].tolist() == [4.0]
    assert look(repository) == {2: "END"}


class Heavy(tf.Module):
    """32 MB of variables."""

    def __init__(self):
        super().__init__()
        self.table = tf.Variable(tf.ones([8, 1024, 1024]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def predict(self, x):
        return {"y": x + self.table[0, 0, 0]}


def resident_bytes():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux's own figures")
def test_reloading_gives_memory_back(make, base):
    module = Heavy()
    tf.saved_model.save(module, str(base / "3"), signatures={"serving_default": module.predict})
    del module
    repository = make()
    assert ask(repository) == (3, [2.0])

    def reload(version):
        (base / str(version - 1)).rename(base / str(version))
        look(repository)
        assert ask(repository)[0] == version

    for version in range(4, 8):
        reload(version)
    settled = resident_bytes()
    for version in range(8, 18):
        reload(version)
    # Ten times 32 MB went through; less than two of them may be left, for whatever else this process does.
    # The thread that unloads gives memory back a moment after the version has ended.
    wait_for(repository._manager, lambda: resident_bytes() - settled < 60e6)

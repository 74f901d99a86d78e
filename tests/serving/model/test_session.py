"""SavedModels in sessions: what loads, what answers, what a broken folder says."""

import gc
import shutil
import time
import weakref

import numpy as np
import pytest
import tensorflow as tf

from serving.errors import Code, ServingError
from serving.model import session as saved_model
from tests.support import saved_models


@pytest.fixture(scope="module")
def half_plus(tmp_path_factory):
    return saved_models.half_plus(tmp_path_factory.mktemp("half"), add=2)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    return saved_models.kinds(tmp_path_factory.mktemp("kinds"))


@pytest.fixture(scope="module")
def session(kinds):
    loaded = saved_model.load(str(kinds))
    yield loaded
    loaded.close()


def run(session, name, outputs, deadline=None, **inputs):
    signature = session.signatures[name]
    feeds = {signature.inputs[alias].name: value for alias, value in inputs.items()}
    arrays = session.run(feeds, [signature.outputs[alias].name for alias in outputs], deadline)
    return dict(zip(outputs, arrays, strict=True))


def test_variables_are_restored(half_plus):
    session = saved_model.load(str(half_plus))
    answer = run(session, "serving_default", ["y"], x=np.array([1, 2, 5], np.float32))
    assert answer["y"].tolist() == [2.5, 3.0, 4.5]
    session.close()


def test_tables_and_assets_are_initialised(session):
    answer = run(session, "lookup", ["label"], index=np.array([2, 0, 7]))
    assert answer["label"].tolist() == [b"two", b"zero", b"?"]


def test_the_signature_s_shape_is_not_enforced(session):
    # Declared [None]; the graph takes any shape, and so does TF Serving.
    answer = run(session, "texts", ["length"], text=np.array([[b"a", b"bcd"]], object))
    assert answer["length"].tolist() == [[1, 3]]


def test_types_are_enforced_in_tf_serving_s_words(session):
    with pytest.raises(ServingError) as failure:
        run(session, "scalar", ["double"], x=np.array(b"text", object))
    assert failure.value.code == Code.INVALID_ARGUMENT
    assert failure.value.message == "Expects arg[0] to be float but string is provided"


def test_an_operation_fails_in_its_own_words(session):
    with pytest.raises(ServingError, match="x must be positive") as failure:
        run(session, "fails", ["y"], x=np.array([-1], np.float32))
    assert failure.value.code == Code.INVALID_ARGUMENT


def test_an_error_may_quote_bytes_that_are_no_text(tmp_path):
    module = tf.Module()
    module.number = tf.function(
        lambda text: {"number": tf.strings.to_number(text)},
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.number)
    loaded = saved_model.load(str(tmp_path / "1"))
    with pytest.raises(ServingError, match="could not correctly convert string: \ufffd") as failure:
        run(loaded, "serving_default", ["number"], text=np.array([b"\xff"], object))
    assert failure.value.code == Code.INVALID_ARGUMENT
    loaded.close()


def test_a_deadline_ends_a_run(session):
    began = time.monotonic()
    with pytest.raises(ServingError) as failure:
        run(session, "slow", ["y"], deadline=time.monotonic() + 0.2, x=np.array([1000], np.float32))
    assert failure.value.code == Code.DEADLINE_EXCEEDED
    assert time.monotonic() - began < 60  # the run would take a quarter of an hour
    assert run(session, "slow", ["y"], deadline=time.monotonic() + 60, x=np.zeros(1, np.float32))["y"] == [0]


def test_a_deadline_in_the_past_runs_nothing(session):
    with pytest.raises(ServingError) as failure:
        run(session, "scalar", ["double"], deadline=time.monotonic() - 1, x=np.float32(1))
    assert failure.value.code == Code.DEADLINE_EXCEEDED


def test_an_observer_hears_of_stages_and_runs(half_plus):
    heard = []

    class Observer:
        def graph_run_done(self, seconds):
            heard.append(("run", seconds))

        def load_stage_done(self, path, stage, seconds):
            heard.append((stage, path))

    session = saved_model.load(str(half_plus), observer=Observer())
    run(session, "serving_default", ["y"], x=np.ones(1, np.float32))
    session.close()
    assert heard[:2] == [("restore_graph", str(half_plus)), ("init_graph", str(half_plus))]
    assert [name for name, _ in heard[2:]] == ["run"]


def test_closing_lets_go_of_everything(half_plus):
    session = saved_model.load(str(half_plus))
    graph, inner = weakref.ref(session._graph), weakref.ref(session._session)
    session.close()
    gc.collect()
    assert graph() is None
    assert inner() is None


def test_two_versions_keep_their_variables_apart(tmp_path):
    one = saved_model.load(str(saved_models.half_plus(tmp_path, 1, add=1)))
    two = saved_model.load(str(saved_models.half_plus(tmp_path, 2, add=2)))
    x = np.zeros(1, np.float32)
    assert [run(each, "serving_default", ["y"], x=x)["y"][0] for each in (one, two)] == [1, 2]
    one.close()
    assert run(two, "serving_default", ["y"], x=x)["y"][0] == 2
    two.close()


def test_a_graph_of_tensorflow_1(tmp_path):
    folder = str(tmp_path / "1")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 1], name="x")
        weight = tf.compat.v1.get_variable("w", initializer=3.0, use_resource=False)
        session.run(tf.compat.v1.global_variables_initializer())
        definition = tf.compat.v1.saved_model.build_signature_def(
            {"x": tf.compat.v1.saved_model.build_tensor_info(x)},
            {"y": tf.compat.v1.saved_model.build_tensor_info(x * weight)},
            "tensorflow/serving/predict",
        )
        builder = tf.compat.v1.saved_model.Builder(folder)
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": definition})
        builder.save(as_text=True)  # saved_model.pbtxt
    loaded = saved_model.load(folder)
    # Rank one to a signature declared [None, 1]: upstream's own tests do it.
    assert run(loaded, "serving_default", ["y"], x=np.array([2], np.float32))["y"].tolist() == [6]
    loaded.close()


def failure_of(path, **options):
    with pytest.raises(ServingError) as failure:
        saved_model.load(str(path), **options)
    return failure.value


def test_no_file(tmp_path):
    error = failure_of(tmp_path)
    assert error.code == Code.NOT_FOUND
    assert error.message.startswith(
        f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {tmp_path}."
    )


def test_other_tags(half_plus):
    error = failure_of(half_plus, tags=("serve", "gpu"))
    assert error.code == Code.NOT_FOUND
    assert "Could not find meta graph def matching supplied tags: { serve gpu }" in error.message


def damaged(half_plus, tmp_path, name, content):
    copy = shutil.copytree(half_plus, tmp_path / "1")
    (copy / name).write_bytes(content)
    return copy


def test_a_damaged_graph(half_plus, tmp_path):
    copy = damaged(half_plus, tmp_path, "saved_model.pb", b"\x08\x01\x12\xff\xff\xff\xff\x0f")
    assert failure_of(copy).code == Code.DATA_LOSS


def test_an_empty_graph_file(half_plus, tmp_path):
    assert failure_of(damaged(half_plus, tmp_path, "saved_model.pb", b"")).code == Code.NOT_FOUND


def test_half_copied_variables(half_plus, tmp_path):
    content = (half_plus / "variables" / "variables.data-00000-of-00001").read_bytes()
    name = "variables/variables.data-00000-of-00001"
    assert failure_of(damaged(half_plus, tmp_path, name, content[:-2])).code in (
        Code.DATA_LOSS,
        Code.OUT_OF_RANGE,
    )


def test_missing_variables_load_and_fail_at_the_first_request(half_plus, tmp_path):
    copy = shutil.copytree(half_plus, tmp_path / "1")
    shutil.rmtree(copy / "variables")
    session = saved_model.load(str(copy))
    with pytest.raises(ServingError) as failure:
        run(session, "serving_default", ["y"], x=np.ones(1, np.float32))
    assert failure.value.code == Code.FAILED_PRECONDITION
    session.close()

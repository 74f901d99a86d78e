"""The exported folder: the same function as the network, portable, and whole or absent."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from alexnet_tf import checkpoint, model
from alexnet_tf.export import signatures, warmup_requests
from alexnet_tf.export.__main__ import main
from alexnet_tf.figures import heat
from alexnet_tf.run_record import Run
from alexnet_tf.visualize import saliency
from pipelines.pictures import preprocess
from tests.support import small_runs
from tests.support.pictures import encoded, textured
from tests.support.real_pictures import imagenet_samples

IDS = [f"n{index:08d}" for index in range(12)]
NAMES = [f"class {index:02d}" for index in range(12)]
PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunc"}
# Other ways of summing the same numbers.
CLOSE = 1e-5


class Exported(NamedTuple):
    """One export, moved away from where it was written, loaded, and the network it was made of."""

    folder: object
    signatures: object
    network: object
    run: Run
    figures: dict


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The real command on the one-tower network with random weights, in a folder that is then moved."""
    root = tmp_path_factory.mktemp("export")
    run = small_runs.create(root / "run", "synthetic", IDS, readable=NAMES, variant="half")
    network = model.build("half", len(NAMES), initializer="he", dropout_rate=run.recipe.dropout_rate, seed=3)
    checkpoint.write(run.checkpoint_dir / checkpoint.BEST, checkpoint.network_arrays(network), {"step": 1})
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        words = ["--workdir", str(root / "run"), "--export-dir", str(root / "here"), "--json"]
        assert main(words) == 0
    (root / "here").rename(root / "elsewhere")  # what the folder needs must lie in it
    shutil.rmtree(root / "run" / "checkpoints")
    for name in ("labels.txt", "class_ids.txt"):
        (root / "run" / name).unlink()
    loaded = tf.saved_model.load(str(root / "elsewhere" / "1"))
    yield Exported(
        root / "elsewhere" / "1",
        loaded.signatures,
        network,
        run,
        json.loads(printed.getvalue().splitlines()[-1]),
    )
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def graph(exported):
    """The MetaGraph as it lies in the file."""
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((exported.folder / "saved_model.pb").read_bytes())
    (meta_graph,) = saved.meta_graphs
    return meta_graph


def ask(exported, name, *pictures):
    outputs = exported.signatures[name](image_bytes=tf.constant(list(pictures)))
    return {key: value.numpy() for key, value in outputs.items()}


def pixels_of(run, image_bytes):
    """What evaluation feeds the network: float32 [1, crop, crop, 3]."""
    crop = preprocess.evaluation_crop(tf.constant(image_bytes), run.data)
    return preprocess.to_pixels(crop, run.stats, run.data)[tf.newaxis]


def probabilities_of(exported, image_bytes):
    """The network in this process: float32 [classes]."""
    return tf.nn.softmax(exported.network(pixels_of(exported.run, image_bytes), training=False))[0].numpy()


def photograph(seed=0):
    """JPEG bytes, 500 x 375."""
    return encoded(warmup_requests.textured_image(375, 500, seed), "JPEG", quality=92)


def test_signatures_carry_the_names_of_the_wire(graph):
    batch_of = {
        name: (
            {key: [d.size for d in info.tensor_shape.dim] for key, info in definition.inputs.items()},
            {key: [d.size for d in info.tensor_shape.dim] for key, info in definition.outputs.items()},
        )
        for name, definition in graph.signature_def.items()
        if not name.startswith("__")
    }
    picture = {"image_bytes": [-1]}
    best = {"classes": [-1, 5], "scores": [-1, 5]}
    assert batch_of == {
        "serving_default": (picture, best),
        "probabilities": (picture, {"probabilities": [-1, 12]}),
        "ten_crop": (picture, best),
        "pixels": ({"pixels": [-1, 224, 224, 3]}, {"logits": [-1, 12]}),
        "classify": ({"inputs": [-1]}, best),
        "features": (picture, {"fc7": [-1, 4096]}),
        "saliency": (picture, {"heatmap": [-1, 224, 224], "overlay_bytes": [-1]}),
    }
    methods = {name: d.method_name for name, d in graph.signature_def.items() if not name.startswith("__")}
    assert methods.pop("classify") == "tensorflow/serving/classify"
    assert set(methods.values()) == {"tensorflow/serving/predict"}


def test_graph_runs_on_any_server(graph):
    functions = {f.signature.name: f.node_def for f in graph.graph_def.library.function}
    nodes = [(name, node) for name, members in functions.items() for node in members]
    nodes += [("main", node) for node in graph.graph_def.node]
    assert len(nodes) > 1000
    assert {node.op for _, node in nodes} & PYTHON_OPS == set()
    # A gradient left to the server to derive, instead of one written out.
    assert "SymbolicGradient" not in {node.op for _, node in nodes}
    assert not [name for name, node in nodes if node.attr["_XlaMustCompile"].b]
    assert not [f.signature.name for f in graph.graph_def.library.function if f.attr["_XlaMustCompile"].b]
    # Saving and restoring the variables names the CPU in every SavedModel there is; nothing else may.
    pinned = {(name, node.op) for name, node in nodes if node.device}
    saving = {(name, op) for name, op in pinned if "traced_save" in name or "traced_restore" in name}
    assert pinned - saving <= {("main", "Const")}


def test_no_function_stays_apart_to_be_cancelled_in_place_of_the_one_that_failed(graph):
    functions = graph.graph_def.library.function
    assert any("_noted" in f.signature.name for f in functions)
    assert [f.signature.name for f in functions if f.attr["_noinline"].b] == []


def test_probabilities_equal_the_networks(exported):
    for seed in range(3):
        picture = photograph(seed)
        expected = probabilities_of(exported, picture)
        assert expected.max() - expected.min() > 0.02  # the network does tell classes apart
        answer = ask(exported, "probabilities", picture)["probabilities"][0]
        np.testing.assert_allclose(answer, expected, rtol=0, atol=CLOSE)


def test_serving_default_names_the_five_best(exported):
    pictures = [photograph(0), photograph(1), encoded(textured(300, 200), "PNG")]
    answer = ask(exported, "serving_default", *pictures)
    for row, picture in enumerate(pictures):
        expected = probabilities_of(exported, picture)
        order = np.argsort(-expected)[:5]
        assert [name.decode() for name in answer["classes"][row]] == [NAMES[index] for index in order]
        np.testing.assert_allclose(answer["scores"][row], expected[order], rtol=0, atol=CLOSE)


def test_a_session_gets_the_same_answer(exported):
    """TF Serving runs no Python: it restores the variables and the table into a session and feeds tensors."""
    picture = photograph(3)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(exported.folder))
        signature = meta_graph.signature_def["serving_default"]
        fetches = {key: info.name for key, info in signature.outputs.items()}
        answer = session.run(fetches, {signature.inputs["image_bytes"].name: [picture, picture]})
    expected = ask(exported, "serving_default", picture, picture)
    assert answer["classes"].tolist() == expected["classes"].tolist()
    np.testing.assert_allclose(answer["scores"], expected["scores"], rtol=0, atol=CLOSE)


def test_real_photographs_get_the_same_answer(exported):
    for picture in imagenet_samples(4):
        answer = ask(exported, "probabilities", picture)["probabilities"][0]
        np.testing.assert_allclose(answer, probabilities_of(exported, picture), rtol=0, atol=CLOSE)


def test_photographs_are_turned_upright_in_the_graph(exported):
    noted = Image.Exif()
    noted[0x0112] = 6
    lying = encoded(warmup_requests.textured_image(375, 500, 8), "JPEG", quality=92, exif=noted)
    upright = encoded(np.rot90(np.array(Image.open(io.BytesIO(lying))), -1), "PNG")
    answers = [ask(exported, "probabilities", picture)["probabilities"][0] for picture in (lying, upright)]
    np.testing.assert_allclose(answers[0], answers[1], rtol=0, atol=100 * CLOSE)
    np.testing.assert_allclose(answers[0], probabilities_of(exported, lying), rtol=0, atol=CLOSE)
    seen = [ask(exported, "saliency", picture)["overlay_bytes"][0] for picture in (lying, upright)]
    overlays = [np.array(Image.open(io.BytesIO(one))).astype(int) for one in seen]
    assert np.abs(overlays[0] - overlays[1]).mean() < 3


def test_ten_crop_averages_ten_softmaxes(exported):
    picture, run = photograph(5), exported.run
    image = preprocess.prepare(tf.constant(picture), exported.run.data).numpy()
    image = image.astype(np.float32) - run.stats.mean_image
    total = np.zeros(len(NAMES))
    for top, left in ((0, 0), (0, 32), (16, 16), (32, 0), (32, 32)):
        crop = image[top : top + 224, left : left + 224]
        for view in (crop, crop[:, ::-1]):
            pixels = view / run.data.pixel_divisor
            total += tf.nn.softmax(exported.network(pixels[np.newaxis], training=False))[0].numpy() / 10
    answer = ask(exported, "ten_crop", photograph(6), picture)
    order = np.argsort(-total)[:5]
    assert [name.decode() for name in answer["classes"][1]] == [NAMES[index] for index in order]
    np.testing.assert_allclose(answer["scores"][1], total[order], rtol=0, atol=CLOSE)
    # One crop says something else, so that the test can tell them apart.
    assert np.abs(probabilities_of(exported, picture) - total).max() > 100 * CLOSE


def test_classify_reads_examples(exported):
    pictures = [photograph(0), photograph(7)]
    examples = []
    for picture in pictures:
        example = tf.train.Example()
        example.features.feature["image_bytes"].bytes_list.value.append(picture)
        examples.append(example.SerializeToString())
    answer = exported.signatures["classify"](inputs=tf.constant(examples))
    expected = ask(exported, "serving_default", *pictures)
    assert answer["classes"].numpy().tolist() == expected["classes"].tolist()
    np.testing.assert_allclose(answer["scores"], expected["scores"], rtol=0, atol=1e-6)


def test_pixels_and_features_equal_the_networks(exported):
    picture = photograph(2)
    pixels = pixels_of(exported.run, picture)
    logits = exported.signatures["pixels"](pixels=pixels)["logits"]
    np.testing.assert_allclose(logits, exported.network(pixels, training=False), rtol=1e-4, atol=1e-4)
    hidden = keras.Model(exported.network.input, exported.network.get_layer("relu7").output)
    fc7 = ask(exported, "features", picture)["fc7"]
    np.testing.assert_allclose(fc7, hidden(pixels, training=False), rtol=1e-4, atol=1e-4)
    assert (fc7 > 0).mean() > 0.1


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "gray JPEG"])
def test_other_formats_go_through_the_same_decoder(exported, kind):
    image = Image.fromarray(textured(310, 280, seed=4))
    if kind == "gray JPEG":
        picture = encoded(image.convert("L"), "JPEG")
        same = encoded(Image.open(io.BytesIO(picture)).convert("RGB"), "PNG")
    else:
        picture = encoded(image.convert("P") if kind == "GIF" else image, kind)
        same = encoded(Image.open(io.BytesIO(picture)).convert("RGB"), "PNG")
    answer = ask(exported, "probabilities", picture, same)["probabilities"]
    np.testing.assert_allclose(answer[0], probabilities_of(exported, picture), rtol=0, atol=CLOSE)
    # Decoders of JPEG may round differently by a grey level; the others are exact.
    np.testing.assert_allclose(answer[0], answer[1], rtol=0, atol=2e-3 if kind == "gray JPEG" else CLOSE)


def test_saliency_is_the_gradient_of_the_best_class_and_the_map_in_process(exported):
    pictures = [photograph(1), photograph(8)]
    answer = ask(exported, "saliency", *pictures)
    # All at once, as the graph does: rounded otherwise, another of two nearly equal maps is the maximum.
    pixels = tf.Variable(np.concatenate([pixels_of(exported.run, picture) for picture in pictures]))
    with tf.GradientTape() as tape:
        best = tf.reduce_max(exported.network(pixels, training=False), axis=1)
    size = np.abs(tape.gradient(best, pixels).numpy()).max(axis=-1)
    np.testing.assert_allclose(answer["heatmap"], heat.to_unit(size), rtol=0, atol=1e-3)
    maps = saliency.vanilla(exported.network, pixels.numpy())
    np.testing.assert_allclose(answer["heatmap"], heat.to_unit(maps), rtol=0, atol=1e-5)
    assert answer["heatmap"].max(axis=(1, 2)).tolist() == [1.0, 1.0]
    for png in answer["overlay_bytes"]:
        assert np.asarray(Image.open(io.BytesIO(png))).shape == (224, 224, 3)


@pytest.mark.parametrize("broken", [b"", b"no picture", photograph()[:3000]], ids=["empty", "text", "cut"])
def test_a_broken_picture_fails_its_request(exported, broken):
    with pytest.raises(tf.errors.InvalidArgumentError):
        ask(exported, "serving_default", photograph(), broken)


@pytest.mark.parametrize("name", signatures.FORMS)
def test_a_request_without_pictures_is_told_so(exported, name):
    words, pixels = tf.constant([], tf.string), tf.zeros((0, 224, 224, 3))
    nothing = {"classify": {"inputs": words}, "pixels": {"pixels": pixels}}.get(name, {"image_bytes": words})
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one picture"):
        exported.signatures[name](**nothing)


def test_warmup_requests_are_answered(exported):
    path = exported.folder / "assets.extra" / "tf_serving_warmup_requests"
    asked = []
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        kind = log.WhichOneof("log_type")
        if kind == "predict_log":
            request = log.predict_log.request
            tensors = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
        else:
            request = log.classify_log.request
            examples = request.input.example_list.examples
            tensors = {"inputs": tf.constant([example.SerializeToString() for example in examples])}
        answer = exported.signatures[request.model_spec.signature_name](**tensors)
        asked.append((kind, request.model_spec.signature_name, answer["scores"].shape[0]))
    assert asked == [
        ("predict_log", "serving_default", 1),
        ("predict_log", "serving_default", 8),
        ("classify_log", "classify", 1),
    ]


def test_figures_and_files(exported):
    assert exported.figures["version"] == 1
    assert exported.figures["signatures"] == list(signatures.FORMS)
    size = sum(path.stat().st_size for path in exported.folder.rglob("*") if path.is_file())
    assert exported.figures["megabytes"] == pytest.approx(size / 1e6, abs=0.1)
    for labels in ("assets/labels.txt", "assets.extra/labels.txt"):
        assert (exported.folder / labels).read_text().splitlines() == NAMES
    assert (exported.folder / "assets.extra/class_ids.txt").read_text().splitlines() == IDS
    # The weights once, the graph without a copy of them or of the mean image in every signature.
    assert size < 4.06 * exported.network.count_params()
    assert (exported.folder / "saved_model.pb").stat().st_size < 3e6

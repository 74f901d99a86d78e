"""Files sent to end or starve a process: refused in one line each, by the pipeline and by an export."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import attacks

ROOT = Path(__file__).resolve().parents[3]
# What all of them together may add to a process's peak: a frame of 4000 x 4000 and its working memory.
MEGABYTES = 250
CHILD = """
import json, resource, sys
import tensorflow as tf
from tests.support import attacks
from tests.support import small_runs
from tests.support.small_network import small_network
from alexnet_tf.export import signatures
from pipelines.config import DataConfig
from pipelines.pictures.decode import decode

folder, way = sys.argv[1:]
if way == "decode":
    shape = tf.function(lambda b: tf.shape(decode(b)), input_signature=[tf.TensorSpec([], tf.string)])
    ask = lambda image_bytes: shape(image_bytes).numpy().tolist()
else:
    labels = folder + "/labels.txt"
    open(labels, "w").write("a\\nb\\nc\\n")
    config = DataConfig("synthetic")
    servable = signatures.Servable(small_network(3), small_runs.stats(), config, labels)
    tf.saved_model.save(servable, folder + "/1", signatures=servable.signatures())
    names = tf.saved_model.load(folder + "/1").signatures["serving_default"]
    ask = lambda image_bytes: len(names(image_bytes=tf.constant([image_bytes]))["classes"][0].numpy())

def outcome(image_bytes):
    try:
        return ask(image_bytes)
    except tf.errors.InvalidArgumentError as error:
        return error.message.split("[[")[0].strip()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

files = attacks.attacks()
costly = {name: image_bytes for name, (image_bytes, _) in attacks.costly().items()}
small = attacks.gif()
outcome(small)
before = peak()
found = {name: outcome(image_bytes) for name, image_bytes in {**files, **costly}.items()}
for kind, magic in attacks.MAGIC.items():
    for tail, more in attacks.TAILS.items():
        found[f"{kind}, {tail}"] = outcome(magic + more)
found["empty"] = outcome(b"")
print(json.dumps({"found": found, "before": before, "after": peak()}))
"""


@pytest.fixture(scope="module", params=["decode", "export"])
def child(request, tmp_path_factory):
    """What a process of its own made of every file, and its peak memory."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path_factory.mktemp("attacked")), request.param],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/tests", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_process_lives_and_stays_small(child):
    assert child["after"] - child["before"] < MEGABYTES


def test_every_attack_is_refused_in_words(child):
    for name in [
        *attacks.attacks(),
        "empty",
        *(f"{kind}, {tail}" for kind in attacks.MAGIC for tail in attacks.TAILS),
    ]:
        assert isinstance(child["found"][name], str), name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("jxl too large", "this is a JPEG XL file; JPEG, PNG, GIF, BMP, WebP and PPM are read"),
        ("jxl box, zeros", "this is a JPEG XL file"),
        ("heic, zeros", "this is a HEIC file"),
        ("avif, nothing", "this is an AVIF file"),
        ("jp2, garbage", "this is a JPEG 2000 file"),
        ("tiff big, ones", "this is a TIFF file"),
        ("pdf, zeros", "this is a PDF file"),
        ("html mark, huge", "this is an HTML page"),
        ("lfs, zeros", "this is a Git LFS pointer, not the picture it stands for"),
        ("tar, zeros", "this is a tar archive"),
        ("empty", "empty file"),
        ("tfrecord, garbage", "not a JPEG, PNG, GIF, BMP, WebP or PPM file"),
        ("webp lossless too large", "WebP file of 16383 x 16383 pixels; a picture may hold at most 67108864"),
        ("webp canvas too large", "WebP file of 16777216 x 16777216 pixels"),
        ("webp animated", "animated WebP file; stills are read"),
        ("png largest", "PNG file of 2147483647 x 2147483647 pixels"),
        ("png of a row", "PNG file of 2147483647 x 1 pixels"),
        ("png texts", "PNG file with more than 16 compressed texts"),
        ("bmp lowest height", "BMP file of 1 x 2147483648 pixels"),
        ("bmp run-length", "damaged or truncated BMP file"),
        ("bmp one bit", "damaged or truncated BMP file"),
        ("gif frame 20000", "GIF file of 20000 x 20000 pixels"),
        ("jpeg progressive largest", "JPEG file of 65500 x 65500 pixels"),
        ("jpeg of many scans", "JPEG file of more than 100 scans"),
        ("ppm overflow", "PPM file of 65536 x 65536 pixels"),
    ],
)
def test_words(child, name, words):
    assert words in child["found"][name]


def test_only_the_first_frame_is_paid_for(child):
    for name, (_, (width, height)) in attacks.costly().items():
        assert child["found"][name] in ([height, width, 3], 3), name

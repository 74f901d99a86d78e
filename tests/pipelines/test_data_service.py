"""Data services: the batches of a local stream bit for bit, and an error instead of a hang."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from pipelines import data_service, dataset, service_client, sources
from pipelines.config import DataConfig
from pipelines.errors import DataError
from pipelines.service_client import ServiceLost
from pipelines.sources import imagenet, records, tfds
from tests.support import tiny_cifar, tiny_tfds
from tests.support.data_services import watched
from tests.support.imagenet_archives import write_train
from tests.support.small_records import SIDE, hurt

ROOT = Path(__file__).resolve().parents[2]
BATCH = 6


@contextlib.contextmanager
def started(cwd, *options):
    """A service in a process of its own, in another working directory; gives the process and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.data_service", "--port", "0", "--host", "127.0.0.1", *options],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def address_of(process):
    line = process.stdout.readline()
    assert line.startswith("data service ready: --data-service 127.0.0.1:"), process.stderr.read()
    return line.split()[-1]


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """The addresses of two services: in a process of its own, and in this one."""
    with started(tmp_path_factory.mktemp("elsewhere")) as process, data_service.serve() as address:
        yield address_of(process), address


@pytest.fixture
def config_of(tmp_path, pictures_config, records_folder, monkeypatch):
    """A function from the kind of a source to a configuration that names one."""

    def config(kind):
        if kind == "tfds":
            monkeypatch.setattr(tfds.tfds.core.constants, "DATA_DIR", str(tmp_path))
            tiny_tfds.TinyThreeSplits(data_dir=tmp_path).download_and_prepare()
        if kind == "imagenet":
            write_train(tmp_path / imagenet.TRAIN_ARCHIVE)
        if kind == "cifar":
            tiny_cifar.write_hundred(tmp_path)
        spec = {
            "synthetic": "synthetic:24,12",
            "folder": pictures_config.spec,
            "tfds": "tfds:tiny_three_splits",
            "records": f"records:{records_folder}",
            "imagenet": f"imagenet:{tmp_path}",
            "cifar": f"cifar:{tmp_path}",
        }[kind]
        return DataConfig(spec, seed=5, resize=SIDE, crop=SIDE - 4, colour_statistics="published")

    return config


def batches(config, service=(), **options):
    source = sources.open_source(config)
    return dataset.build(source, config, "train", BATCH, training=True, service=service, **options)


def assert_equal_streams(left, right, steps):
    for one, two in zip(left.take(steps), right.take(steps), strict=True):
        assert one.keys() == two.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.mark.parametrize("kind", ["synthetic", "folder", "tfds", "records", "imagenet", "cifar"])
def test_two_services_give_the_batches_of_a_local_stream(kind, services, config_of):
    config = config_of(kind)
    local, remote = (batches(config, service, start_step=3) for service in ((), services))
    assert remote.element_spec == local.element_spec
    assert remote.cardinality() == tf.data.INFINITE_CARDINALITY
    assert_equal_streams(local, remote, 9)  # several epochs


@pytest.mark.parametrize(("count", "start", "shard"), [(1, 4, (1, 2)), (2, 0, (0, 2))])
def test_one_service_and_shards(services, config_of, count, start, shard):
    config, options = config_of("records"), {"start_step": start, "shard": shard}
    assert_equal_streams(batches(config, **options), batches(config, services[:count], **options), 8)


@pytest.mark.parametrize("kind", ["folder", "records"])
def test_relative_folders_are_found_from_another_working_directory(kind, services, config_of, monkeypatch):
    config = config_of(kind)
    path = Path(config.location)
    monkeypatch.chdir(path.parent)
    relative = DataConfig(**{**vars(config), "spec": f"{kind}:{path.name}"})
    (first,) = batches(relative, services[:1]).take(1)  # the one in a process of its own
    assert len(set(first["key"].numpy())) == BATCH


def test_one_source_gives_several_streams(config_of):
    config = config_of("synthetic")
    source = sources.open_source(config)
    first, second = (dataset.build(source, config, "train", BATCH, training=True) for _ in range(2))
    assert_equal_streams(first, second, 5)


def test_a_second_worker_behind_an_address_is_an_error(config_of):
    with data_service.serve() as address:
        service = tf.data.experimental.service
        second = service.WorkerServer(service.WorkerConfig(dispatcher_address=address))
        stream = batches(config_of("records"), [address], start_step=7)
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=rf"data service {address} sent step \d+ where"
        ):
            list(stream.take(5000))
        with pytest.raises(DataError) as caught:
            list(itertools.islice(watched(stream, [address]), 5000))
        second.stop()
    assert str(caught.value).startswith(f"data service {address} sent step ")
    assert str(caught.value).endswith(
        "must be one service of one worker, as `python -m pipelines.data_service` starts it"
    )


def test_a_worker_that_does_not_start_leaves_no_dispatcher(monkeypatch):
    def refuse(config):
        raise tf.errors.UnavailableError(None, None, "no thread is left")

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    monkeypatch.setattr(tf.data.experimental.service, "WorkerServer", refuse)
    with (
        pytest.raises(DataError, match=rf"cannot start on ports {port} and any other \(no thread is left\)"),
        data_service.serve(port, worker_port=0),
    ):
        pass
    with socket.socket() as again:  # nobody listens there, nor is about to stop
        again.bind(("127.0.0.1", port))


def test_an_address_where_nobody_is(config_of, monkeypatch):
    monkeypatch.setattr(service_client, "PATIENCE", 0.5)
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # nobody listens
        address = f"127.0.0.1:{held.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(
            ServiceLost, match=rf"data service {address}: does not answer .* --port {address[10:]}"
        ):
            batches(config_of("records"), [address])
        assert time.monotonic() - began < 30  # a service is waited for twice as long by default


def test_an_address_where_something_else_is(config_of, monkeypatch):
    monkeypatch.setattr(service_client, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DataError, match=f"data service {address}: accepts connections but"):
            batches(config_of("records"), [address])


def test_a_killed_service_is_an_error_in_time(services, config_of, tmp_path):
    with started(tmp_path) as process:
        address = address_of(process)
        both = (services[0], address)
        stream = watched(batches(config_of("records"), both), both, patience=1.5)
        for _ in range(3):
            next(stream)
        process.kill()
        process.wait()
        began = time.monotonic()
        with pytest.raises(
            ServiceLost, match=rf"data service {address}: has not answered for 2 s; start it again"
        ):
            list(stream)
        assert time.monotonic() - began < 30


def test_a_service_that_was_started_anew_is_an_error(config_of):
    with data_service.serve() as address:
        stream = watched(batches(config_of("records"), [address]), [address])
        next(stream)
    with (
        data_service.serve(int(address.rpartition(":")[2]), worker_port=0),
        pytest.raises(ServiceLost, match=f"data services {address}: one of them was started"),
    ):
        list(stream)


def test_a_broken_picture_is_the_error_of_a_local_stream(services, pictures_config):
    source = sources.open_source(pictures_config)
    for path in Path(pictures_config.location).rglob("*.jpg"):
        path.write_bytes(b"no picture")
    options = {"training": True, "service": services}
    config = DataConfig(**{**vars(pictures_config), "colour_noise": "none"})
    stream = watched(dataset.build(source, config, "train", BATCH, **options), services)
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        next(stream)
    reason = "not a JPEG, PNG, GIF, BMP, WebP or PPM file"
    assert records.describe(caught.value, config).startswith(f"{config.spec}: could not be read ({reason});")


def test_a_damaged_shard_is_named_as_it_is_locally(services, config_of, records_folder):
    config = config_of("records")
    stream = watched(batches(config, services), services)
    shard = next(records_folder.glob("train-00002*.tfrecord"))
    hurt(shard, "altered")
    with pytest.raises(tf.errors.DataLossError) as caught:
        list(itertools.islice(stream, 30))
    assert records.describe(caught.value, config).startswith(f"{shard}: damaged (its SHA-256 differs")


def test_services_are_for_training(config_of, services):
    config = config_of("records")
    with pytest.raises(ValueError, match="`service` belongs to training"):
        dataset.build(sources.open_source(config), config, "val", BATCH, training=False, service=services)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("hearing")
def test_the_command_leaves_in_good_order(capsys, number):
    handler = signal.getsignal(number)

    def stop():
        deadline = time.monotonic() + 60
        while signal.getsignal(number) is handler and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    assert data_service.main(["--port", "0", "--host", "127.0.0.1", "--json"]) == 0
    thread.join()
    ready, figures = capsys.readouterr().out.splitlines()
    address = json.loads(figures)["address"]
    assert ready == f"data service ready: --data-service {address}"
    assert not service_client._reachable(address)
    assert signal.getsignal(number) is handler


@pytest.mark.parametrize("taken", ["--port", "--worker-port"])
def test_a_port_in_use_is_one_line(capsys, taken):
    with socket.create_server(("", 0)) as other:
        port = str(other.getsockname()[1])
        assert data_service.main(["--port", "0", taken, port]) == 2
    assert (
        capsys.readouterr().err
        == f"error: port {port}: cannot be used (Address already in use); choose another {taken}\n"
    )


def test_two_services_never_share_a_port():
    with data_service.serve() as address:
        again = data_service.serve(int(address.rpartition(":")[2]), worker_port=0)
        with pytest.raises(DataError, match="cannot be used"), again:
            pass
    both = data_service.serve(6000, worker_port=6000)
    with pytest.raises(DataError, match="--worker-port must be another than --port; received 6000"), both:
        pass


def test_a_number_that_is_no_port(capsys):
    assert data_service.main(["--port", "70000"]) == 2
    assert capsys.readouterr().err == "error: --port must lie between 0 and 65535; received 70000\n"

"""Training whose pictures other processes decode: the same bits, and an error when they go."""

from __future__ import annotations

import numpy as np
import pytest

from alexnet_tf import checkpoint, model, train
from alexnet_tf.run_record import Run
from alexnet_tf.training import loop as train_loop
from pipelines import data_service, service_client
from tests.support.tiny_network import tiny_network
from tests.support.training import arguments


@pytest.fixture(autouse=True)
def small_network(monkeypatch):
    monkeypatch.setattr(model, "build", tiny_network)


def test_the_weights_are_those_of_local_decoding(tmp_path):
    assert train.main(arguments(tmp_path / "local")) == 0
    with data_service.serve() as one, data_service.serve() as two:
        served = arguments(tmp_path / "served", "--data-service", f"{one},{two}")
        assert train.main(served) == 0
    local, other = (
        checkpoint.read(Run.open(tmp_path / name).checkpoint_dir / "step-00000006.npz")[0]
        for name in ("local", "served")
    )
    for name, array in local.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def test_a_service_that_goes_ends_the_run_which_goes_on_without_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(service_client, "PATIENCE", 2.0)
    call = train_loop._Trainer._call
    service = data_service.serve()
    address = service.__enter__()

    def without_service(self, batches, stop):
        if self.state.step == 4:
            service.__exit__(None, None, None)
        return call(self, batches, stop)

    monkeypatch.setattr(train_loop._Trainer, "_call", without_service)
    longer = ["--set", "epochs=16"]  # more than is fetched ahead
    assert train.main(arguments(tmp_path / "w", "--data-service", address, *longer)) == 75
    line = capsys.readouterr().err.splitlines()[-1]  # after those that say what goes on
    assert line.startswith(f"error: data service {address}")
    monkeypatch.setattr(train_loop._Trainer, "_call", call)
    assert train.main(arguments(tmp_path / "w", *longer)) == 0
    assert "going on from step" in capsys.readouterr().out


@pytest.mark.parametrize("address", ["", "host", "host:0", "a:1,a:1"])
def test_addresses_that_are_none(tmp_path, capsys, address):
    assert train.main(arguments(tmp_path / "w", f"--data-service={address}")) == 2
    assert "error: --data-service" in capsys.readouterr().err

"""Batching around real graphs: what a client of a SavedModel sees of it."""

import threading
import time

import numpy as np
import pytest

from serving.batching.parameters import BatchingParameters
from serving.batching.scheduler import BatchScheduler
from serving.batching.session import BatchingSession
from serving.errors import Code, ServingError
from serving.model import session as saved_model
from serving.model.servable import Servable
from serving.monitoring.metrics import ServerMetrics
from serving.specs import ServableId
from tests.support import saved_models

COMPANY = 20.0  # seconds in which requests of one test find together; a full batch waits no longer


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return str(saved_models.kinds(tmp_path_factory.mktemp("kinds") / "kinds"))


class Batched:
    """A servable whose requests wait for company, and clients that come at once."""

    def __init__(self, export, rows, company=COMPANY):
        self.metrics = ServerMetrics()
        parameters = BatchingParameters(
            max_batch_size=rows, batch_timeout_micros=int(company * 1e6), num_batch_threads=1
        )
        self.scheduler = BatchScheduler(parameters, self.metrics)
        session = saved_model.load(export)
        batching = BatchingSession(session, self.scheduler, parameters, self.metrics)
        self.servable = Servable(ServableId("kinds", 1), export, session.signatures, batching)

    def runs(self):
        return self.metrics.counters()["/tensorflow/serving/batching_session/wrapped_run_count"]

    def together(self, *calls):
        """What each call answers, or the error that it raises."""
        found = [None] * len(calls)

        def client(number):
            try:
                found[number] = calls[number](self.servable)
            except ServingError as error:
                found[number] = error

        threads = [threading.Thread(target=client, args=(number,)) for number in range(len(calls))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return found

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.servable.close()
        self.scheduler.close()


def predict(signature, outputs=(), deadline=None, **inputs):
    return lambda servable: servable.predict(signature, lambda definition: inputs, outputs, deadline)


def test_two_inputs_share_a_batch(export):
    with Batched(export, 3) as batched:
        one = predict("", a=np.float32([[1, 2]]), b=np.int32([[10, 20]]))
        two = predict("", a=np.float32([[3, 4], [5, 6]]), b=np.int32([[30, 40], [50, 60]]))
        found = batched.together(one, two)
        assert found[0]["sum"].tolist() == [[11, 22]]
        assert found[0]["rows"].tolist() == [3]  # the graph saw three rows
        assert found[1]["sum"].tolist() == [[33, 44], [55, 66]]
        assert batched.runs() == 1


def test_a_broken_example_does_not_fail_its_neighbours(export):
    def classify(example):
        return lambda servable: servable.classify("classify", [example])

    with Batched(export, 4) as batched:
        examples = [saved_models.example(x=0.25), b"\n\x50cut short", saved_models.example(x=0.5)]
        good, bad, other, missing = batched.together(*map(classify, [*examples, b""]))
        assert good == [[(b"yes", 0.25), (b"no", 0.75)]]
        assert other == [[(b"yes", 0.5), (b"no", 0.5)]]
        assert bad.code == missing.code == Code.INVALID_ARGUMENT
        assert "Could not parse example input" in bad.message
        assert "x" in missing.message
        assert 4 <= batched.runs() <= 7


def test_each_bad_request_is_told_of_its_own_values(export):
    with Batched(export, 3) as batched:
        good, bad, worse = batched.together(
            predict("fails", x=np.float32([1])),
            predict("fails", x=np.float32([-2])),
            predict("fails", x=np.float32([-3])),
        )
        assert good["y"].tolist() == [1]
        assert bad.code == worse.code == Code.INVALID_ARGUMENT
        assert "[-2]" in bad.message
        assert "[-3]" in worse.message


def test_a_scalar_cannot_be_batched(export):
    with Batched(export, 4) as batched:
        (error,) = batched.together(predict("scalar", x=np.array(2, np.float32)))
    assert error.code == Code.INVALID_ARGUMENT
    assert error.message == "Batching Run() input tensors must have at least one dimension"


def test_an_output_filter_has_a_batch_of_its_own(export):
    with Batched(export, 2, company=0.1) as batched:  # which neither of them gets
        text = np.array([b"ab"], object)
        whole, part = batched.together(predict("texts", text=text), predict("texts", ["length"], text=text))
        assert set(whole) == {"echo", "echo_bytes", "length"}
        assert {name: array.tolist() for name, array in part.items()} == {"length": [2]}
        assert batched.runs() == 2


def test_a_request_that_takes_too_long(export):
    with Batched(export, 1) as batched:
        began = time.monotonic()
        (late,) = batched.together(predict("slow", x=np.float32([1000]), deadline=began + 0.5))
        assert time.monotonic() - began < 15
        assert late.code == Code.DEADLINE_EXCEEDED
        # The run itself was interrupted: the only thread is free.
        (soon,) = batched.together(predict("slow", x=np.float32([0]), deadline=time.monotonic() + 60))
        assert soon["y"].shape == (1,)

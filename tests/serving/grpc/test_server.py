"""The gRPC server itself: health, reflection, the token, ports, sockets, and how it stops."""

import threading

import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serving.core import Core
from serving.errors import ServingError
from serving.grpc import server as grpc_server
from serving.grpc.server import GrpcServer
from serving.monitoring.metrics import ServerMetrics
from tests.support.grpc_running import Client, failure, predict_request, two


def test_health_only_when_asked_for(started):
    asked = [health_pb2.HealthCheckRequest(service=name) for name in grpc_server.HEALTH_NAMES]
    without = health_pb2_grpc.HealthStub(started()[0].channel)
    assert failure(lambda: without.Check(asked[0]))[0] == "UNIMPLEMENTED"
    stub = health_pb2_grpc.HealthStub(started(health_service=True)[0].channel)
    assert [stub.Check(request).status for request in asked] == [1, 1, 1]


def test_reflection_names_the_services(client):
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (answer,) = stub.ServerReflectionInfo(iter([request]))
    names = {service.name for service in answer.list_services_response.service}
    assert {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"} <= names


def test_a_token_is_asked_for(started):
    client, _, _ = started(api_token="secret")
    code, details = failure(lambda: client.predictions.Predict(two()))
    assert (code, details) == ("UNAUTHENTICATED", grpc_server.UNAUTHENTICATED)
    wrong = [("authorization", "Bearer secre")]
    assert failure(lambda: client.predictions.Predict(two(), metadata=wrong))[0] == "UNAUTHENTICATED"
    right = [("authorization", "Bearer secret")]
    assert client.predictions.Predict(two(), metadata=right).model_spec.name == "kinds"


def test_stopping_finishes_what_was_begun(started, versions, monkeypatch):
    client, _, server = started()
    request = predict_request(signature="slow", x=np.array([1.0], np.float32))
    asked, servable = threading.Event(), versions.servable
    monkeypatch.setattr(versions, "servable", lambda spec: asked.set() or servable(spec))
    begun = client.predictions.Predict.future(request)
    assert asked.wait(60)
    stopping = threading.Thread(target=server.stop, args=(60,))
    stopping.start()
    assert begun.result(60).model_spec.name == "kinds"
    stopping.join()
    assert failure(lambda: client.predictions.Predict(two()))[0] == "UNAVAILABLE"


def test_a_port_that_is_taken(versions, started):
    _, _, server = started()
    taken = server.listen("127.0.0.1:0")
    other = GrpcServer(Core(versions), ServerMetrics(), max_threads=1)
    with pytest.raises(ServingError, match=f"gRPC cannot listen on 127.0.0.1:{taken}"):
        other.listen(f"127.0.0.1:{taken}")
    other.stop(0)


def test_a_unix_socket(versions, tmp_path):
    server = GrpcServer(Core(versions), ServerMetrics(), max_threads=1)
    server.listen(f"unix:{tmp_path}/grpc.sock")
    server.start()
    client = Client(f"unix:{tmp_path}/grpc.sock")
    assert client.predictions.Predict(two()).model_spec.name == "kinds"
    client.channel.close()
    server.stop(0)


def test_channel_arguments(versions):
    server = GrpcServer(
        Core(versions), ServerMetrics(), max_threads=1, channel_arguments="grpc.max_concurrent_streams=8,a=b"
    )
    server.stop(0)
    with pytest.raises(ServingError, match="--grpc_channel_arguments: expected key=value"):
        GrpcServer(Core(versions), ServerMetrics(), max_threads=1, channel_arguments="novalue")

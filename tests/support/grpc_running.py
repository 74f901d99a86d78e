"""A gRPC server over loopback and its client, for the tests of both."""

import contextlib

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc

from serving.core import Core
from serving.grpc.server import GrpcServer
from serving.model.tensors import to_proto
from serving.monitoring.metrics import ServerMetrics


class Client:
    """Both stubs on one channel."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address, [("grpc.max_receive_message_length", -1)])
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)


@contextlib.contextmanager
def running(versions, **options):
    """A started server: its client, its metrics and itself."""
    metrics = ServerMetrics()
    server = GrpcServer(Core(versions, metrics.examples_counted), metrics, max_threads=4, **options)
    client = Client(f"127.0.0.1:{server.listen('127.0.0.1:0')}")
    server.start()
    try:
        yield client, metrics, server
    finally:
        client.channel.close()
        server.stop(0)


def predict_request(name="kinds", signature="", output_filter=(), **inputs):
    request = predict_pb2.PredictRequest(output_filter=output_filter)
    request.model_spec.name, request.model_spec.signature_name = name, signature
    for alias, array in inputs.items():
        request.inputs[alias].CopyFrom(to_proto(np.asarray(array)))
    return request


def two(**changes):
    return predict_request(a=np.array([[1, 2]], np.float32), b=np.array([[10, 20]], np.int32), **changes)


def failure(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()

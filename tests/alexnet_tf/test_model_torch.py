"""The networks against PyTorch's convolutions, pooling and normalisation with the same weights."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_tf import model
from alexnet_tf.network import variants
from alexnet_tf.network.layers import TwoGroupConv2D

torch = pytest.importorskip("torch")
F = torch.nn.functional

LABELS = np.array([3, 7])


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(2)


def _pixels(count: int, side: int) -> np.ndarray:
    """Mean-subtracted pictures of 8-pixel squares, as large as grey levels are."""
    coarse = np.random.default_rng(0).normal(0.0, 60.0, (count, side // 8 + 1, side // 8 + 1, 3))
    return coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :side, :side].astype("float32")


class TorchAlexNet:
    """The 2012 network in PyTorch's own functions, grouped convolutions along one path, from our weights."""

    def __init__(self, network: keras.Model, arch: variants.Architecture) -> None:
        self.arch, self.tensors = arch, {}
        for name in variants.LAYERS:
            towers = [layer for layer in network.layers if layer.name in (name, f"{name}_a", f"{name}_b")]
            kernel, bias = (
                np.concatenate(parts, axis=-1)
                for parts in zip(*(t.get_weights() for t in towers), strict=True)
            )
            if name == "fc6":  # rows H, W, C -> C, H, W
                kernel = kernel.reshape(6, 6, 256, -1).transpose(2, 0, 1, 3).reshape(9216, -1)
            kernel = kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T
            self.tensors[name] = (self._leaf(kernel), self._leaf(bias))

    @staticmethod
    def _leaf(array: np.ndarray) -> Any:
        return torch.tensor(array, requires_grad=True)

    def conv(self, name: str, x: Any, groups: int = 1, **settings: Any) -> Any:
        weight, bias = self.tensors[name]
        return F.conv2d(x, weight, bias, groups=groups, **settings)

    def normalize(self, x: Any) -> Any:
        """Channel normalisation; PyTorch divides alpha by the window's size."""
        norm = self.arch.channel_norm
        if norm is None:
            return x
        parts = [x] if norm.across_towers else x.chunk(2, dim=1)
        return torch.cat(
            [F.local_response_norm(p, norm.size, norm.alpha * norm.size, norm.beta, norm.k) for p in parts], 1
        )

    def normalize_maps(self, x: Any) -> Any:
        spatial = self.arch.spatial_norm
        if spatial is None:
            return x
        mean = F.avg_pool2d(x * x, spatial.size, 1, spatial.size // 2, count_include_pad=True)
        return x / (1 + spatial.alpha * spatial.size**2 * mean) ** spatial.beta

    def logits(self, pixels: np.ndarray) -> Any:
        arch = self.arch
        groups = 1 if arch.layout == "single" else 2
        before, after = arch.conv1_padding
        x = F.pad(torch.tensor(pixels).permute(0, 3, 1, 2), (before, after, before, after))
        x = self.conv("conv1", x, stride=4)
        x = x if arch.relu1_after_pool else x.relu()
        if arch.norm_after_pool:
            x = self.normalize(F.max_pool2d(x, 3, 2))
        else:
            x = F.max_pool2d(self.normalize(x), 3, 2)
        x = x.relu() if arch.relu1_after_pool else x
        x = self.conv("conv2", x, groups, padding=2).relu()
        if arch.norm_after_pool:
            x = self.normalize_maps(self.normalize(F.max_pool2d(x, 3, 2)))
        else:
            x = F.max_pool2d(self.normalize_maps(self.normalize(x)), 3, 2)
        x = self.conv("conv3", x, padding=1).relu()
        x = self.conv("conv4", x, groups, padding=1).relu()
        x = F.max_pool2d(self.conv("conv5", x, groups, padding=1).relu(), 3, 2).flatten(1)
        share = 0.5 if arch.dropout == "paper" else 1.0  # testing: every unit works, half as strongly
        for name in ("fc6", "fc7"):
            x = F.linear(x, *self.tensors[name]).relu() * share
        return F.linear(x, *self.tensors["fc8"])


def _close(ours: Any, theirs: Any, tolerance: float, message: str = "") -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max(), err_msg=message)


def check_against_torch(network: keras.Model, arch: variants.Architecture, pixels: np.ndarray) -> None:
    """Logits, and the gradient of the loss by kernels and biases from both ends of the network."""
    theirs = TorchAlexNet(network, arch)
    watched = [v for v in network.trainable_variables if v.path.split("/")[0] in WATCHED]
    with tf.GradientTape() as tape:
        logits = network(pixels, training=False)
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(LABELS, logits, from_logits=True))
    expected = theirs.logits(pixels)
    _close(logits, expected.detach(), 1e-4)
    F.cross_entropy(expected, torch.tensor(LABELS)).backward()
    for variable, gradient in zip(watched, tape.gradient(loss, watched), strict=True):
        layer, kind = variable.path.split("/")
        tensor = theirs.tensors[layer.removesuffix("_a").removesuffix("_b")][kind == "bias"].grad.numpy()
        if kind == "kernel":
            tensor = tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
        if layer.endswith(("_a", "_b")):
            half = tensor.shape[-1] // 2
            tensor = tensor[..., :half] if layer.endswith("_a") else tensor[..., half:]
        _close(gradient, tensor, 1e-3, variable.path)


WATCHED = (
    "conv1_a",
    "conv1_b",
    "conv1",
    "conv2_b",
    "conv2",
    "conv3_a",
    "conv3",
    "conv4_b",
    "conv4",
    "conv5_a",
    "fc7",
    "fc8",
)


def test_the_whole_paper_network_equals_pytorchs() -> None:
    network = model.build("paper")
    check_against_torch(network, variants.get("paper"), _pixels(2, 224))


@pytest.mark.parametrize("variant", ["original", "caffe", "caffenet", "one_weird_trick", "no_normalization"])
def test_variants_equal_pytorchs(variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arch = dataclasses.replace(variants.get(variant), hidden=64)
    monkeypatch.setitem(variants.VARIANTS, variant, arch)
    network = model.build(variant, 10, initializer="he")
    check_against_torch(network, arch, _pixels(2, arch.input_size) / 10.0)


@pytest.mark.parametrize("base", ["original", "caffe", "half"])
def test_a_last_relu_stays_where_pooling_comes_before_normalisation(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = {"norm_after_pool": True, "relu1_after_pool": True}
    norm = variants.ChannelNorm(alpha=1e-3, across_towers=base != "original")
    arch = dataclasses.replace(variants.get(base), hidden=64, channel_norm=norm, **order)
    monkeypatch.setitem(variants.VARIANTS, "reordered", arch)
    network = model.build("reordered", 10, initializer="he")
    # Noise on the squares: where responses are equal, rounding would decide which of them is pooled.
    noise = np.random.default_rng(1).normal(0.0, 1.0, (2, arch.input_size, arch.input_size, 3))
    check_against_torch(network, arch, _pixels(2, arch.input_size) / 10.0 + noise.astype("float32"))


def test_layer_1_of_the_source_normalises_before_it_rectifies(monkeypatch: pytest.MonkeyPatch) -> None:
    """conv1 is linear there: negative responses enter the norm, whose window stays inside the tower."""
    monkeypatch.setitem(
        variants.VARIANTS, "original", dataclasses.replace(variants.get("original"), hidden=8)
    )
    network = model.build("original", 10, initializer="he")
    for tower in "ab":
        names = (f"conv1_{tower}", f"relu1_{tower}")
        probe = keras.Model(network.input, [network.get_layer(name).output for name in names])
        responses, layer_1 = probe(_pixels(1, 224))
        assert np.min(responses) < -100.0
        maps = torch.tensor(np.asarray(responses)).permute(0, 3, 1, 2)
        expected = F.max_pool2d(F.local_response_norm(maps, 5, 1e-4, 0.75, 2.0), 3, 2).relu()
        _close(layer_1, expected.permute(0, 2, 3, 1), 1e-5)


@pytest.mark.parametrize(
    ("size", "padding", "stride"), [(5, 2, 1), (3, 1, 1), (3, 0, 1), (3, 1, 2), (2, 0, 3)]
)
def test_the_grouped_convolution_equals_pytorchs(size: int, padding: int, stride: int) -> None:
    biases = keras.initializers.RandomNormal(0, 1, seed=2)
    layer = TwoGroupConv2D(8, size, padding, strides=stride, bias_initializer=biases)
    x = np.random.default_rng(0).standard_normal((2, 9, 7, 6)).astype("float32")
    inputs = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        out = layer(inputs)
        loss = tf.reduce_sum(out**2)
    gradients = tape.gradient(loss, [inputs, layer.kernel, layer.bias])
    maps = torch.tensor(x.transpose(0, 3, 1, 2), requires_grad=True)
    weight = torch.tensor(np.asarray(layer.kernel).transpose(3, 2, 0, 1), requires_grad=True)
    bias = torch.tensor(np.asarray(layer.bias), requires_grad=True)
    expected = F.conv2d(maps, weight, bias, padding=padding, groups=2, stride=stride)
    assert tuple(out.shape) == layer.compute_output_shape(x.shape)
    (expected**2).sum().backward()
    _close(out, expected.detach().permute(0, 2, 3, 1), 1e-5)
    _close(gradients[0], maps.grad.permute(0, 2, 3, 1), 1e-5)
    _close(gradients[1], weight.grad.permute(2, 3, 1, 0), 1e-5)
    _close(gradients[2], bias.grad, 1e-5)


ON_TORCH = """
import dataclasses, sys
import keras
import numpy as np
from alexnet_tf import model
from alexnet_tf.network import variants

assert keras.backend.backend() == "torch"
assert "tensorflow" not in sys.modules
given = np.load(sys.argv[1])
for name in ("original", "merged", "half"):
    variants.VARIANTS[name] = dataclasses.replace(variants.get(name), hidden=32)
    network = model.build(name, 10, fused=True)
    for v in network.weights:
        v.assign(given[f"{name}/{v.path}"])
    scores = keras.ops.convert_to_numpy(network(given["pixels"], training=False))
    np.testing.assert_allclose(scores, given[f"{name}/scores"], rtol=0, atol=1e-4 * abs(scores).max())
    noisy = [keras.ops.convert_to_numpy(network(given["pixels"], training=True)) for _ in range(2)]
    assert np.isfinite(noisy).all() and np.any(noisy[0] != noisy[1])
print("equal")
"""


def test_the_networks_run_on_keras_torch_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = _pixels(1, 224) / 10.0
    given = {"pixels": pixels}
    for name in ("original", "merged", "half"):
        monkeypatch.setitem(variants.VARIANTS, name, dataclasses.replace(variants.get(name), hidden=32))
        network = model.build(name, 10, initializer="he")
        given |= {f"{name}/{v.path}": np.asarray(v) for v in network.weights}
        given[f"{name}/scores"] = np.asarray(network(pixels, training=False))
    path = tmp_path / "given.npz"
    np.savez(path, **given)
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    run = subprocess.run(
        [sys.executable, "-c", ON_TORCH, str(path)],
        capture_output=True, text=True, timeout=200, check=False, env=environment,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert run.stdout.splitlines()[-1] == "equal"

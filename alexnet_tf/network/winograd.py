"""3 x 3 convolutions with 2.25 times fewer multiplications: Winograd's F(2 x 2, 3 x 3) in float32.

After Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016, arXiv:1509.09308): each
2 x 2 outputs come from a 4 x 4 tile of the input, and both the tile and the kernel are transformed so that
what is left is 16 matrix products, which run at the processor's full rate: forward, by input and by kernel.
The sums are taken in another order than a convolution takes them and are as exact, for the transforms
only add, subtract and halve.

The transforms are XLA programs, which pass over memory once: these layers are for training on the
TensorFlow backend and not for export. Larger tiles need fewer multiplications, but on maps of 13 x 13 they
lose in the transforms what they gain, and their errors are three times as large.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from alexnet_tf.network.normalization import PACKAGE, Shape, Tensor

# The matrices of F(2, 3) by which an input tile, a kernel and the products are multiplied.
OF_INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]], np.float32)
OF_KERNEL = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
OF_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]], np.float32)
STEP, TILE = 2, 4  # outputs of a tile along one axis, and the inputs that they read


def _combinations(matrix: np.ndarray, parts: Sequence[Tensor]) -> list[Tensor]:
    """The product of a matrix and a column of arrays; a 0 costs nothing, a 1 or -1 no multiplication."""
    return [_combination(row, parts) for row in matrix.tolist()]


def _combination(weights: list[float], parts: Sequence[Tensor]) -> Tensor:
    total = None
    for weight, part in zip(weights, parts, strict=True):
        if weight == 0.0:
            continue
        scaled = part if abs(weight) == 1.0 else part * abs(weight)
        if total is None:
            total = scaled if weight > 0.0 else -scaled
        else:
            total = total + scaled if weight > 0.0 else total - scaled
    return total


def _overlapping(parts: list[Tensor], axis: int) -> list[Tensor]:
    """Tiles overlap by half: their first two places, plus the last two of the tiles before them."""
    before, after = [(0, 0)] * len(parts[0].shape), [(0, 0)] * len(parts[0].shape)
    before[axis], after[axis] = (1, 0), (0, 1)
    return [
        ops.pad(first, after) + ops.pad(second, before)
        for first, second in zip(parts[:STEP], parts[STEP:], strict=True)
    ]


def _interleaved(pair: list[Tensor], axis: int) -> Tensor:
    """Even and odd places along an axis as one array, twice as long there."""
    shape = [*pair[0].shape[:axis], STEP * pair[0].shape[axis], *pair[0].shape[axis + 1 :]]
    shape = [-1 if size is None else size for size in shape]
    return ops.reshape(ops.stack(pair, axis=axis + 1), shape)


class Tiling:
    """The transforms for maps of one size, padded with one zero on each side.

    Each works along one axis of the maps and then along the other, and has the 4 x 4 places of a tile as
    axes of the array: with an expression for each place a compiler takes ten times as long.

    Args:
      height, width: of the maps.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.down, self.across = -(-height // STEP), -(-width // STEP)  # tiles

    def of_input(self, x: Tensor) -> Tensor:
        """Maps [N, height, width, C] -> [16, tiles, C]."""
        around = (1, STEP * self.down + 1 - self.height), (1, STEP * self.across + 1 - self.width)
        padded = ops.pad(x, [(0, 0), *around, (0, 0)])
        span = STEP * (self.down - 1) + 1
        rows = ops.stack(_combinations(OF_INPUT, [padded[:, i : i + span : STEP] for i in range(TILE)]))
        span = STEP * (self.across - 1) + 1
        columns = [rows[:, :, :, j : j + span : STEP] for j in range(TILE)]
        places = ops.stack(_combinations(OF_INPUT, columns), axis=1)
        return ops.reshape(places, (TILE * TILE, -1, x.shape[-1]))

    def of_kernel(self, kernel: Tensor) -> Tensor:
        """[3, 3, C, F] -> [16, C, F]."""
        rows = ops.stack(_combinations(OF_KERNEL, [kernel[i] for i in range(3)]))
        places = ops.stack(_combinations(OF_KERNEL, [rows[:, j] for j in range(3)]), axis=1)
        return ops.reshape(places, (TILE * TILE, *kernel.shape[2:]))

    def to_output(self, products: Tensor, bias: Tensor) -> Tensor:
        """[16, tiles, F] -> maps [N, height, width, F] plus the bias [F]."""
        places = self._places(products)
        rows = _interleaved(_combinations(OF_OUTPUT, [places[i] for i in range(TILE)]), axis=2)
        maps = _interleaved(_combinations(OF_OUTPUT, [rows[j] for j in range(TILE)]), axis=2)
        return maps[:, : self.height, : self.width] + bias

    def of_output_gradient(self, upstream: Tensor) -> tuple[Tensor, Tensor]:
        """The maps' gradient -> those of the products, [16, tiles, F], and of the bias, [F]."""
        beyond = (0, STEP * self.down - self.height), (0, STEP * self.across - self.width)
        padded = ops.pad(upstream, [(0, 0), *beyond, (0, 0)])
        rows = ops.stack(_combinations(OF_OUTPUT.T, [padded[:, i::STEP] for i in range(STEP)]))
        columns = [rows[:, :, :, j::STEP] for j in range(STEP)]
        places = ops.stack(_combinations(OF_OUTPUT.T, columns), axis=1)
        products = ops.reshape(places, (TILE * TILE, -1, upstream.shape[-1]))
        return products, ops.sum(upstream, axis=(0, 1, 2))

    def to_input_gradient(self, tiles: Tensor) -> Tensor:
        """The gradient of `of_input`'s result -> that of the maps it was given."""
        places = self._places(tiles)
        parts = _combinations(OF_INPUT.T, [places[i] for i in range(TILE)])
        rows = _interleaved(_overlapping(parts, axis=2), axis=2)  # [4, N, 2 down + 2, across, C]
        parts = _combinations(OF_INPUT.T, [rows[j] for j in range(TILE)])
        padded = _interleaved(_overlapping(parts, axis=2), axis=2)
        return padded[:, 1 : 1 + self.height, 1 : 1 + self.width]

    def to_kernel_gradient(self, matrices: Tensor) -> Tensor:
        """The gradient of `of_kernel`'s result -> that of the kernel."""
        places = ops.reshape(matrices, (TILE, TILE, *matrices.shape[1:]))
        rows = ops.stack(_combinations(OF_KERNEL.T, [places[i] for i in range(TILE)]))
        return ops.stack(_combinations(OF_KERNEL.T, [rows[:, j] for j in range(TILE)]), axis=1)

    def _places(self, matrices: Tensor) -> Tensor:
        """[16, tiles, C] -> [4, 4, N, down, across, C]."""
        return ops.reshape(matrices, (TILE, TILE, -1, self.down, self.across, matrices.shape[-1]))


def _on_processor() -> bool:
    """Whether TensorFlow computes on the processor; a GPU's library has algorithms of its own."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf  # already loaded by the backend

    return not tf.config.list_physical_devices("GPU")


# Towers share the programs of layers of the same shape, so that each is compiled once.
@functools.cache
def _compiled(height: int, width: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """(x, kernel, bias) -> maps, with its gradient, the transforms as XLA programs."""
    import tensorflow as tf  # only reached on the TensorFlow backend

    tiling = Tiling(height, width)
    program = functools.partial(tf.function, jit_compile=True, autograph=False)
    of_input, of_kernel = program(tiling.of_input), program(tiling.of_kernel)
    to_output, of_output_gradient = program(tiling.to_output), program(tiling.of_output_gradient)
    to_input_gradient = program(tiling.to_input_gradient)
    to_kernel_gradient = program(tiling.to_kernel_gradient)

    @tf.custom_gradient
    def convolve(x: Tensor, kernel: Tensor, bias: Tensor) -> tuple[Tensor, Callable[..., Any]]:
        tiles, matrices = of_input(x), of_kernel(kernel)

        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            of_products, of_bias = of_output_gradient(upstream)
            of_tiles = tf.matmul(of_products, matrices, transpose_b=True)
            of_matrices = tf.matmul(tiles, of_products, transpose_a=True)
            return to_input_gradient(of_tiles), to_kernel_gradient(of_matrices), of_bias

        return to_output(tf.matmul(tiles, matrices), bias), gradient

    # What is differentiated must be tensors: a variable would be taken for one of the function's own.
    return lambda *inputs: convolve(*map(tf.convert_to_tensor, inputs))


@keras.saving.register_keras_serializable(PACKAGE)
class WinogradConv2D(keras.layers.Conv2D):
    """A 3 x 3 convolution of stride 1 with "same" padding, by Winograd's algorithm; see the module.

    It computes what `keras.layers.Conv2D` does, and leaves it to that in any other number type than
    float32, where there is a GPU, on any other backend than TensorFlow, and for maps of unknown size.

    Args:
      filters: Output channels.
      kernel_size: 3; as for the base class, so that one can stand for the other.
      **kwargs: The base class' own.
    """

    def __init__(self, filters: int, kernel_size: int | tuple[int, int] = 3, **kwargs: Any) -> None:
        super().__init__(filters, kernel_size, **{"padding": "same", **kwargs})
        plain = self.strides == self.dilation_rate == (1, 1) and self.groups == 1 and self.use_bias
        if self.kernel_size != (3, 3) or self.padding != "same" or not plain:
            raise ValueError(
                "Winograd's algorithm is for a 3 x 3 kernel with a bias, stride 1 and 'same' padding. "
                f"Received: {self.get_config()}"
            )
        self._function: Callable[..., Tensor] | None = None

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        height, width = input_shape[1:3]
        if self.compute_dtype == "float32" and height and width and _on_processor():
            self._function = _compiled(height, width)

    def call(self, inputs: Tensor) -> Tensor:
        if self._function is None:
            return super().call(inputs)
        return self.activation(self._function(inputs, self.kernel, self.bias))

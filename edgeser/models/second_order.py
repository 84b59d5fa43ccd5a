"""Convolution and batch normalisation whose second derivatives cost little more than their first.

    logits = forward(graph, weights, x, batch_norm(weights), operations=TWICE)
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)      # to be differentiated again

torch differentiates a convolution's gradients by convolutions of awkward shapes, and those of a batch normalisation by
some thirty passes. A convolution and its two gradients are one trilinear form, so the derivative of each is the others;
the derivative of a batch normalisation's gradient is a sum of three tensors with coefficients for each channel. What
is computed is what ``torch.nn.functional`` computes, in any floating type, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

from edgeser.models.network import Norm, Operations, Tensors
from edgeser_export.graph.op_graph import NORM_EPSILON


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """As ``functional.conv2d``: x (batch, channels, height, width), weight (outputs, channels, kernel, kernel)."""
    one_channel = weight.shape[1] == 1  # the library's own routines are several times slower for these
    y = (_as_product if one_channel else _by_library)(x, weight, stride, padding)
    return y if bias is None else y + bias[:, None, None]


def batch_norm(weights: Tensors) -> Norm:
    """As :func:`edgeser.models.network.batch_norm`: by the statistics of the batch, as in training."""

    def norm(name: str, x: Tensor) -> Tensor:
        return _apply(_BatchNorm, x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    return norm


def relu(x: Tensor) -> Tensor:
    """As ``functional.relu``."""
    return _apply(_Relu, x)


def mean_pool(x: Tensor, size: int) -> Tensor:
    """As ``functional.avg_pool2d``."""
    shape, pair = x.shape, [size, size]

    def spread(g: Tensor) -> Tensor:
        made: Tensor = torch.ops.aten.avg_pool2d_backward(g, _empty(g, shape), pair, pair, [0, 0], False, True, None)
        return made

    return _apply(_Linear, x, lambda each: functional.avg_pool2d(each, size), spread)


TWICE = Operations(convolve, relu, mean_pool)
"""Operations to differentiate twice; :func:`batch_norm` goes with them."""


def _apply(function: type[Function], *arguments: Any) -> Tensor:
    result: Tensor = function.apply(*arguments)  # type: ignore[no-untyped-call]
    return result


def _empty(like: Tensor, shape: torch.Size) -> Tensor:
    """A tensor of which only the shape, type and order are read."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


class _Form(NamedTuple):
    """A trilinear form <gradient, output(x, weight)> as its three maps; the derivative of each is the others.

    A map makes one of gradient, x and weight, in this order, of the two others in the same order.
    """

    output: Callable[[Tensor, Tensor], Tensor]
    """(x, weight) to the shape of the gradient."""
    by_x: Callable[[Tensor, Tensor], Tensor]
    """(gradient, weight) to the shape of x."""
    by_weight: Callable[[Tensor, Tensor], Tensor]
    """(gradient, x) to the shape of the weight."""


def _by_library(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """A convolution by the library, whose three routines for it are fast."""
    x_shape, weight_shape = x.shape, weight.shape

    def gradient(g: Tensor, x: Tensor, weight: Tensor, wanted: list[bool]) -> list[Tensor]:
        pairs = [stride] * 2, [padding] * 2, [1, 1]
        return list(torch.ops.aten.convolution_backward(g, x, weight, None, *pairs, False, [0, 0], 1, wanted))

    form = _Form(
        lambda x, weight: functional.conv2d(x, weight, None, stride, padding),
        lambda g, weight: gradient(g, _empty(g, x_shape), weight, [True, False, False])[0],
        lambda g, x: gradient(g, x, _empty(g, weight_shape), [False, True, False])[1],
    )
    return _apply(_Trilinear, x, weight, form, 0)


def _as_product(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """A convolution as a matrix product for each item, with the result in channels-last order."""
    outputs, kernel, window = len(weight), weight.shape[2], _Window(x.shape, weight.shape[2], stride, padding)
    form = _Form(
        lambda pieces, weight: torch.bmm(pieces.transpose(1, 2), weight.t().expand(len(pieces), -1, -1)),
        lambda g, weight: torch.bmm(weight.t().expand(len(g), -1, -1), g.transpose(1, 2)),
        lambda g, pieces: torch.bmm(pieces, g).sum(0).t(),
    )
    pieces = _apply(_Linear, x, window.unfold, window.fold)
    product = _apply(_Trilinear, pieces, weight.reshape(outputs, kernel * kernel), form, 0)
    return product.view(len(x), window.rows, window.columns, outputs).permute(0, 3, 1, 2)


class _Trilinear(Function):
    """The map of a form that makes the tensor at a place: 0 for the output, 1 for x, 2 for the weight."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, form: _Form, place: int) -> Tensor:
        ctx.save_for_backward(first, second)
        ctx.form, ctx.place = form, place
        return form[place](first, second)

    @staticmethod
    def backward(ctx: Any, made: Tensor) -> tuple[Tensor | None, ...]:
        known = [*ctx.saved_tensors]
        known.insert(ctx.place, made)
        found: list[Tensor | None] = []
        for place, wanted in zip([at for at in range(3) if at != ctx.place], ctx.needs_input_grad, strict=False):
            others = [tensor for at, tensor in enumerate(known) if at != place]
            found.append(_apply(_Trilinear, *others, ctx.form, place) if wanted else None)
        return (*found, None, None)


class _Linear(Function):
    """A linear map; the derivative of it is its transpose, of which the map is the transpose."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, linear: Callable[[Tensor], Tensor], transpose: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.maps = transpose, linear
        return linear(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return _apply(_Linear, g, *ctx.maps), None, None


@dataclass(frozen=True)
class _Window:
    """The places of a kernel in an input of ``shape``."""

    shape: torch.Size
    kernel: int
    stride: int
    padding: int

    @property
    def rows(self) -> int:
        return (self.shape[2] + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def columns(self) -> int:
        return (self.shape[3] + 2 * self.padding - self.kernel) // self.stride + 1

    def unfold(self, x: Tensor) -> Tensor:
        """The values that each place of the kernel sees: (batch, channels * kernel * kernel, outputs)."""
        padded = self._padded(x)
        self._inside(padded).copy_(x)
        windows = padded.unfold(2, self.kernel, self.stride).unfold(3, self.kernel, self.stride)
        return windows.permute(0, 1, 4, 5, 2, 3).reshape(len(x), self.shape[1] * self.kernel**2, -1)

    def fold(self, pieces: Tensor) -> Tensor:
        """The transpose of :meth:`unfold`: sums of what is seen at the same place of the input."""
        batch, channels, _, _ = self.shape
        split = pieces.reshape(batch, channels, self.kernel, self.kernel, self.rows, self.columns)
        padded = self._padded(pieces)
        for down in range(self.kernel):
            for right in range(self.kernel):
                below, beside = down + self.stride * self.rows, right + self.stride * self.columns
                padded[:, :, down : below : self.stride, right : beside : self.stride] += split[:, :, down, right]
        return self._inside(padded)

    def _padded(self, like: Tensor) -> Tensor:
        batch, channels, height, width = self.shape
        return like.new_zeros(batch, channels, height + 2 * self.padding, width + 2 * self.padding)

    def _inside(self, padded: Tensor) -> Tensor:
        _, _, height, width = self.shape
        return padded[:, :, self.padding : self.padding + height, self.padding : self.padding + width]


class _Relu(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = functional.relu(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return _apply(_Gate, g, *ctx.saved_tensors)


class _Gate(Function):
    """``g`` where ``y`` is positive; the library's also makes and adds zeros as the derivative by ``y``."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        if y.ndim == 4 and y.is_contiguous(memory_format=torch.channels_last):
            g = g.contiguous(memory_format=torch.channels_last)  # two orders in one operation are slow
        gated: Tensor = torch.ops.aten.threshold_backward(g, y, 0)
        return gated

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None]:
        return _apply(_Gate, g, *ctx.saved_tensors), None


class _BatchNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        y, mean, inverse = torch.native_batch_norm(x, scale, shift, None, None, True, 0.0, NORM_EPSILON)
        ctx.save_for_backward(x, scale, mean, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _BatchNormGradient.apply(gradient, *ctx.saved_tensors)  # type: ignore[no-untyped-call]


class _BatchNormGradient(Function):
    """With h = (x - mean) inverse, and g the gradient of the output: (s J g, <g, h>, <g, 1>) for each channel.

    J g = inverse (g - mean(g) - h mean(g h)) is symmetric, and mean and inverse are functions of x.
    """

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, scale: Tensor, mean: Tensor, inverse: Tensor) -> Any:
        for_x, for_scale, for_shift = torch.ops.aten.native_batch_norm_backward(
            g, x, scale, None, None, mean, inverse, True, NORM_EPSILON, [True, True, True]
        )
        ctx.save_for_backward(g, x, scale, mean, inverse, for_scale, for_shift)
        return for_x, for_scale, for_shift

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, u: Tensor, for_scale: Tensor, for_shift: Tensor) -> Any:
        """Derivatives of s <u, J g> + for_scale <g, h> + for_shift <g, 1> with respect to g, x and s."""
        g, x, s, mean, inverse, g_h, g_1 = ctx.saved_tensors
        count, axes = x.numel() // x.shape[1], (0, 2, 3)
        mean_g, mean_gh, mean_u = g_1 / count, g_h / count, u.sum(axes) / count
        mean_uh = ((u * x).sum(axes) / count - mean * mean_u) * inverse
        form = inverse * ((u * g).sum(axes) / count - mean_u * mean_g - mean_uh * mean_gh)  # <u, J g> / count
        slope = for_scale - s * inverse * mean_uh

        by_g = torch.addcmul(
            _wide(for_shift - s * inverse * mean_u - slope * inverse * mean), _wide(slope * inverse), x
        )
        by_g.addcmul_(_wide(s * inverse), u)
        along_h = inverse * (s * inverse * mean_uh * mean_gh - s * form - slope * mean_gh)
        constant = s * inverse**2 * mean_gh * mean_u - slope * inverse * mean_g - along_h * inverse * mean
        by_x = torch.addcmul(_wide(constant), _wide(along_h * inverse), x)
        by_x.addcmul_(_wide(-s * inverse**2 * mean_gh), u).addcmul_(_wide(slope * inverse), g)
        return by_g, by_x, form * count, None, None


def _wide(channels: Tensor) -> Tensor:
    return channels[:, None, None]

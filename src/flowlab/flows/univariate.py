"""Increasing maps of a number, with parameters from a net: what layers do to a coordinate."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from flowlab.flows.solve import find_root

LEAST, FLATTEST = 1e-2, 1e-3  # of a spline: a bin's size, to that of an even one; a knot's slope
STEEPEST, SPREAD = 4.6, 2.0  # of sigmoids: the greatest |log a|, of 100; the first |b|
LONGEST = 30.0  # the logarithm of how far, at most, x is taken to move with y where the map is flat


class Univariate(Protocol):
    """An increasing map of each coordinate by itself, with parameters that a net gives.

    Both methods take values (N, K) and parameters (N, num_parameters * K), all of the first kind
    before those of the second, to values (N, K) and the logarithms of the slopes of what they did,
    (N, K). `Affine` takes images too, with their channels on the last axis.
    """

    @property
    def num_parameters(self) -> int:
        """Of each coordinate."""

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]: ...

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]: ...


def _check_bound(bound: float) -> None:
    if not 0 < bound < math.inf:
        raise ValueError(f"bound must be positive and finite, got {bound}")


@dataclass(frozen=True)
class Affine:
    """y = x exp(s) + t,  s = bound * tanh(r / bound),  with the parameters (r, t).

    The soft bound keeps the map invertible in floating point far from the data.
    """

    bound: float = 1.0
    num_parameters = 2

    def __post_init__(self) -> None:
        _check_bound(self.bound)

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self._scale_and_shift(parameters)
        return torch.addcmul(t, x, s.exp()), s

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self._scale_and_shift(parameters)
        log_slope = -s
        return (y - t) * log_slope.exp(), log_slope

    def _scale_and_shift(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        r, t = parameters.chunk(2, dim=-1)
        return r.tanh() if self.bound == 1 else self.bound * (r / self.bound).tanh(), t


@dataclass(frozen=True)
class RationalQuadratic:
    """A spline of K rational quadratic pieces on [-B, B], and the identity outside.

    Between the knots (x_k, y_k) and (x_k+1, y_k+1), with the slopes d_k and d_k+1 there, the mean
    slope s = (y_k+1 - y_k) / (x_k+1 - x_k) and the place z = (x - x_k) / (x_k+1 - x_k):

        y = y_k + (y_k+1 - y_k) (s z^2 + d_k z (1 - z)) / (s + (d_k + d_k+1 - 2 s) z (1 - z))

    The parameters are K widths and K heights of bins, through a softmax, and the K - 1 slopes at
    inner knots, through a softplus moved so that it gives 1 for 0: zeros are the identity. No bin
    is smaller than `LEAST` of an even one, no slope smaller than `FLATTEST`.

    The inverse solves a z^2 + b z = c, where 0 <= e = y - y_k <= h = y_k+1 - y_k makes the
    discriminant (b - 2 s e)^2 + 4 s^2 e (h - e) a sum of squares, and takes the form of its root
    that subtracts nothing.

    Reference: Durkan et al., "Neural Spline Flows", NeurIPS 2019, eqs. (4) to (8), where a slope
    starts at log 2 and the discriminant can round to less than 0.
    """

    num_bins: int = 8
    bound: float = 5.0

    def __post_init__(self) -> None:
        _check_bound(self.bound)

    @property
    def num_parameters(self) -> int:
        return 3 * self.num_bins - 1

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        inside = x.abs() < self.bound
        x_in = torch.where(inside, x, 0.0)
        (x0, width), (y0, height), (d0, d1) = self._bin(x_in, parameters, 0)
        slope, z = height / width, (x_in - x0) / width
        moved, log_slope = _piece(slope, z, d0, d1)
        y = torch.addcmul(y0, height, moved)
        return torch.where(inside, y, x), torch.where(inside, log_slope, 0.0)

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        inside = y.abs() < self.bound
        y_in = torch.where(inside, y, 0.0)
        (x0, width), (y0, height), (d0, d1) = self._bin(y_in, parameters, 1)
        slope, e = height / width, y_in - y0
        b = height * d0 - e * (d0 + d1 - 2 * slope)
        c = 2 * slope * e
        root = ((b - c).square() + 2 * slope * c * (height - e)).sqrt()
        falls = b < 0  # then a = height * slope - b > 0
        top = torch.where(falls, root - b, c)
        z = top / torch.where(falls, 2 * (height * slope - b), b + root)
        x = torch.addcmul(x0, width, z)
        log_slope = _piece(slope, z, d0, d1)[1]
        return torch.where(inside, x, y), torch.where(inside, -log_slope, 0.0)

    def _bin(
        self, value: Tensor, parameters: Tensor, axis: int
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Of the bin of a value on the x axis, 0, or y axis, 1: start and size on both, slopes."""
        k, (n, num) = self.num_bins, value.shape
        raw = parameters.reshape(n, self.num_parameters, num).transpose(1, 2)
        knots = self._knots(raw[..., : 2 * k].reshape(-1, k).softmax(-1)).reshape(n, num, 2, k + 1)
        index = (value.unsqueeze(-1) >= knots[:, :, axis, 1:-1]).sum(-1, keepdim=True)
        index = torch.cat((index, index + 1), dim=-1)
        starts, ends = knots.gather(-1, index.unsqueeze(2).expand(-1, -1, 2, -1)).unbind(-1)
        (x0, y0), (width, height) = starts.unbind(-1), (ends - starts).unbind(-1)
        slopes = F.pad(raw[..., 2 * k :], (1, 1)).gather(-1, index)
        slopes = F.softplus(slopes + math.log(math.expm1(1 - FLATTEST))) + FLATTEST
        d0, d1 = slopes.unbind(-1)
        return (x0, width), (y0, height), (d0, d1)

    def _knots(self, parts: Tensor) -> Tensor:
        """From shares of bins (N, K) to knots (N, K + 1), the outer ones -B and B to the bit."""
        k, scale = self.num_bins, 2 * self.bound * (1 - LEAST)
        even = torch.linspace(
            -self.bound, self.bound, k + 1, dtype=parts.dtype, device=parts.device
        )
        before = F.pad(parts.new_ones(k, k - 1).triu(), (1, 1))  # which bins are before a knot
        return torch.addmm(even - before.mean(0) * scale, parts, before, alpha=scale)


def _piece(slope: Tensor, z: Tensor, d0: Tensor, d1: Tensor) -> tuple[Tensor, Tensor]:
    """The share of its height that a piece has climbed at z, and the logarithm of dy / dx."""
    left, right = torch.lerp(d0, slope, z), torch.lerp(slope, d1, z)
    bottom, top = torch.lerp(right, left, z), torch.lerp(left, right, z)
    return z * left / bottom, 2 * (slope / bottom).log() + top.log()


@dataclass(frozen=True)
class DeepSigmoid:
    """y = logit(sum_j w_j sigmoid(a_j x + b_j)),  sum_j w_j = 1,  a_j > 0: a monotone network.

    The parameters are the J logits of w, the J raw a, and the J shifts of b from numbers evenly
    spread over [-SPREAD, SPREAD]: with all b_j alike the sigmoids had one gradient and stayed
    alike for ever. a = exp(STEEPEST tanh(raw / STEEPEST)) keeps within [0.01, 100]. All is done
    with logarithms, so that nothing saturates: far out the map is a line.

    The inverse is found between min_j and max_j of (y - b_j) / a_j, for a mean of sigmoids lies
    between its members. Its gradients in y and the parameters are exact, by one Newton step of no
    value; second derivatives through it are not, nor those where the slope is below exp(-LONGEST).

    Reference: Huang et al., "Neural Autoregressive Flows", ICML 2018, section 3.1, "DSF".
    """

    num_sigmoids: int = 16

    @property
    def num_parameters(self) -> int:
        return 3 * self.num_sigmoids

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return deep_sigmoid_and_slope(x, *self._weights(x, parameters))

    def inverse(self, y: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        weights = _, log_a, b = self._weights(y, parameters)
        with torch.no_grad():
            single = (y.unsqueeze(1) - b) * (-log_a).exp()
            low, high = single.amin(1), single.amax(1)
            x = find_root(lambda x: deep_sigmoid(x, *weights) - y, low, high)
        if torch.is_grad_enabled():
            back, log_slope = deep_sigmoid_and_slope(x, *weights)
            miss = back - y
            stretch = (-log_slope.detach()).clamp(max=LONGEST).exp()
            x = x - (miss - miss.detach()) * stretch
        return x, -deep_sigmoid_and_slope(x, *weights)[1]

    def _weights(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The logarithms of w and a, and b, each (N, J, K)."""
        j = self.num_sigmoids
        w, a, b = parameters.reshape(len(x), 3, j, x.shape[1]).unbind(1)
        offsets = torch.linspace(-SPREAD, SPREAD, j, dtype=x.dtype, device=x.device)
        log_a = STEEPEST * (a / STEEPEST).tanh()
        return w.log_softmax(1), log_a, b + offsets.unsqueeze(-1)


def deep_sigmoid(x: Tensor, log_w: Tensor, log_a: Tensor, b: Tensor) -> Tensor:
    """The formula of `DeepSigmoid`."""
    z = torch.addcmul(b, log_a.exp(), x.unsqueeze(1))
    on = log_w + F.logsigmoid(z)
    return on.logsumexp(1) - (on - z).logsumexp(1)


def deep_sigmoid_and_slope(
    x: Tensor, log_w: Tensor, log_a: Tensor, b: Tensor
) -> tuple[Tensor, Tensor]:
    """The formula of `DeepSigmoid`, and the logarithm of its slope."""
    z = torch.addcmul(b, log_a.exp(), x.unsqueeze(1))
    log_on = F.logsigmoid(z)
    on = log_w + log_on
    off = on - z
    sum_on, sum_off = on.logsumexp(1, keepdim=True), off.logsumexp(1, keepdim=True)
    # each sigmoid's part of either sum first: far out one sum is huge and so is its term
    parts = torch.logaddexp(on - sum_on + log_on - z, off - sum_off + log_on)
    return (sum_on - sum_off).squeeze(1), (parts + log_a).logsumexp(1)

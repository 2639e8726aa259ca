"""The network of autoregressive layers: what it says of a coordinate depends on those before."""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowlab.flows.nets import new_layers

Find = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class MADE(nn.Module):
    """A masked MLP of ReLU units, P outputs for each of D coordinates, that starts by giving zero.

    Each hidden unit has a degree d and sees nothing of the coordinates after the d-th; the outputs
    for the d-th see the units of degrees below d. So degrees go from 1 to D - 1, as evenly as they
    can, and from 0 if there is a context, which all units see; a net of one coordinate without a
    context has no units. `reverse` counts the coordinates from the last.

    Shapes: x (N, D) and, if C is not 0, a context (N, C) to (N, P * D), the first of the P for all
    coordinates before the second.

    Reference: Germain et al., "MADE: Masked Autoencoder for Distribution Estimation", ICML 2015,
    section 4, with degrees that are not drawn but dealt out evenly and sorted.
    """

    def __init__(
        self,
        dim: int,
        num_hidden: int,
        num_out: int,
        *,
        context: int = 0,
        num_hidden_layers: int = 2,
        reverse: bool = False,
    ):
        super().__init__()
        least = 0 if context else 1
        count = num_hidden if dim > least else 0
        degrees = sorted(least + k % (dim - least) for k in range(count))
        ends = [sum(degree <= d for degree in degrees) for d in range(dim)]
        self.wiring = Wiring(dim, num_out, ends, reverse)
        order = list(range(1, dim + 1))[:: -1 if reverse else 1]
        levels = [order + [0] * context, *[degrees] * num_hidden_layers]
        levels += [[i - 1 for i in order] * num_out]
        sizes = [len(level) for level in levels]
        self.weights, self.biases = new_layers(sizes)
        self.masks = Masks([_mask(below, above) for below, above in pairwise(levels)])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        return self._net()(x, context)

    def in_turn(self, values: Tensor, context: Tensor | None, find: Find) -> tuple[Tensor, Tensor]:
        return self._net().in_turn(values, context, find)

    def _net(self) -> "MaskedNet":
        return MaskedNet(self.wiring, self.masks.put_on(self.weights), list(self.biases))


class Masks(nn.Module):
    """The masks of weights, on the device of their net but not saved with it."""

    def __init__(self, masks: Sequence[Tensor]):
        super().__init__()
        for i, mask in enumerate(masks):
            self.register_buffer(str(i), mask, persistent=False)

    def put_on(self, weights: Iterable[Tensor]) -> list[Tensor]:
        return [w * mask for w, mask in zip(weights, self.buffers(), strict=True)]


def _mask(below: Sequence[int], above: Sequence[int]) -> Tensor:
    """1 where a unit above may see one below, (above, below)."""
    sees = torch.tensor(above).unsqueeze(1) >= torch.tensor(below)
    return sees.to(torch.get_default_dtype())


class Wiring(NamedTuple):
    """How a masked net is put together."""

    dim: int
    num_out: int  # of each coordinate
    ends: list[int]  # how many units have degree 0 at most, 1 at most, ...: they are in this order
    reverse: bool


class MaskedNet(NamedTuple):
    """The formula of `MADE`, of weights that are masked already."""

    wiring: Wiring
    weights: list[Tensor]
    biases: list[Tensor]

    def __call__(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        hidden = x if context is None else torch.cat((x, context), dim=-1)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = F.linear(hidden, weight, bias).relu_()
        return F.linear(hidden, self.weights[-1], self.biases[-1])

    def in_turn(self, values: Tensor, context: Tensor | None, find: Find) -> tuple[Tensor, Tensor]:
        """The x of which the net says what `find(value, parameters)` needs to find it.

        Coordinate by coordinate, (N, D) both; the second result is the other that `find` gives.
        With a coordinate only the units of its degree become known, so that all passes together
        cost as much as one through the whole net.
        """
        dim, num_out, ends, reverse = self.wiring
        weight_in, weight_out = self.weights[0][:, :dim], self.weights[-1]
        weight_out = weight_out.reshape(num_out, dim, -1)
        bias_in, bias_out = self.biases[0], self.biases[-1].reshape(num_out, dim)
        if context is not None:
            bias_in = F.linear(context, self.weights[0][:, dim:], bias_in)
        order = list(range(dim))
        if reverse:
            order, weight_in = order[::-1], weight_in.flip(1)
        x, found = values[:, :0], []
        hidden = [x] * (len(self.weights) - 1)
        for degree, i in enumerate(order):
            hidden = self._grow(hidden, degree, x, weight_in, bias_in)
            weight = weight_out[:, i, : ends[degree]]
            parameters = F.linear(hidden[-1], weight, bias_out[:, i])
            found.append(find(values[:, i : i + 1], parameters))
            x = _beside(x, found[-1][0])
        results, log_slopes = zip(*(found[i] for i in order), strict=True)
        return torch.cat(results, dim=-1), torch.cat(log_slopes, dim=-1)

    def _grow(
        self, hidden: list[Tensor], degree: int, x: Tensor, weight_in: Tensor, bias_in: Tensor
    ) -> list[Tensor]:
        """The hidden layers' units up to a degree, given those of lower ones."""
        ends = self.wiring.ends
        start, stop = ends[degree - 1] if degree else 0, ends[degree]
        if start == stop and ends[-1]:  # a net of no units has empty weights
            return hidden
        grown, below = [], x
        for i, known in enumerate(hidden):
            weight, bias = (self.weights[i], self.biases[i]) if i else (weight_in, bias_in)
            weight = _block(weight, start, stop, below.shape[-1])
            new = F.linear(below, weight, bias[start:stop] if bias.dim() == 1 else None)
            new = new if bias.dim() == 1 else new + bias[:, start:stop]
            below = _beside(known, new.relu_())
            grown.append(below)
        return grown


def _block(weight: Tensor, start: int, stop: int, columns: int) -> Tensor:
    """Some rows and the first columns; autograd pays for each cut, so none is made for nothing."""
    if stop - start < weight.shape[0]:
        weight = weight[start:stop]
    return weight[:, :columns] if columns < weight.shape[1] else weight


def _beside(left: Tensor, right: Tensor) -> Tensor:
    return torch.cat((left, right), dim=-1) if left.shape[-1] else right

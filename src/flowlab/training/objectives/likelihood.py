"""Maximum likelihood."""

from typing import Any

import torch
from torch import Tensor

from flowlab.data import Data, Points
from flowlab.flows import Flow
from flowlab.training.objectives.bits import importance_weighted, in_bits
from flowlab.training.objectives.gaussian import gaussian_nll
from flowlab.training.objectives.objective import PER_POINT, Objective, excess, stderr


class Likelihood(Objective[Flow]):
    """Maximum likelihood: the negative log-likelihood (NLL) -log q(x), in nats per point."""

    name, label = "nll", "NLL"

    def lowest(self, data: Data) -> tuple[str, float, float] | None:
        """The entropy, as the points of a split have it: so theirs is not in the difference."""
        if data.truth is None:
            return None
        log_p: Any = data.truth.log_prob
        train, val = (
            -float(log_p(*(points if points.context is not None else points[:1])).mean())
            for points in (data.train, data.val)
        )
        return "entropy", train, val

    def loss(self, flow: Flow, x: Tensor, context: Tensor | None = None) -> Tensor:
        return -flow.log_prob(x, context)

    @torch.no_grad()
    def test(self, flow: Flow, data: Data, seed: int) -> dict[str, Any]:
        """The NLL of each split, of the test's points with its standard error.

        Where the truth p is known, its entropy H, the lowest NLL there is, and the excess over it,

            KL(p || q) = E_p[log p(x) - log q(x)] = E_p[-log q(x)] - H

        Of data with units, the NLL of a Gaussian, and as its error the standard error of the
        difference. Of images, the bits per dimension, by one draw of their noise and by several.
        """

        def nll(points: Points) -> Tensor:
            return self.loss(flow, *points).cpu().double()

        test = nll(data.test)
        figures = {
            "train/nll": nll(data.train).mean(),
            "val/nll": nll(data.val).mean(),
            "test/nll": test.mean(),
            "test/nll_stderr": stderr(test),
        }
        if data.support is not None and (gaussian := gaussian_nll(data)) is not None:
            figures["test/nll_gaussian"] = gaussian.mean()
            figures["test/nll_gaussian_error"] = stderr(gaussian - test)
        if data.levels is not None:
            several = importance_weighted(flow, data, seed)
            for name, values in (("", test), ("_iw", several)):
                bits = in_bits(values, data)
                figures[f"test/bits_per_dim{name}"] = bits.mean()
                figures[f"test/bits_per_dim{name}_stderr"] = stderr(bits)
        if data.truth is not None:
            figures |= excess(flow, data.truth, seed)
        points = {PER_POINT: -test.float()}
        return {name: float(figure) for name, figure in figures.items()} | points

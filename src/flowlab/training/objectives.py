"""What a training minimizes, and how its result is tested."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from flowlab.data import Data, Points
from flowlab.errors import NonFiniteError
from flowlab.flows import Flow
from flowlab.rng import generator
from flowlab.targets import Conditional, Target
from flowlab.targets.divergence import Divergence, conditional_kl_divergence, kl_divergence
from flowlab.training.bits import importance_weighted, in_bits
from flowlab.training.gaussian import gaussian_nll

ERRORS = ("_stderr", "_error")  # how the names of figures end that say how sure another is


class Objective(Protocol):
    """A loss for each point, and the figures of a flow that was trained by it.

    To add one, write a class with these and a file in `conf/objective/` that names it.
    """

    name: str  # of the loss, as in train/NAME and val/NAME

    def loss(self, flow: Flow, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The loss of each point, in nats: (N, *shape) -> (N,)."""

    def test(self, flow: Flow, data: Data, seed: int) -> dict[str, float]:
        """The figures of a flow, by name; those whose name ends as in `ERRORS` are errors.

        Among them are train/NAME and val/NAME; the last decides which of several flows is the best.
        """


class Likelihood:
    """Maximum likelihood: the negative log-likelihood (NLL) -log q(x), in nats per point."""

    name = "nll"

    def loss(self, flow: Flow, x: Tensor, context: Tensor | None = None) -> Tensor:
        return -flow.log_prob(x, context)

    @torch.no_grad()
    def test(self, flow: Flow, data: Data, seed: int) -> dict[str, float]:
        """The NLL of each split, of the test's points with its standard error.

        Where the truth is known, its entropy H, the lowest NLL there is, and the excess over it,

            KL(p || q) = E_p[log p(x) - log q(x)] = E_p[-log q(x)] - H

        not from the test's points but by `kl_divergence`, with the error that this leaves. Of data
        with units, the NLL of a Gaussian, and as its error the standard error of the difference. Of
        images, the bits per dimension, by one draw of their noise and by several.
        """
        # a flow with units brings points to its type by itself
        like: Any = flow.base.loc if flow.units is None else flow.base.loc.device

        def nll(points: Points) -> Tensor:
            return self.loss(flow, *points.map(lambda t: t.to(like))).cpu().double()

        test = nll(data.test)
        figures = {
            "train/nll": nll(data.train).mean(),
            "val/nll": nll(data.val).mean(),
            "test/nll": test.mean(),
            "test/nll_stderr": _stderr(test),
        }
        if data.support is not None and (gaussian := gaussian_nll(data)) is not None:
            figures["test/nll_gaussian"] = gaussian.mean()
            figures["test/nll_gaussian_error"] = _stderr(gaussian - test)
        if data.levels is not None:
            several = importance_weighted(flow, data, seed)
            for name, values in (("", test), ("_iw", several)):
                bits = in_bits(values, data)
                figures[f"test/bits_per_dim{name}"] = bits.mean()
                figures[f"test/bits_per_dim{name}_stderr"] = _stderr(bits)
        if data.truth is not None:
            figures["test/kl"], figures["test/kl_error"] = _kl(flow, data.truth, seed)
            figures["test/entropy"] = torch.tensor(data.truth.entropy, dtype=torch.float64)
        return {name: float(figure) for name, figure in figures.items()}


def _stderr(values: Tensor) -> Tensor:
    """The standard error of the mean."""
    deviation: Tensor = values.std(correction=min(1, len(values) - 1))
    return deviation / math.sqrt(len(values))


def _kl(flow: Flow, truth: Target | Conditional, seed: int) -> Divergence:
    def log_q(x: Tensor, context: Tensor | None = None) -> Tensor:
        points = Points(x, context).map(lambda t: t.to(flow.base.loc))
        return flow.log_prob(*points).cpu().double()

    if isinstance(truth, Conditional):
        return conditional_kl_divergence(truth, log_q)
    fresh = generator("data/fresh", seed)
    return kl_divergence(truth, log_q, lambda n: truth.sample(n, fresh))


def summarized(figures: Sequence[dict[str, float]], best: int) -> dict[str, Any]:
    """The figures of one flow; of several their means, standard errors, and all of them.

    The standard error is over the flows, which differ in all that is drawn from their seeds. Raises
    NonFiniteError for a figure that is none.
    """
    for name, figure in (item for flow in figures for item in flow.items()):
        if not math.isfinite(figure):
            raise NonFiniteError(f"{name} is {figure}; try a lower optimizer.lr")
    if len(figures) == 1:
        return dict(figures[0])
    common = [name for name in figures[0] if all(name in flow for flow in figures)]
    lists = {name: [flow[name] for flow in figures] for name in common}
    result: dict[str, Any] = {name: float(np.mean(values)) for name, values in lists.items()}
    for name, values in lists.items():
        if not name.endswith((*ERRORS, "/entropy")):
            result[f"{name}_stderr"] = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return result | {"best_replicate": best, "replicates": lists}

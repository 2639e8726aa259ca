"""Variational inference: a flow fitted to a density that can be evaluated, but not drawn from."""

import math
from typing import Any

import torch
from torch import Tensor

from flowlab.data import Data, Points
from flowlab.flows import Flow
from flowlab.rng import generator
from flowlab.targets import Conditional, Target, Unnormalized, build_target
from flowlab.training.objectives.objective import Objective, excess, stderr, warmed_up


class ReverseKL(Objective[Flow]):
    """The reverse KL of a flow q to a density p = f / Z, up to log Z, by samples of the flow.

        -ELBO = E_q[log q(x) - beta log f(x)] = KL(q || p) - log Z   (beta = 1)

    The samples are x = T(u), u standard normal, so that gradients go through them, base to data;
    all families have them there, those cheaply that have a formula for that way, as
    `flow.direction=sampling` gives it. `target` and `dim` are those of `build_target`. Of the data
    nothing is used in training but how many points a batch has, and their contexts. `annealing` is
    the share of the epochs over which beta rises to 1, as a line; 0 is for none.

    Reference: Rezende and Mohamed, "Variational Inference with Normalizing Flows", ICML 2015,
    eqs. (15) and (20), where beta is min(1, 0.01 + t / 10000).
    """

    name, label = "negative_elbo", "negative ELBO"
    generates = True

    def __init__(self, target: str, dim: int | None, annealing: float):
        super().__init__()
        self.truth: Target | Conditional | Unnormalized = build_target(target, dim)
        self.target, self.annealing = target, annealing

    def lowest(self, data: Data) -> tuple[str, float, float] | None:
        log_z: float | None = getattr(self.truth, "log_z", 0.0)
        return None if log_z is None else ("($-$log Z)", -log_z, -log_z)

    def loss(self, flow: Flow, x: Tensor, context: Tensor | None = None) -> Tensor:
        drawn, log_q = _drawn(flow, torch.randn_like(x), context)
        beta = warmed_up(self.progress, self.annealing, flow.training)
        return log_q - beta.to(log_q) * self.log_density(drawn, context)

    def log_density(self, x: Tensor, context: Tensor | None) -> Tensor:
        """Log f(x), or log f(x | c), in nats: (N, D) and (N, C) -> (N,)."""
        truth: Any = self.truth
        log_f = truth.log_density if hasattr(truth, "log_density") else truth.log_prob
        result: Tensor = log_f(x) if context is None else log_f(x, context)
        return result

    @torch.no_grad()
    def test(self, flow: Flow, data: Data, seed: int) -> dict[str, float]:
        """The ELBO, and what importance sampling with the flow says, by as many samples as a split.

        With the weights w = f(x) / q(x) of n samples, not for a density that has a context,

            log Z = log mean(w),   ESS = (sum w)^2 / (n sum w^2), a share of n

        and, where the true log Z is known, its error and KL(q || p) = log Z - ELBO. Both are blind
        to what the flow misses; KL(p || q), where the truth is known, is not.
        """
        figures = {}
        for split in ("train", "val", "test"):
            weights = self._log_weights(
                flow, getattr(data, split), generator(f"elbo/{split}", seed)
            )
            figures[f"{split}/negative_elbo"] = -weights.mean()
        del figures["test/negative_elbo"]
        figures["test/elbo"], figures["test/elbo_stderr"] = weights.mean(), stderr(weights)
        log_z = getattr(self.truth, "log_z", 0.0)
        if log_z is not None:
            figures["test/reverse_kl"] = log_z - weights.mean()
        if data.num_context == 0:
            figures |= _evidence(weights, log_z)
        if data.truth is not None:
            figures |= excess(flow, data.truth, seed)
        return {name: float(figure) for name, figure in figures.items()}

    def _log_weights(self, flow: Flow, points: Points, g: torch.Generator) -> Tensor:
        """Log f(x) - log q(x) of as many samples as there are points, with their contexts: (N,)."""
        like, parts = flow.base.loc, []
        u = torch.randn(len(points.x), flow.dim, generator=g)
        for start in range(0, len(u), flow.chunk):
            piece = slice(start, start + flow.chunk)
            context = None if points.context is None else points.context[piece].to(like)
            x, log_q = _drawn(flow, u[piece].to(like), context)
            parts.append((self.log_density(x, context) - log_q).cpu().double())
        return torch.cat(parts)


def _drawn(flow: Flow, u: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    """Samples from base points u (N, D), and their log-density: (N, D) and (N,)."""
    x, log_det = flow.inverse(u, context)
    return x, flow.base.log_prob(u) - log_det


def _evidence(log_weights: Tensor, log_z: float | None) -> dict[str, Tensor]:
    """Log Z and the effective sample size of importance weights."""
    n = len(log_weights)
    total, squares = torch.logsumexp(log_weights, 0), torch.logsumexp(2 * log_weights, 0)
    ess = (2 * total - squares).exp() / n
    found = {"test/log_z": total - math.log(n), "test/ess": ess}
    # that of a mean, relative to the mean, by the delta method
    found["test/log_z_stderr"] = ((1 / ess - 1).clamp(min=0) / max(n - 1, 1)).sqrt()
    if log_z is not None:
        found["test/log_z_error"] = found["test/log_z"] - log_z
    return found

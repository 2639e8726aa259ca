"""What an objective is, and what all of them share."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from flowlab.data import Data
from flowlab.errors import NonFiniteError
from flowlab.flows import Flow, build_flow
from flowlab.rng import generator
from flowlab.targets import Conditional, Target
from flowlab.targets.divergence import Divergence, conditional_kl_divergence, kl_divergence

LEAST = 0.01  # of what comes in step by step, at the start
M = TypeVar("M", bound=nn.Module)
PER_POINT = "log_prob"
ERRORS = ("_stderr", "_error")  # how the names of figures end that say how far off another may be


class Objective(ABC, Generic[M]):
    """A loss for each point, and the figures of a flow that was trained by it.

    To add one, subclass this and write a file in `conf/objective/` that names the class. `progress`
    is the share of the epochs that are done, () in [0, 1], for a loss that changes on the way; a
    flow that is evaluated (`flow.eval()`) gets the loss of the end.
    """

    name: str  # of the loss, as in train/NAME and val/NAME
    label: str  # of the loss in pictures
    generates = False  # whether the loss goes from base to data

    def __init__(self) -> None:
        self.progress = torch.tensor(0.0)

    def build(
        self,
        options: Mapping[str, Any],
        shape: tuple[int, ...],
        context: int = 0,
        support: Any = None,
    ) -> M:
        """What is trained: a flow of points of a shape. Raises ValueError as `build_flow` does."""
        return cast(M, self.flow(shape=shape, context=context, support=support, **options))

    def flow(self, **options: Any) -> Flow:
        """A flow by `build_flow`; for a loss that `generates` it must have a formula for that way.

        Raises ValueError for one that has a formula for data to base alone.
        """
        flow = build_flow(**options)
        if self.generates and not flow.generates:
            other = {"density": "sampling", "sampling": "density"}[flow.config["direction"]]
            raise ValueError(
                "it has a formula for data to base, and this objective goes from base to data in "
                f"each step; add flow.direction={other}"
            )
        return flow

    def lowest(self, data: Data) -> tuple[str, float, float] | None:
        """The name of the lowest mean loss there can be, if known, and its value on two splits.

        They are those of training and validation, in nats.
        """
        return None

    @abstractmethod
    def loss(self, flow: M, x: Tensor, context: Tensor | None = None) -> Tensor:
        """The loss of each point, in nats: (N, *shape) -> (N,)."""

    @abstractmethod
    def test(self, flow: M, data: Data, seed: int) -> dict[str, Any]:
        """The figures of a flow, by name; those whose name ends as in `ERRORS` are errors.

        Among them are train/NAME and val/NAME; the last decides which of several flows is the best.
        One of `flowlab.runs.figures.TESTS` must be there too, for reports to compare. `PER_POINT`
        is no figure: the log-density of each test point, (N,), for those who have one.
        """


def warmed_up(progress: Tensor, share: float, training: bool) -> Tensor:
    """The weight of what comes in over a share of the training: min(1, 0.01 + progress / share).

    It is 1 in evaluation, and for a share of 0.
    """
    if not training or not share:
        return torch.ones(())
    return (LEAST + progress / share).clamp(max=1)


def stderr(values: Tensor) -> Tensor:
    """The standard error of the mean."""
    deviation: Tensor = values.std(correction=min(1, len(values) - 1))
    return deviation / math.sqrt(len(values))


def excess(flow: Flow, truth: Target | Conditional, seed: int) -> dict[str, Tensor]:
    """How far a flow q is from the true density p, in nats, and the entropy of p.

        KL(p || q) = E_p[log p(x) - log q(x)]

    It is not from the test's points but by `kl_divergence`, with the error that this leaves.
    """

    def log_q(x: Tensor, context: Tensor | None = None) -> Tensor:
        return flow.log_prob(x, context).cpu().double()

    found: Divergence
    if isinstance(truth, Conditional):
        found = conditional_kl_divergence(truth, log_q)
    else:
        fresh = generator("data/fresh", seed)
        found = kl_divergence(truth, log_q, lambda n: truth.sample(n, fresh))
    entropy = torch.tensor(truth.entropy, dtype=torch.float64)
    return {"test/kl": found.kl, "test/kl_error": found.error, "test/entropy": entropy}


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

"""The loss curve, above its lowest value where that is known, or beside a table's Gaussian."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

from torch import nn

from flowlab.callbacks.picture import Drawing, Picture
from flowlab.data import Data
from flowlab.plots import curves
from flowlab.training.objectives.gaussian import gaussian_nll


class Loss(Picture):
    """The loss of training and validation by epoch, of replicates a band; it outlives a resume."""

    of = nn.Module

    def draw(self, flow: nn.Module, data: Data) -> Iterator[Drawing]:
        objective = self.training.objective
        line = objective.lowest(data) or self._gaussian
        epochs, train, val = map(list, self.training.history.values())
        yield "loss", curves.loss, epochs, train, val, objective.label, line

    @cached_property
    def _gaussian(self) -> tuple[str, float] | None:
        """The validation NLL of a Gaussian, of replicates' data sets the mean; None without one."""
        nlls = [
            gaussian_nll(replace(data, test=data.val))
            for data in self.training.data.sets
            if data.support is not None
        ]
        means = [float(nll.mean()) for nll in nlls if nll is not None]
        return ("Gaussian", sum(means) / len(means)) if means else None

"""The loss curve: above its lowest value where that is known, or beside a table's Gaussian."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

import numpy as np
from torch import nn

from flowlab.callbacks.picture import Drawing, Picture
from flowlab.data import Data
from flowlab.plots import curves
from flowlab.training.objectives.gaussian import gaussian_nll


class Loss(Picture):
    """The loss of training and validation by epoch, of replicates a band; it outlives a resume.

    Where the lowest loss is known it is subtracted: what is left is how far there is to go.
    """

    of = nn.Module

    def draw(self, flow: nn.Module, data: Data) -> Iterator[Drawing]:
        label = self.training.objective.label
        epochs, *losses = self.training.history.values()
        train, val = (np.array(values) for values in losses)  # (epochs, R)
        if self._lowest is None:
            yield "loss", curves.loss, list(epochs), train, val, label, self._gaussian
        else:
            name, lowest = self._lowest
            above = train - lowest[:, 0], val - lowest[:, 1]
            yield "loss", curves.excess, list(epochs), *above, f"{label} $-$ {name}"

    @cached_property
    def _lowest(self) -> tuple[str, np.ndarray] | None:
        """The lowest loss's name, and what it is of both splits of each replicate, (R or 1, 2)."""
        objective = self.training.objective
        found = [objective.lowest(data) for data in self.training.data.sets]
        known = [lowest for lowest in found if lowest is not None]
        return (known[0][0], np.array([values for _, *values in known])) if known else None

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

"""The loss curve, above the entropy where it is known, and beside a Gaussian's loss for a table."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property

from flowlab.callbacks.picture import Drawing, Picture
from flowlab.data import Data
from flowlab.flows import Flow
from flowlab.plots import curves
from flowlab.training.gaussian import gaussian_nll


class Loss(Picture):
    """The loss of training and validation by epoch, of replicates a band; it outlives a resume."""

    def draw(self, flow: Flow, data: Data) -> Iterator[Drawing]:
        line = self._gaussian
        if data.truth is not None:
            line = ("entropy", data.truth.entropy)
        epochs, train, val = map(list, self.training.history.values())
        yield "loss", curves.loss, epochs, train, val, line

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

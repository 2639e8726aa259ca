"""The loss curve, with the entropy as its floor where it is known."""

from collections.abc import Iterator

from flowlab.callbacks.picture import Drawing, Picture
from flowlab.data import Data
from flowlab.flows import Flow
from flowlab.plots import curves


class Loss(Picture):
    """The loss of training and validation by epoch, of replicates a band; it outlives a resume."""

    def draw(self, flow: Flow, data: Data) -> Iterator[Drawing]:
        entropy = None if data.truth is None else data.truth.entropy
        epochs, train, val = map(list, self.training.history.values())
        yield "loss", curves.loss, epochs, train, val, entropy

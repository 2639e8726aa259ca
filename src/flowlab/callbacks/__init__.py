"""What a run draws, logs and saves while it trains; one file each."""

from flowlab.callbacks.checkpoint import Checkpoint
from flowlab.callbacks.density import Density
from flowlab.callbacks.film import Film
from flowlab.callbacks.grid import Grid
from flowlab.callbacks.images import Images, Reconstructions
from flowlab.callbacks.interrupt import Interrupt
from flowlab.callbacks.latents import Latents
from flowlab.callbacks.loss import Loss
from flowlab.callbacks.pairs import Pairs
from flowlab.callbacks.progress import Progress
from flowlab.callbacks.quantiles import Quantiles
from flowlab.callbacks.rates import Rates
from flowlab.callbacks.samples import Samples

__all__ = [
    "Checkpoint",
    "Density",
    "Film",
    "Grid",
    "Images",
    "Interrupt",
    "Latents",
    "Loss",
    "Pairs",
    "Progress",
    "Quantiles",
    "Rates",
    "Reconstructions",
    "Samples",
]

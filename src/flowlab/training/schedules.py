"""Learning-rate schedules: a factor on the optimizer's rate, as a function of progress in [0, 1).

Functions of where the training is and of nothing else, so that a resumed run, also one with more
epochs, has the rates that it would have had from the start.
"""

import math


def constant(progress: float) -> float:
    """The optimizer's rate throughout."""
    return 1.0


def cosine(progress: float) -> float:
    """Half a cosine, from the optimizer's rate down to zero.

    >>> [round(cosine(p), 2) for p in (0, 0.25, 0.5, 1)]
    [1.0, 0.85, 0.5, 0.0]
    """
    return 0.5 * (1 + math.cos(math.pi * progress))


def onecycle(progress: float, warmup: float, start: float) -> float:
    """Half a cosine up from `start`, over the first part `warmup`, and half a cosine down to zero.

    Reference: Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using
    Large Learning Rates", 2018.

    >>> [round(onecycle(p, warmup=0.3, start=0.04), 2) for p in (0, 0.15, 0.3, 0.65, 1)]
    [0.04, 0.52, 1.0, 0.5, 0.0]
    """
    if progress < warmup:
        return 1 - (1 - start) * cosine(progress / warmup)
    return cosine((progress - warmup) / (1 - warmup))

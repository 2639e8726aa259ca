"""The units of images: whole numbers with noise, as numbers of any size."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from flowlab.flows.transform import Transform

MOST_LEVELS = 2**16


class Pixels(Transform):
    """Numbers of pixels in [0, Q), whole ones with uniform noise, brought to the order of 1.

        without logit:  u = x / Q - 1/2,                   log u' = -log Q
        with logit a:   u = log s - log(1 - s),            log u' = log((1 - 2 a) / Q)
                        s = a + (1 - 2 a) x / Q                     - log s - log(1 - s)

    Where s is not in (0, 1) the log-det is minus infinity, and with it the log-density, which is
    that of x. So of images of D such numbers the bits per dimension are -log p(x) / (D log 2).

    Reference: Dinh et al., "Density estimation using Real NVP", ICLR 2017, section 4.1.

    >>> x, log_det = Pixels(256, logit=0.05).inverse(torch.zeros(1, 3))
    >>> x
    tensor([[128., 128., 128.]])
    """

    unit: Tensor

    def __init__(self, levels: int, logit: float | None):
        super().__init__()
        self.levels = levels
        self.logit = logit
        # of the type of the weights, which points are brought to
        self.register_buffer("unit", torch.ones(()), persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        share = x.to(self.unit) / self.levels
        if self.logit is None:
            return share - 0.5, self._log_slope.expand(len(x)) * x.shape[-1]
        s = self.logit + (1 - 2 * self.logit) * share
        outside = (s <= 0) | (s >= 1)
        s = torch.where(outside, 0.5, s)  # in the place of what has no logarithm
        log, log_rest = s.log(), (-s).log1p()
        log_slopes = torch.where(outside, -math.inf, self._log_slope - log - log_rest)
        return log - log_rest, log_slopes.sum(-1)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if self.logit is None:
            return (u + 0.5) * self.levels, -self._log_slope.expand(len(u)) * u.shape[-1]
        least = torch.finfo(u.dtype).eps
        s = u.sigmoid().clamp(least, 1 - least)
        x = (s - self.logit) / (1 - 2 * self.logit) * self.levels
        log_slopes = logsigmoid(u) + logsigmoid(-u) - self._log_slope
        return x, log_slopes.sum(-1)

    @property
    def _log_slope(self) -> Tensor:
        """Of what is not the logistic function's: ()."""
        return self.unit * math.log((1 - 2 * (self.logit or 0)) / self.levels)


def checked_pixels(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of `Pixels` as plain numbers; raises ValueError for others."""
    levels, logit = keywords.get("levels", 0), keywords.get("logit")
    known = keywords.keys() <= {"levels", "logit"} and type(levels) is int
    if not known or not 1 < levels <= MOST_LEVELS:
        raise ValueError(f"support of pixels must be {{levels: 256, logit: 0.05}}, got {keywords}")
    if logit is not None and not (type(logit) in (int, float) and 0 < logit < 0.5):
        raise ValueError(f"logit of pixels must be null or between 0 and 0.5, got {logit!r}")
    return {"levels": levels, "logit": None if logit is None else float(logit)}

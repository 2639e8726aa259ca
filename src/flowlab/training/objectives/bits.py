"""How many bits a flow of images needs for each of their numbers."""

import math
from typing import Any

import torch
from torch import Tensor

from flowlab.data import Data, dequantized
from flowlab.flows import Flow
from flowlab.rng import generator

DRAWS = 64  # of the noise
MOST = 1000  # images, each of which is evaluated as often


def in_bits(nll: Tensor, data: Data) -> Tensor:
    """NLLs in nats per image as bits per dimension, which of a density on pixels' numbers they are.

    With noise u uniform on the unit cube, a distribution P(x) = E[p(x + u)] over images x has

        -log2 P(x) <= E[-log2 p(x + u)]

    so that the NLL of one draw of u is a bound, on the average of images.

    Reference: Theis et al., "A note on the evaluation of generative models", ICLR 2016,
    section 3.1.
    """
    return nll / (math.prod(data.shape) * math.log(2))


@torch.no_grad()
def importance_weighted(flow: Flow, data: Data, seed: int) -> Tensor:
    """The NLL of test images by several draws of their noise, a tighter bound: (n,), in nats.

        -log (1/K sum_k p(x + u_k)),   K = DRAWS

    Of at most `MOST` images, from all over the test's. The draws are from the run's seed.

    Reference: Burda et al., "Importance Weighted Autoencoders", ICLR 2016, eq. (8).
    """
    g, total = generator("data/noise/draws", seed), len(data.test.x)
    num = min(total, MOST)
    x = data.test.x[torch.arange(num) * total // num].floor()
    width = torch.ones(())
    log_probs: list[Any] = []
    for _ in range(DRAWS):
        drawn = dequantized(x, width, torch.rand(x.shape, generator=g))
        log_probs.append(flow.log_prob(drawn).cpu().double())
    return math.log(DRAWS) - torch.stack(log_probs).logsumexp(0)

"""Variational autoencoders: a density of images by way of latents."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from flowlab.data import Data
from flowlab.flows import Autoencoder
from flowlab.flows.transform import ShapeError
from flowlab.rng import generator
from flowlab.training.objectives.objective import Objective, stderr, warmed_up

DRAWS = 500  # of latents for an image
MOST = 1000  # images, each of which is evaluated as often
PIECE = 1000  # images at once


class ELBO(Objective[Autoencoder]):
    """The evidence lower bound of a variational autoencoder of binary images.

        -ELBO = E_q[beta (log q(z | x) - log p(z)) - log p(x | z)] >= -log p(x)   (beta = 1)

    with one draw of z from the posterior, a flow of `num_latents` numbers whose context are
    `num_features` features of the image. `annealing` is the share of the epochs over which beta
    rises to 1, as a line; 0 is for none.

    Reference: Rezende and Mohamed, "Variational Inference with Normalizing Flows", ICML 2015,
    eq. (15); Bowman et al., "Generating Sentences from a Continuous Space", CoNLL 2016, for beta.
    """

    name, label = "negative_elbo", "negative ELBO"
    generates = True

    def __init__(self, num_latents: int, num_features: int, annealing: float):
        super().__init__()
        self.num_latents, self.num_features = num_latents, num_features
        self.annealing = annealing

    def build(
        self,
        options: Mapping[str, Any],
        shape: tuple[int, ...],
        context: int = 0,
        support: Any = None,
    ) -> Autoencoder:
        if len(shape) < 2 or context:
            raise ShapeError(f"objective=elbo is for images, got points of the shape {shape}")
        if not isinstance(support, Mapping) or support["levels"] != 2:
            hint = "add data.binary=true to data=digits or data=images"
            raise ValueError(f"objective=elbo is for images of zeros and ones; {hint}")
        posterior = self.flow(shape=self.num_latents, context=self.num_features, **options)
        return Autoencoder(posterior, shape)

    def loss(self, model: Autoencoder, x: Tensor, context: Tensor | None = None) -> Tensor:
        x = x.floor()  # without the noise that densities of numbers need
        features, mean, log_scale = model.encode(x)
        z, log_q = model.drawn(torch.randn_like(mean), features, mean, log_scale)
        log_x, log_z = model.log_joint(x, z)
        beta = warmed_up(self.progress, self.annealing, model.training)
        return beta.to(log_x) * (log_q - log_z) - log_x

    @torch.no_grad()
    def test(self, model: Autoencoder, data: Data, seed: int) -> dict[str, float]:
        """The ELBO of each split by one draw an image, and the NLL of test images by `DRAWS`.

            NLL = -log (1/K sum_k p(x, z_k) / q(z_k | x)),   of at most `MOST` images

        which is an upper bound too, on the average, and the tighter the more draws there are.

        Reference: Burda et al., "Importance Weighted Autoencoders", ICLR 2016, eq. (8).
        """
        figures = {}
        for split in ("train", "val", "test"):
            x = getattr(data, split).x
            weights = self._log_weights(model, x, 1, generator(f"elbo/{split}", seed))
            figures[f"{split}/negative_elbo"] = -weights.mean()
        del figures["test/negative_elbo"]
        figures["test/elbo"], figures["test/elbo_stderr"] = weights.mean(), stderr(weights)
        num = min(len(x), MOST)
        chosen = x[torch.arange(num) * len(x) // num]
        several = self._log_weights(model, chosen, DRAWS, generator("elbo/draws", seed))
        nll = math.log(DRAWS) - torch.logsumexp(several, dim=0)
        figures["test/nll"], figures["test/nll_stderr"] = nll.mean(), stderr(nll)
        return {name: float(figure) for name, figure in figures.items()}

    def _log_weights(self, model: Autoencoder, x: Tensor, draws: int, g: torch.Generator) -> Tensor:
        """Log p(x, z) - log q(z | x) for draws of z: (draws, N), or (N,) for one."""
        like, pieces = model.base.loc, []
        for piece in torch.split(x.floor(), PIECE):
            given = piece.to(like)
            encoded = model.encode(given)
            rows = []
            for _ in range(draws):
                noise = torch.randn(len(piece), len(like), generator=g).to(like)
                z, log_q = model.drawn(noise, *encoded)
                rows.append((sum(model.log_joint(given, z)) - log_q).cpu().double())
            pieces.append(torch.stack(rows))
        return torch.cat(pieces, dim=1).squeeze(0)

"""A variational autoencoder of binary images, whose posterior is a flow."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from flowlab.flows.base import StandardNormal
from flowlab.flows.flow import Flow
from flowlab.flows.points import Numbers, as_tensor


class Autoencoder(nn.Module):
    """A density of binary images x by way of latents z, and an approximate posterior of these.

        p(x, z) = N(z; 0, I) Bernoulli(x; decoder(z)),   q(z | x) = the flow's density, given h(x)

    The encoder turns x into features h, and these into the mean and scale of a normal; the flow,
    with h as its context, takes its points to z:

        z_0 = m(h) + s(h) e,   e ~ N(0, I),   z = T(z_0; h),
        log q(z | x) = log N(e; 0, I) - sum log s - log|det dT/dz_0|

    Encoder and decoder are MLPs with two hidden layers of `num_features` units of ReLU; h is the
    last of the encoder's.

    Shapes: images (N, *shape) of zeros and ones, latents (N, L), features (N, F); densities (N,),
    in nats. Images and latents may be arrays and lists too, as those of a `Flow`.

    Reference: Kingma and Welling, "Auto-Encoding Variational Bayes", ICLR 2014, appendix C; Rezende
    and Mohamed, "Variational Inference with Normalizing Flows", ICML 2015, section 4.
    """

    def __init__(self, posterior: Flow, shape: tuple[int, ...]):
        super().__init__()
        self.posterior = posterior
        self.shape, self.dim, self.context = shape, math.prod(shape), 0
        num_latents, num_features = posterior.dim, posterior.context
        if len(posterior.shape) != 1 or not num_features:
            raise ValueError("the posterior must be a flow of vectors that has a context")
        self.base = StandardNormal(num_latents)
        self.encoder = _mlp(self.dim, num_features)
        self.head = nn.Linear(num_features, 2 * num_latents)
        self.decoder = _mlp(num_latents, num_features)
        self.logits = nn.Linear(num_features, self.dim)

    @property
    def config(self) -> dict[str, Any]:
        """What `build` makes its twin from."""
        return {"shape": list(self.shape), "posterior": self.posterior.config}

    def __repr__(self) -> str:
        """One line; its parts show their layers."""
        return f"Autoencoder({self.shape}, posterior={self.posterior})"

    def encode(self, x: Numbers) -> tuple[Tensor, Tensor, Tensor]:
        """Features h, means and log-scales for images: (N, F), (N, L) and (N, L)."""
        features = self.encoder(self._taken(x, self.shape))
        mean, log_scale = self.head(features).chunk(2, dim=-1)
        return features, mean, log_scale

    def drawn(
        self, noise: Tensor, features: Tensor, mean: Tensor, log_scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Latents z from noise e (N, L), given what `encode` gives, and log q(z | x): (N,)."""
        z, log_det = self.posterior.inverse(mean + log_scale.exp() * noise, features)
        return z, self.base.log_prob(noise) - log_scale.sum(-1) - log_det

    def log_joint(self, x: Numbers, z: Numbers) -> tuple[Tensor, Tensor]:
        """Log p(x | z) and log p(z): (N,) each."""
        x, z = self._taken(x, self.shape), self._taken(z, self.base.loc.shape)
        logits = self.logits(self.decoder(z))
        log_x = -F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(-1)
        return log_x, self.base.log_prob(z)

    def means(self, z: Numbers) -> Tensor:
        """The decoder's probabilities of a one: (N, L) -> (N, *shape)."""
        logits = self.logits(self.decoder(self._taken(z, self.base.loc.shape)))
        return torch.sigmoid(logits).reshape(-1, *self.shape)

    @torch.no_grad()
    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n images of zeros and ones: (n, *shape)."""
        means = self.means(self.base.sample(n, generator))
        return torch.bernoulli(means, generator=generator)

    def _taken(self, values: Numbers, shape: tuple[int, ...]) -> Tensor:
        """Images or latents of a shape as vectors: (N, D)."""
        points = as_tensor(values, self.base.loc)
        if points.shape[1:] != shape:
            sizes = ", ".join(map(str, shape))
            raise ValueError(f"expected (N, {sizes}), got shape {tuple(points.shape)}")
        return points.flatten(1)


def _mlp(num_in: int, num_hidden: int) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(num_in, num_hidden), nn.ReLU(), nn.Linear(num_hidden, num_hidden), nn.ReLU()
    )

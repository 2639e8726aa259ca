"""The LightningModule: maximum likelihood for a flow."""

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from flowlab.diagnosis import diagnose
from flowlab.errors import ConfigError
from flowlab.flows import Flow
from flowlab.resume import FORMAT
from flowlab.rng import generator
from flowlab.targets import Target


class MaximumLikelihood(pl.LightningModule):
    """Fits a flow by minimizing the mean negative log-likelihood (NLL), in nats per point.

    `optimizer` is called with the parameters; its learning rate is multiplied in each epoch by
    `schedule(progress)`, progress being the share of the epochs that are done. `config`, plain keys
    and values, and `identity` are what checkpoints say of the run. The test also gives the target's
    entropy and

        KL(p_true || p_model) = E[log p_true(x) - log p_model(x)]

    estimated on the same test points.

    Raises NonFiniteError or DataError before a loss or gradient that is not finite reaches the
    parameters, or parameters that are not finite a checkpoint.
    """

    def __init__(
        self,
        flow: Flow,
        target: Target,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Callable[[float], float],
        seed: int,
        config: dict[str, Any],
        identity: str,
    ):
        super().__init__()
        self.flow = flow
        self.target = target
        self.make_optimizer = optimizer
        self.schedule = schedule
        self.config = config
        self.identity = identity
        self.rng_state = generator("training", seed).get_state()
        self.has_started = False
        self.losses: list[Tensor] = []  # of the epoch in progress, with the sizes of its batches
        self.sizes: list[int] = []

    @property
    def train_nll(self) -> Tensor:
        """The mean NLL over the points of the epoch in progress, each at its own step."""
        sizes = torch.tensor(self.sizes, device=self.device)
        return (torch.stack(self.losses) * sizes).sum() / sizes.sum()

    def configure_optimizers(self) -> Optimizer:
        try:
            return self.make_optimizer(self.parameters())
        except (TypeError, ValueError) as error:
            raise ConfigError(f"optimizer: {error}") from error

    def on_train_start(self) -> None:
        self.has_started = True
        torch.set_rng_state(self.rng_state)
        self._set_learning_rate()

    def on_train_epoch_start(self) -> None:
        self.losses.clear()
        self.sizes.clear()
        self._set_learning_rate()

    def _set_learning_rate(self) -> None:
        optimizer = cast(Optimizer, self.optimizers(use_pl_optimizer=False))
        progress = self.current_epoch / cast(int, self.trainer.max_epochs)
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * self.schedule(progress)

    def training_step(self, x: Tensor) -> Tensor:
        loss = -self.flow.log_prob(x).mean()
        if not math.isfinite(loss.item()):
            raise diagnose(self.flow, x, self.global_step, "the loss")
        self.losses.append(loss.detach())
        self.sizes.append(len(x))
        self.batch = x
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        parameters = (p for group in optimizer.param_groups for p in group["params"])
        sums = [p.grad.sum() for p in parameters if p.grad is not None]
        if not math.isfinite(torch.stack(sums).sum().item()):
            raise diagnose(self.flow, self.batch, self.global_step, "a gradient")

    def on_train_epoch_end(self) -> None:
        # straight to the logger, so that no checkpoint of this epoch is written before
        metrics = {"train/nll": float(self.train_nll), "epoch": self.current_epoch}
        for logger in self.loggers:
            logger.log_metrics(metrics)

    def validation_step(self, x: Tensor) -> None:
        self.log("val/nll", -self.flow.log_prob(x).mean(), batch_size=len(x))

    def test_step(self, x: Tensor) -> None:
        nll = -self.flow.log_prob(x).mean()
        entropy = -self.target.log_prob(x).mean()
        metrics = {"test/nll": nll, "test/entropy": entropy, "test/kl": nll - entropy}
        self.log_dict(metrics, batch_size=len(x), logger=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not all(parameter.isfinite().all() for parameter in self.parameters()):
            raise diagnose(self.flow, self.batch, self.global_step, "a weight")
        checkpoint["flowlab"] = {
            "format": FORMAT,
            "config": self.config,
            "identity": self.identity,
            "rng_state": torch.get_rng_state(),
            "losses": list(self.losses),
            "sizes": list(self.sizes),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["flowlab"]
        self.rng_state = state["rng_state"]
        self.losses, self.sizes = list(state["losses"]), list(state["sizes"])

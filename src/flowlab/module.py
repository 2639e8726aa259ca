"""The LightningModule: maximum likelihood for a flow."""

from collections.abc import Callable, Iterable
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from flowlab.flows import Flow
from flowlab.targets import Target


class MaximumLikelihood(pl.LightningModule):
    """Fits a flow by minimizing the mean negative log-likelihood (NLL), in nats per point.

    `optimizer` is called with the parameters; its learning rate is multiplied in each epoch by
    `schedule(progress)`, progress being the share of the epochs that are done. The test also gives
    the target's entropy and

        KL(p_true || p_model) = E[log p_true(x) - log p_model(x)]

    estimated on the same test points.
    """

    def __init__(
        self,
        flow: Flow,
        target: Target,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Callable[[float], float],
    ):
        super().__init__()
        self.flow = flow
        self.target = target
        self.make_optimizer = optimizer
        self.schedule = schedule
        self.losses: list[Tensor] = []
        self.sizes: list[int] = []

    def on_train_epoch_start(self) -> None:
        optimizer = cast(Optimizer, self.optimizers(use_pl_optimizer=False))
        progress = self.current_epoch / cast(int, self.trainer.max_epochs)
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * self.schedule(progress)

    def training_step(self, x: Tensor) -> Tensor:
        loss = -self.flow.log_prob(x).mean()
        self.losses.append(loss.detach())
        self.sizes.append(len(x))
        return loss

    def validation_step(self, x: Tensor) -> None:
        self.log("val/nll", -self.flow.log_prob(x).mean(), batch_size=len(x))

    def on_validation_epoch_end(self) -> None:
        # here rather than at the end of the training epoch, which callbacks see first
        sizes = torch.tensor(self.sizes, device=self.device)
        self.log("train/nll", (torch.stack(self.losses) * sizes).sum() / sizes.sum())
        self.losses.clear()
        self.sizes.clear()

    def test_step(self, x: Tensor) -> None:
        nll = -self.flow.log_prob(x).mean()
        entropy = -self.target.log_prob(x).mean()
        metrics = {"test/nll": nll, "test/entropy": entropy, "test/kl": nll - entropy}
        self.log_dict(metrics, batch_size=len(x), logger=False)

    def configure_optimizers(self) -> Optimizer:
        return self.make_optimizer(self.parameters())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["flow"] = self.flow.config

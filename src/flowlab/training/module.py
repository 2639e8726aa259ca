"""The LightningModule: maximum likelihood for a flow."""

import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from flowlab.errors import ConfigError
from flowlab.flows import Flow
from flowlab.rng import generator
from flowlab.targets import Target
from flowlab.targets.divergence import kl_divergence
from flowlab.training.diagnosis import diagnose

Sums = list[tuple[Tensor, int]]  # of values over points, and over how many


class MaximumLikelihood(pl.LightningModule):
    """Fits a flow by minimizing the mean negative log-likelihood (NLL), in nats per point.

    What Lightning calls a batch is a chunk of several, so that its own costs, half of a small
    flow's step, are paid once for all of them; `training_step` is a plain PyTorch loop over them.
    With several processes each takes its share of every batch; the figures are those of the whole.

    `optimizer` is called with the parameters; its learning rate is multiplied in each epoch by
    `schedule(progress)`, progress being the share of the epochs that are done. Gradients are
    clipped to the norm `clip`, if there is one; with `compile` the steps are compiled. `config`,
    plain keys and values, and `identity` are what checkpoints say of the run. The test gives the
    NLL of the test points with its standard error, the target's entropy, and `kl_divergence`:

        KL(p_true || p_model) = E[log p_true(x) - log p_model(x)]

    Raises NonFiniteError or DataError before what is not finite reaches the parameters or a
    checkpoint; on a GPU, which would wait for such a look at every step, at the end of the epoch.
    """

    def __init__(
        self,
        flow: Flow,
        target: Target,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        schedule: Callable[[float], float],
        clip: float | None,
        batch_size: int,
        compile: bool,
        seed: int,
        config: dict[str, Any],
        identity: str,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.flow = flow
        self.target = target
        self.make_optimizer = optimizer
        self.schedule = schedule
        self.clip = clip
        self.batch_size = batch_size
        if compile:
            logging.getLogger(__name__).info(
                "compiling the training step, which takes about 20 seconds"
            )
        self.training_nll = torch.compile(self.nll) if compile else self.nll
        self.config = config
        self.identity = identity
        self.rng_state = generator("training", seed).get_state()
        self.has_started = False
        self.seconds = 0.0  # of training, also before a resume
        self.step = 0
        self.batch = torch.empty(0)
        self.losses: Sums = []  # of the epoch in progress
        self.evaluated: Sums = []
        self.train_nll = self.val_nll = torch.tensor(math.nan)  # of the epoch that ended last
        self.test_metrics: dict[str, Tensor] = {}

    def nll(self, x: Tensor) -> Tensor:
        """The sum of the NLL over points in nats: (N, D) -> ()."""
        return -self.flow.log_prob(x).sum(-1)

    def mean_nll(self, x: Tensor) -> Tensor:
        """The NLL in nats per point: (N, D) -> ()."""
        return self.nll(x) / x.shape[-2]

    @property
    def best(self) -> int:
        """Which of the replicates is shown, the only one if there are none."""
        return 0

    def shown(self) -> Flow:
        """The flow to draw and to export."""
        return self.flow

    def value(self, metric: Tensor) -> float:
        """What a metric is for that flow."""
        return float(metric)

    def metrics(self) -> dict[str, Tensor]:
        """The metrics of the weights that were tested."""
        return {"train/nll": self.train_nll, "val/nll": self.val_nll} | self.test_metrics

    def results(self) -> dict[str, Any]:
        """What metrics.json says of them."""
        return {name: float(metric) for name, metric in self.metrics().items()}

    def configure_optimizers(self) -> Optimizer:
        try:
            return self.make_optimizer(self.parameters())
        except (TypeError, ValueError) as error:
            raise ConfigError(f"optimizer: {error}") from error

    def on_train_start(self) -> None:
        self.has_started = True
        self.start = time.monotonic() - self.seconds
        torch.set_rng_state(self.rng_state)
        self.losses = [(total.to(self.device), n) for total, n in self.losses]
        optimizer = self._optimizer()
        for group in optimizer.param_groups:
            group.update(optimizer.defaults)  # and not those of the run that goes on
        self.on_train_epoch_start()  # which Lightning does not call within an epoch

    def on_train_end(self) -> None:
        self.seconds = time.monotonic() - self.start

    def on_train_epoch_start(self) -> None:
        optimizer = self._optimizer()
        progress = self.current_epoch / cast(int, self.trainer.max_epochs)
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults["lr"] * self.schedule(progress)

    def training_step(self, chunk: Tensor) -> None:
        optimizer, parameters, step = self._optimizer(), list(self.parameters()), self.step
        several, watch = self.trainer.world_size > 1, self.device.type == "cpu"
        for batch in torch.split(chunk, self.batch_size, dim=-2):
            x = self._share(batch) if several else batch
            nll = self.training_nll(x)
            if watch and not several and not math.isfinite(nll.sum().item()):
                raise self.diagnose("the loss", x, step)
            optimizer.zero_grad()
            # of the mean; DDP takes it over the processes, whose shares may differ by a point
            weight = torch.full_like(nll, self.trainer.world_size / batch.shape[-2])
            if several:
                self.manual_backward(nll, gradient=weight)
            else:
                torch.autograd.backward(nll, weight)
            gradients = [p.grad for p in parameters if p.grad is not None]
            if watch and not math.isfinite(sum(gradient.sum().item() for gradient in gradients)):
                raise self.diagnose("a gradient", x, step)
            if self.clip is not None:
                self.clip_gradients_(parameters, self.clip)
            optimizer.step()
            step += 1
            self.losses.append((nll.detach(), batch.shape[-2]))
        self.step, self.batch = step, x

    def on_train_batch_end(self, *args: Any) -> None:
        if self.trainer.is_last_batch:  # no callback has asked for the epoch's NLL yet
            self.train_nll = self._mean(self.losses)
            if not self.train_nll.isfinite().all():
                raise self.diagnose("the loss", self.batch, self.step)
            self.losses.clear()

    def on_validation_epoch_start(self) -> None:
        self.evaluated.clear()

    def validation_step(self, x: Tensor) -> None:
        self.evaluated.append((self.nll(self._share(x)), x.shape[-2]))

    def on_validation_epoch_end(self) -> None:
        self.val_nll = self._mean(self.evaluated)
        self.log("val/nll", self.val_nll.mean(), sync_dist=True)

    def on_train_epoch_end(self) -> None:
        # straight to the logger, so that no checkpoint of this epoch is written before
        metrics = {"train/nll": float(self.train_nll.mean()), "epoch": self.current_epoch}
        for logger in self.loggers:
            logger.log_metrics(metrics)

    def on_test_start(self) -> None:
        self.evaluated.clear()
        data = cast(Any, self.trainer).datamodule
        self.train_nll, self.val_nll = (self.mean_nll(x) for x in (data.train, data.val))

    def test_step(self, x: Tensor) -> None:
        nll = -self.flow.log_prob(self._share(x)).double()
        self.evaluated.append((torch.stack((nll.sum(-1), nll.square().sum(-1))), x.shape[-2]))

    def on_test_epoch_end(self) -> None:
        nll, square = self._mean(self.evaluated)
        degrees = max(1, sum(n for _, n in self.evaluated) - 1)
        stderr = ((square - nll.square()).clamp(min=0) / degrees).sqrt()
        fresh = cast(Any, self.trainer).datamodule.fresh()
        kl, error = kl_divergence(self.target, self._log_prob, fresh)
        entropy = torch.tensor(self.target.entropy, dtype=torch.float64)
        self.test_metrics = {"test/nll": nll, "test/nll_stderr": stderr, "test/entropy": entropy}
        self.test_metrics |= {"test/kl": kl, "test/kl_error": error}

    def _log_prob(self, x: Tensor) -> Tensor:
        """Log-densities of points from anywhere, in double precision on the CPU."""
        return self.flow.log_prob(x.to(self.device, torch.float32)).cpu().double()

    def clip_gradients_(self, parameters: list[nn.Parameter], norm: float) -> None:
        nn.utils.clip_grad_norm_(parameters, norm)

    def _optimizer(self) -> Optimizer:
        return cast(Optimizer, self.optimizers(use_pl_optimizer=False))

    def _share(self, points: Tensor) -> Tensor:
        """The share of this process of points: (..., N, D) -> (..., about N / processes, D)."""
        return points[..., self.global_rank :: self.trainer.world_size, :]

    def _everyones(self, sums: Sums) -> Sums:
        """Sums over shares of points, with those of the other processes added."""
        if not sums:
            return []
        totals = self.trainer.strategy.reduce(torch.stack([s for s, _ in sums]), reduce_op="sum")
        return [(total, n) for total, (_, n) in zip(totals, sums, strict=True)]

    def _mean(self, sums: Sums) -> Tensor:
        """The mean over all points of sums over some of them."""
        everyones = self._everyones(sums)
        return torch.stack([total for total, _ in everyones]).sum(0) / sum(n for _, n in everyones)

    def diagnose(self, what: str, batch: Tensor, step: int) -> Exception:
        return diagnose(self.flow, batch, step, what)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not all(parameter.isfinite().all() for parameter in self.parameters()):
            raise self.diagnose("a weight", self.batch, self.step)
        checkpoint["flowlab"] = {
            "config": self.config,
            "identity": self.identity,
            "rng_state": torch.get_rng_state(),
            "step": self.step,
            "seconds": time.monotonic() - self.start,
            "losses": self._everyones(self.losses),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["flowlab"]
        self.rng_state, self.step, self.seconds = (
            state[k] for k in ("rng_state", "step", "seconds")
        )
        first = self.global_rank == 0  # it takes over what all had
        self.losses = [(total if first else 0 * total, n) for total, n in state["losses"]]

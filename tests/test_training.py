"""The training is the plain loop: same losses, rates, best epoch and weights, step by step."""

import math
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import pytest
import torch
from conftest import NO_PICTURES, SHORT, Compose, events
from torch import Tensor, nn

from flowlab import build_flow
from flowlab.data import Data, toy
from flowlab.experiment import train
from flowlab.rng import generator
from flowlab.runs.checkpoints import read_checkpoint

EPOCHS, BATCH, RATE = 5, 64, 5e-3
WORDS = (*SHORT, *NO_PICTURES, f"trainer.max_epochs={EPOCHS}", f"optimizer.lr={RATE}")


def onecycle(p: float) -> float:
    if p < 0.3:
        return 0.04 + 0.96 * (1 - math.cos(math.pi * p / 0.3)) / 2
    return (1 + math.cos(math.pi * (p - 0.3) / 0.7)) / 2


FACTORS = {
    "constant": lambda p: 1.0,
    "cosine": lambda p: (1 + math.cos(math.pi * p)) / 2,
    "onecycle": onecycle,
}


class Curves(NamedTuple):
    rates: list[float]
    train: list[float]
    val: list[float]
    norms: list[float]
    weights: list[Tensor]  # of the best epoch
    best_epoch: int


def plain_loop(data: Data, flow: nn.Module, schedule: str, clip: float | None) -> Curves:
    """What the training is to do, written down without any of it."""
    adam, curves = torch.optim.Adam(flow.parameters()), Curves([], [], [], [], [], 0)
    for epoch in range(EPOCHS):
        rate = RATE * FACTORS[schedule](epoch / EPOCHS)
        adam.param_groups[0]["lr"] = rate
        total, norms = 0.0, []
        order = torch.randperm(200, generator=generator("order", 3, epoch))
        for start in range(0, 200, BATCH):  # three batches of 64 points and one of 8
            x = data.train.x[order[start : start + BATCH]]
            loss = -flow.log_prob(x).mean()
            adam.zero_grad()
            loss.backward()
            norms.append(nn.utils.clip_grad_norm_(flow.parameters(), clip or math.inf).item())
            adam.step()
            total += loss.item() * len(x)
        with torch.no_grad():
            val = -flow.log_prob(data.val.x).mean().item()
        if val < min(curves.val, default=math.inf):
            best = [parameter.detach().clone() for parameter in flow.parameters()]
            curves = curves._replace(weights=best, best_epoch=epoch + 1)
        for column, value in zip(curves[:4], (rate, total / 200, val, sum(norms) / 4), strict=True):
            column.append(value)
    return curves


class Notes(pl.Callback):
    """Writes down what a training does: rates, losses, and the flow it starts from."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.train: list[float] = []
        self.val: list[float] = []

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        if len(self.rates) == trainer.current_epoch:
            self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: pl.Trainer, module: Any) -> None:
        self.train.append(module.history["train/nll"][-1][0])
        self.val.append(module.history["val/nll"][-1][0])


def initial_flow(cfg: Any) -> nn.Module:
    torch.manual_seed(generator("initialisation", cfg.seed).initial_seed())
    return build_flow(cfg.flow.name, 2, num_flows=cfg.num_flows, num_hidden=cfg.num_hidden)


@pytest.mark.parametrize(
    ("schedule", "clip"), [("constant", None), ("cosine", 0.5), ("onecycle", None)]
)
def test_the_training_is_the_plain_loop(
    schedule: str, clip: float | None, compose_config: Compose, tmp_path: Path
) -> None:
    words = (*WORDS, f"schedule={schedule}", f"data.batch_size={BATCH}", "seed=3")
    if clip:
        words += (f"trainer.gradient_clip_val={clip}",)
    cfg = compose_config(*words, f"run_dir={tmp_path}")
    notes = Notes()
    metrics = train(cfg, [notes])
    expected = plain_loop(toy("bimodal", 200, 100, 500, seed=3), initial_flow(cfg), schedule, clip)
    assert notes.rates == pytest.approx(expected.rates, rel=1e-9)
    assert notes.train == pytest.approx(expected.train, abs=1e-6)
    assert notes.val == pytest.approx(expected.val, abs=1e-6)
    scalars = events(tmp_path)
    for name, values in (("learning_rate", expected.rates), ("gradient_norm", expected.norms)):
        logged = [event.value for event in scalars.Scalars(f"training/{name}")]
        assert logged == pytest.approx(values, rel=1e-4), name
    points = [event.value for event in scalars.Scalars("training/points_per_second")]
    assert len(points) == EPOCHS
    assert 0 < sum(200 / rate for rate in points) < metrics["seconds"]
    assert metrics["best_epoch"] == expected.best_epoch
    assert metrics["val/nll"] == pytest.approx(min(expected.val), abs=1e-6)
    best = read_checkpoint(tmp_path / "checkpoints" / "best.ckpt")["state_dict"]
    for found, weights in zip(best.values(), expected.weights, strict=True):
        torch.testing.assert_close(found, weights, atol=1e-6, rtol=0)


def test_of_equal_epochs_the_first_is_the_best(compose_config: Compose, tmp_path: Path) -> None:
    notes, words = Notes(), (*WORDS, "optimizer.lr=1e-30")  # no weight moves
    metrics = train(compose_config(*words, f"run_dir={tmp_path}"), [notes])
    assert len(set(notes.val)) == 1
    assert metrics["best_epoch"] == 1

"""Learning rates against PyTorch's own schedulers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from flowlab.training.schedules import constant, cosine, onecycle


def rates(scheduler: Callable[..., Any], epochs: int) -> list[float]:
    """The learning rate in each epoch under a scheduler of PyTorch's."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    schedule, values = scheduler(optimizer), []
    for _ in range(epochs):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


def annealing(epochs: int) -> Callable[..., Any]:
    return lambda optimizer: CosineAnnealingLR(optimizer, T_max=epochs)


def one_cycle(epochs: int, warmup: float, start: float) -> Callable[..., Any]:
    """PyTorch counts the last step in: its peak is a step before pct_start * total_steps."""
    return lambda optimizer: OneCycleLR(
        optimizer,
        max_lr=1.0,
        total_steps=epochs + 1,
        pct_start=(warmup * epochs + 1) / (epochs + 1),
        div_factor=1 / start,
        final_div_factor=1e12,
        cycle_momentum=False,
    )


@pytest.mark.parametrize("epochs", [1, 7, 50])
def test_cosine_is_that_of_pytorch(epochs: int) -> None:
    assert [cosine(epoch / epochs) for epoch in range(epochs)] == pytest.approx(
        rates(annealing(epochs), epochs), abs=1e-9
    )


@pytest.mark.parametrize(("warmup", "start"), [(0.3, 0.04), (0.2, 0.5), (0.5, 0.001)])
def test_one_cycle_is_that_of_pytorch(warmup: float, start: float) -> None:
    factors = [onecycle(epoch / 40, warmup, start) for epoch in range(40)]
    assert factors == pytest.approx(rates(one_cycle(40, warmup, start), 40), abs=1e-9)


def test_constant() -> None:
    assert {constant(epoch / 10) for epoch in range(10)} == {1.0}

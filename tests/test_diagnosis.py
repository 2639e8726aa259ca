"""Numbers that run away: stopped before the weights take them in, and the place named."""

import math
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from conftest import NO_PICTURES, SHORT, Compose

from flowlab.errors import DataError, NonFiniteError
from flowlab.experiment import train
from flowlab.flows import Flow, build_flow
from flowlab.training.diagnosis import diagnose

POINTS = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))


def last_biases(flow: Flow) -> torch.Tensor:
    """Those that shift r and t of each layer in the plane: (layers, 2)."""
    ((*_, biases),) = flow.chain[0].weights
    return biases.data


def test_a_point_that_is_not_finite_is_named() -> None:
    points = POINTS.clone()
    points[3] = torch.tensor([1.5, math.nan])
    error = diagnose(build_flow("coupling", 2), points, 7, "the loss")
    assert isinstance(error, DataError)
    assert str(error) == "step 7: the point [1.5, nan] of the training data is not finite"


def test_a_context_that_is_not_finite_is_named_with_its_point() -> None:
    flow, context = build_flow("coupling", 2, context=1), torch.zeros(10, 1)
    context[3] = math.inf
    error = diagnose(flow, torch.ones(10, 2), 7, "the loss", context)
    assert "the point [1.0, 1.0, inf] of the training data is not finite" in str(error)
    last_biases(flow)[1, 1] = 1e30
    error = diagnose(flow, POINTS, 7, "the loss", torch.zeros(10, 1))
    assert "the base density of latents" in str(error)


@pytest.mark.parametrize("layer", [1, 2, 3, 4])
def test_the_first_layer_that_overflows_is_named(layer: int) -> None:
    flow = build_flow("coupling", 2, bound=200.0)
    last_biases(flow)[layer - 1, 0] = 1000.0
    error = diagnose(flow, POINTS, 7, "the loss")
    assert isinstance(error, NonFiniteError)
    assert f"first the output of layer {layer} of 4, at the point [" in str(error)


def test_a_parameter_the_base_density_and_a_gradient_are_named() -> None:
    flow = build_flow("coupling", 2)
    last_biases(flow)[0, 1] = 1e30
    message = str(diagnose(flow, POINTS, 7, "the loss"))
    assert "first the base density of latents of up to 1.0e+30, at the point [" in message
    last_biases(flow)[0, 1] = 0.0
    name, parameter = next(flow.named_parameters())
    parameter.grad = torch.full_like(parameter, math.inf)
    assert f"the gradient of {name}" in str(diagnose(flow, POINTS, 7, "a gradient"))
    parameter.data[0] = math.nan
    assert f"the parameter {name}" in str(diagnose(flow, POINTS, 7, "the loss"))


class Spoil(pl.Callback):
    """Makes the points, or after the backward pass a gradient, infinite in the second epoch."""

    def __init__(self, what: str):
        self.what = what

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, *args: Any) -> None:
        if trainer.current_epoch == 1:
            if self.what == "points":
                module.data.train.x[5] = math.inf
            else:
                next(module.parameters()).register_hook(lambda gradient: gradient / 0)

    def on_exception(self, trainer: Any, module: Any, exception: BaseException) -> None:
        steps = -(-200 // 64)
        assert module.step == steps  # of the chunks before
        assert all(parameter.isfinite().all() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [
        ("points", DataError, "is not finite"),
        (
            "gradient",
            NonFiniteError,
            "a gradient is not finite, and first the gradient of",
        ),
    ],
)
def test_the_weights_stay_finite(
    what: str, kind: type[Exception], message: str, compose_config: Compose, tmp_path: Any
) -> None:
    spoil = f"+callbacks.spoil={{_target_: test_diagnosis.Spoil, what: {what}}}"
    with pytest.raises(kind, match=message):
        train(compose_config(*SHORT, *NO_PICTURES, spoil, f"run_dir={tmp_path / 'run'}"))
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("every", [1, "null"])
def test_weights_that_overflow_reach_no_checkpoint(
    every: object, compose_config: Compose, tmp_path: Any
) -> None:
    words = ("optimizer.lr=1e39", "data.batch_size=200", f"run_dir={tmp_path / 'run'}")
    words += (f"callbacks.checkpoint.every_n_train_steps={every}",)
    with pytest.raises(NonFiniteError, match="a weight is not finite, and first the parameter"):
        train(compose_config(*SHORT, *NO_PICTURES, *words))
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_gradient_clipping_is_a_key(compose_config: Compose, tmp_path: Any) -> None:
    nlls = set()
    for clip in (0.01, "null"):
        words = (f"trainer.gradient_clip_val={clip}", f"run_dir={tmp_path / str(clip)}")
        nlls.add(train(compose_config(*SHORT, *NO_PICTURES, *words))["test/nll"])
    assert len(nlls) == 2

"""Where a training left the finite numbers."""

from collections.abc import Iterator

import torch
from torch import Tensor

from flowlab.errors import DataError, FlowlabError, NonFiniteError
from flowlab.flows import Flow
from flowlab.flows.coupling import AffineCoupling


@torch.no_grad()
def diagnose(flow: Flow, x: Tensor, step: int, what: str) -> FlowlabError:
    """The error for a step on the batch x, (N, D), in which `what` was not finite.

    Names the first that is not finite: a point of the batch, a parameter, a layer, or a gradient.
    """
    if (bad := _rows(x)).numel():
        return DataError(f"step {step}: {_point(x, bad)} of the training data is not finite")
    where = next(_suspects(flow, x), "the sum over the batch")
    return NonFiniteError(
        f"step {step}: {what} is not finite, and first {where}; "
        "checkpoints keep the last good weights. "
        "Try a lower optimizer.lr, a lower flow.bound, or trainer.gradient_clip_val=1"
    )


def _suspects(flow: Flow, x: Tensor) -> Iterator[str]:
    for name, parameter in flow.named_parameters():
        if not parameter.isfinite().all():
            yield f"the parameter {name}"
    u = x
    for i, transform in enumerate(flow.transforms):
        if isinstance(transform, AffineCoupling):
            for num in range(1, transform.num_flows + 1):
                if (bad := _rows(*transform.first_layers(num, u))).numel():
                    yield f"the output of layer {num} of transforms.{i}, at {_point(x, bad)}"
        u, log_det = transform(u)
        if (bad := _rows(u, log_det)).numel():
            yield f"the output of transforms.{i}, at {_point(x, bad)}"
    if (bad := _rows(flow.base.log_prob(u))).numel():
        yield f"the base density of latents of up to {u.abs().max():.1e}, at {_point(x, bad)}"
    for name, parameter in flow.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            yield f"the gradient of {name}"


def _rows(*values: Tensor) -> Tensor:
    """Indices of the points for which any value is not finite."""
    finite = [value.isfinite().reshape(len(value), -1).all(1) for value in values]
    return (~torch.stack(finite).all(0)).nonzero().flatten()


def _point(x: Tensor, bad: Tensor) -> str:
    return f"the point {[round(value, 4) for value in x[bad[0]].tolist()]}"

"""Where a training left the finite numbers."""

from collections.abc import Iterator

import torch
from torch import Tensor

from flowlab.errors import DataError, FlowlabError, NonFiniteError
from flowlab.flows import Flow

MOST = 64  # numbers of a point that a message has


@torch.no_grad()
def diagnose(
    flow: Flow, x: Tensor, step: int, what: str, context: Tensor | None = None
) -> FlowlabError:
    """The error for a step in which `what` was not finite, on points (N, *shape), context (N, C).

    Names the first that is not finite: a point of the batch, a parameter, a layer, or a gradient.
    """
    row = x.flatten(1) if context is None else torch.cat((x.flatten(1), context), dim=1)
    if (bad := _rows(row)).numel():
        return DataError(f"step {step}: {_point(row, bad)} of the training data is not finite")
    where = next(_suspects(flow, x, context), "the sum over the batch")
    bound = "a lower flow.bound, " if "bound" in flow.config else ""
    return NonFiniteError(
        f"step {step}: {what} is not finite, and first {where}; "
        "checkpoints keep the last good weights. "
        f"Try a lower optimizer.lr, {bound}or trainer.gradient_clip_val=1"
    )


def _suspects(flow: Flow, x: Tensor, context: Tensor | None) -> Iterator[str]:
    for name, parameter in flow.named_parameters():
        if not parameter.isfinite().all():
            yield f"the parameter {name}"
    u, layers, context = x, flow.transforms, flow.without_units(context)
    for i, layer in enumerate(layers, start=1):
        u, log_det = layer(u, context)
        if (bad := _rows(u, log_det)).numel():
            yield f"the output of layer {i} of {len(layers)}, at {_point(x, bad)}"
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
    values = [round(value, 4) for value in x[bad[0]].flatten().tolist()]
    return f"the point {values if len(values) <= MOST else f'[{str(values[:MOST])[1:-1]}, ...]'}"

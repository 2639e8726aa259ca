"""Where a training left the finite numbers."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

from flowlab.data import Points
from flowlab.errors import DataError, FlowlabError, NonFiniteError
from flowlab.flows import Autoencoder, Flow
from flowlab.training.objectives import Objective, ReverseKL
from flowlab.training.replicates import Replicates

MOST = 64  # numbers of a point that a message has
ANEW = 2**14  # points that are drawn at least, to meet again what a step met


def diagnose_one(
    replicates: Replicates,
    faulty: Tensor,
    batch: Points,
    step: int,
    what: str,
    seed: int,
    objective: Objective[Any],
) -> Exception:
    """`diagnose` for the first of several flows that are `faulty`, (R,), named by its seed."""
    index = int(faulty.int().argmax())
    flow = replicates.flow(index)
    own = batch.x.dim() > 1 + len(flow.shape)
    x, context = (t[index] if own and t is not None else t for t in batch)
    error = diagnose(flow, cast(Tensor, x), step, what, context, objective)
    if replicates.num == 1:
        return error
    return type(error)(f"replicate {index} (seed={seed + index}): {error}")


@torch.no_grad()
def diagnose(
    flow: Flow | Autoencoder,
    x: Tensor,
    step: int,
    what: str,
    context: Tensor | None = None,
    objective: Objective[Any] | None = None,
) -> FlowlabError:
    """The error for a step in which `what` was not finite, on points (N, *shape), context (N, C).

    Names the first that is not finite: a point of the batch, a parameter, a layer, or a gradient.
    For an objective that `generates` points, layers are looked at from base to data, on points that
    are drawn anew, and after them what it makes of the points.
    """
    row = x.flatten(1) if context is None else torch.cat((x.flatten(1), context), dim=1)
    if (bad := _rows(row)).numel():
        return DataError(f"step {step}: {_point(row, bad)} of the training data is not finite")
    where = next(_suspects(flow, x, context, objective), "the sum over the batch")
    options = flow.config.get("posterior", flow.config)
    bound = "a lower flow.bound, " if "bound" in options else ""
    return NonFiniteError(
        f"step {step}: {what} is not finite, and first {where}; "
        "checkpoints keep the last good weights. "
        f"Try a lower optimizer.lr, {bound}or trainer.gradient_clip_val=1"
    )


def _suspects(
    flow: Flow | Autoencoder, x: Tensor, context: Tensor | None, objective: Objective[Any] | None
) -> Iterator[str]:
    for name, parameter in flow.named_parameters():
        if not parameter.isfinite().all():
            yield f"the parameter {name}"
    if isinstance(flow, Autoencoder):
        yield from _of_latents(flow, x.floor())
    elif isinstance(objective, ReverseKL):
        times = -(-ANEW // len(x))
        noise = torch.randn_like(x.repeat(times, 1))
        context = None if context is None else context.repeat(times, 1)
        yield from _generating(flow, noise, context)
        x = flow.inverse(noise, context)[0]
        if (bad := _rows(objective.log_density(x, context))).numel():
            yield f"the log-density of {objective.target}, at {_point(x, bad)}"
    else:
        yield from _normalizing(flow, x, context)
    for name, parameter in flow.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            yield f"the gradient of {name}"


def _normalizing(flow: Flow, x: Tensor, context: Tensor | None) -> Iterator[str]:
    layers, u, context = flow.transforms, x, flow.without_units(context)
    for i, layer in enumerate(layers, start=1):
        u, log_det = layer(u, context)
        if (bad := _rows(u, log_det)).numel():
            yield f"the output of layer {i} of {len(layers)}, at {_point(x, bad)}"
    if (bad := _rows(flow.base.log_prob(u))).numel():
        yield f"the base density of latents of up to {u.abs().max():.1e}, at {_point(x, bad)}"


def _generating(flow: Flow, u: Tensor, context: Tensor | None) -> Iterator[str]:
    layers, x, context = flow.transforms, u, flow.without_units(context)
    for i, layer in reversed([*enumerate(layers, start=1)]):
        x, log_det = layer.inverse(x, context)
        if (bad := _rows(x, log_det)).numel():
            yield f"the output of layer {i} of {len(layers)}, at {_point(u, bad)}"


def _of_latents(model: Autoencoder, x: Tensor) -> Iterator[str]:
    features, mean, log_scale = model.encode(x)
    noise = torch.randn_like(mean)
    z = mean + log_scale.exp() * noise
    if (bad := _rows(features, z)).numel():
        yield f"what the encoder gives, at {_point(x, bad)}"
    yield from _generating(model.posterior, z, features)
    z, _ = model.drawn(noise, features, mean, log_scale)
    if (bad := _rows(*model.log_joint(x, z))).numel():
        yield f"what the decoder gives, at {_point(z, bad)}"


def _rows(*values: Tensor) -> Tensor:
    """Indices of the points for which any value is not finite."""
    finite = [value.isfinite().reshape(len(value), -1).all(1) for value in values]
    return (~torch.stack(finite).all(0)).nonzero().flatten()


def _point(x: Tensor, bad: Tensor) -> str:
    values = [round(value, 4) for value in x[bad[0]].flatten().tolist()]
    return f"the point {values if len(values) <= MOST else f'[{str(values[:MOST])[1:-1]}, ...]'}"

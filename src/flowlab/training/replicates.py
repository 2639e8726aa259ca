"""Runs that differ in their seed alone, trained at once for the price of a few."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from flowlab.errors import ConfigError

Loss = Callable[[Any, Tensor, Tensor | None], Tensor]


class Replicates(nn.Module):
    """R flows of one kind and their losses; of more than one, with all parameters stacked.

    Shapes: x (R, N, *shape), or (N, *shape) for all, its context likewise, to losses (R, N). A
    single flow is evaluated as it is, several together by `torch.func.vmap`. Raises ConfigError for
    several whose log-det is estimated, which is not for vmap.
    """

    def __init__(self, flows: Sequence[Any], loss: Loss):
        super().__init__()
        self.num = len(flows)
        if self.num == 1:
            self.only = _Loss(flows[0], loss)
            return
        if any(getattr(layer, "estimates", False) for layer in flows[0].modules()):
            hint = "expected 1 for residual blocks of so many dimensions; seed=0,1 with -m repeats"
            raise ConfigError(f"replicates={self.num}: {hint} the run")
        parameters, buffers = stack_module_state([_Loss(flow, loss) for flow in flows])
        self.names = [*parameters, *buffers]
        self.stacked = nn.ParameterList(parameters.values())
        # in a tuple, for its own values are no part of the state
        self.form = (_Loss(copy.deepcopy(flows[0]), loss),)
        saved = self.form[0].state_dict()
        for i, (name, buffer) in enumerate(buffers.items()):
            self.register_buffer(f"buffer{i}", buffer, persistent=name in saved)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        if self.num == 1:
            losses: Tensor = self.only(x, context)
            return losses.unsqueeze(0)
        (form,) = self.form
        if form.training != self.training:  # Lightning sets that of modules without `train`
            form.train(self.training)

        def one(state: tuple[Tensor, ...], x: Tensor, context: Tensor | None) -> Tensor:
            named = dict(zip(self.names, state, strict=True))
            losses: Tensor = functional_call(form, named, (x, context))
            return losses

        axis = 0 if x.dim() > 1 + len(cast(Any, form.flow).shape) else None
        axes = (0, axis, None if context is None else axis)
        together: Tensor = vmap(one, axes, randomness="different")(
            (*self.stacked, *self.buffers()), x, context
        )
        return together

    def flow(self, index: int) -> Any:
        """One of the flows: the only one itself, of several a copy, with its gradients."""
        if self.num == 1:
            return self.only.flow
        flow = copy.deepcopy(self.form[0].flow).to(self.stacked[0])
        for parameter, stacked in zip(flow.parameters(), self.stacked, strict=True):
            parameter.data = stacked.detach()[index].clone()
            parameter.grad = None if stacked.grad is None else stacked.grad[index]
        for buffer, values in zip(flow.buffers(), self.buffers(), strict=True):
            buffer.copy_(values[index])
        flow.train(self.training)
        return flow

    def finite(self) -> Tensor:
        """Which flows' parameters and gradients are finite: (R,)."""
        values = [*self.parameters(), *(p.grad for p in self.parameters() if p.grad is not None)]
        rows = [value.detach().isfinite().reshape(self.num, -1).all(1) for value in values]
        return torch.stack(rows).all(0)

    def norms(self, gradients: Sequence[Tensor]) -> Tensor:
        """The norm of each flow's gradients, given those of all parameters: (R,)."""
        each = [gradient.reshape(self.num, -1).norm(dim=1) for gradient in gradients]
        together: Tensor = torch.stack(each).norm(dim=0)
        return together

    def clip_(self, gradients: Sequence[Tensor], norms: Tensor, most: float) -> None:
        """Clip each flow's gradients, of these norms, in their place to a norm."""
        shares = (most / (norms + 1e-6)).clamp(max=1)
        for gradient in gradients:
            axes = [1] * (gradient.dim() - 1)
            gradient.mul_(shares if self.num == 1 else shares.reshape(-1, *axes))


class _Loss(nn.Module):
    """A flow's loss as a module, for `functional_call`."""

    def __init__(self, flow: nn.Module, loss: Loss):
        super().__init__()
        self.flow = flow
        self.loss = loss

    def forward(self, x: Tensor, context: Tensor | None) -> Tensor:
        return self.loss(self.flow, x, context)

"""Many runs that differ in their seed alone, trained at once for the price of a few."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from flowlab.flows import Flow
from flowlab.flows.flow import CHUNK
from flowlab.training.diagnosis import diagnose
from flowlab.training.module import MaximumLikelihood


class Replicates(nn.Module):
    """R flows of one kind, with their parameters stacked and evaluated together.

    Shapes: log_prob takes points (R, N, D), or (N, D) for all, to (R, N), in nats.
    """

    def __init__(self, flows: Sequence[Flow]):
        super().__init__()
        parameters, buffers = stack_module_state(list(flows))
        self.names = [*parameters, *buffers]
        self.stacked = nn.ParameterList(parameters.values())
        for i, buffer in enumerate(buffers.values()):
            self.register_buffer(f"buffer{i}", buffer)
        self._one = (copy.deepcopy(flows[0]),)  # in a tuple, for it is no part of the state

    @property
    def one(self) -> Flow:
        """One of the flows, with any weights."""
        return self._one[0]

    def log_prob(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return self._log_prob(x)
        chunks = torch.split(x, max(1, CHUNK // len(self.stacked[0])), dim=-2)
        return torch.cat([self._log_prob(chunk) for chunk in chunks], dim=-1)

    def _log_prob(self, x: Tensor) -> Tensor:
        def forward(state: tuple[Tensor, ...], x: Tensor) -> tuple[Tensor, Tensor]:
            named = dict(zip(self.names, state, strict=True))
            u, log_det = functional_call(self.one, named, (x,))
            return u, log_det

        in_dims = (0, 0 if x.dim() == 3 else None)
        u, log_det = vmap(forward, in_dims)((*self.stacked, *self.buffers()), x)
        return self.one.base.log_prob(u) + log_det

    def flow(self, index: int) -> Flow:
        """A copy of one of the flows, with its gradients if there are any."""
        flow = copy.deepcopy(self.one).to(self.stacked[0])
        for parameter, stacked in zip(flow.parameters(), self.stacked, strict=True):
            parameter.data = stacked.detach()[index].clone()
            parameter.grad = None if stacked.grad is None else stacked.grad[index]
        for buffer, values in zip(flow.buffers(), self.buffers(), strict=True):
            buffer.copy_(values[index])
        return flow


class ReplicatedLikelihood(MaximumLikelihood):
    """Fits R flows at once, each as `MaximumLikelihood` would fit it alone.

    Every NLL is a tensor (R,); what is logged is the mean, and what is shown is the best flow.
    """

    flow: Replicates  # type: ignore[assignment]

    @property
    def best(self) -> int:
        """Which flow has the lowest val/nll."""
        return int(self.val_nll.argmin())

    def shown(self) -> Flow:
        return self.flow.flow(self.best)

    def value(self, metric: Tensor) -> float:
        return float(metric.expand(len(self.val_nll))[self.best])

    def results(self) -> dict[str, Any]:
        """Mean, standard error and best of each metric, and the values of all flows.

        The standard error is over the flows, which differ in all that is drawn from their seeds.
        """
        values = self.metrics()
        count = len(self.val_nll)
        results: dict[str, Any] = {"best_replicate": self.best}
        for name, metric in values.items():
            results.setdefault(name, float(metric.mean()))
            if metric.dim() and not name.endswith(("_stderr", "_error")):
                results[f"{name}_stderr"] = float(metric.std()) / count**0.5
                results[f"{name}_best"] = self.value(metric)
        return results | {"replicates": {name: m.tolist() for name, m in values.items() if m.dim()}}

    def clip_gradients_(self, parameters: list[nn.Parameter], norm: float) -> None:
        gradients = [p.grad.flatten(1) for p in parameters if p.grad is not None]
        norms = torch.cat(gradients, dim=1).norm(dim=1, keepdim=True)
        for gradient in gradients:
            gradient.mul_((norm / (norms + 1e-6)).clamp(max=1))

    def diagnose(self, what: str, batch: Tensor, step: int) -> Exception:
        with torch.no_grad():
            finite = self.nll(batch).isfinite()
        for stacked in self.flow.stacked:
            for values in (stacked, stacked.grad):
                if values is not None:
                    finite &= values.detach().flatten(1).isfinite().all(1)
        index = int((~finite).int().argmax())
        error = diagnose(self.flow.flow(index), batch[index], step, what)
        return type(error)(f"replicate {index} (seed={self.config['seed'] + index}): {error}")

"""What each family of flows promises, in one table, and the flows that its tests are made of.

A new family is one line in `FLOWS` and one in `PROMISES`. What it does not promise stands in its
line, with the reason. The tests of the contract are test_flows.py, the mathematics, and
test_flows_use.py, what the rest of the project relies on.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from flowlab.flows import Flow, build_flow
from flowlab.targets import Bimodal

SINGLE, DOUBLE = torch.float32, torch.float64


@dataclass(frozen=True)
class Promise:
    """What a family promises of a flow with these options, small enough for a test."""

    options: dict[str, Any]
    start: float = 0.0  # how far, at most, a new flow moves a point of N(0, I); 0: not by one bit
    single: float = 1e-4  # relative error of what a round trip or a log-det gives in float32
    double: float = 1e-10  # and in float64
    steep: str = ""  # why a point that was found is judged by where it is mapped to, if it is
    spread: float = 0.3  # of what is added to each weight of a new flow to make it a random one
    lr: float = 1e-2  # of a short training
    grid: int = 160  # cells to a side, for a sum over the plane that is as good as the integral
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)  # more options to test


STEEP = "where a random map is steep and then flat, rounding moves the point, not its image"
PROMISES = {
    "coupling": Promise(
        {"num_flows": 4, "num_hidden": 8},
        variants={
            "odd": {"num_flows": 5, "num_hidden": 5, "bound": 0.7},
            "deep": {"num_flows": 32},
        },
    ),
    "spline": Promise(
        {"num_flows": 2, "num_hidden": 8}, start=2e-6, steep=STEEP, spread=0.15, grid=480
    ),
    "maf": Promise(
        {"num_flows": 2, "num_hidden": 8},
        grid=240,
        variants={
            "odd": {"num_flows": 3, "num_hidden_layers": 3},
            "lu": {"num_flows": 3, "mixing": "lu"},
        },
    ),
    "iaf": Promise({"num_flows": 2, "num_hidden": 8}, grid=240),
    "spline_ar": Promise(
        {"num_flows": 2, "num_hidden": 8}, start=2e-6, steep=STEEP, spread=0.15, grid=480
    ),
    # not near the identity: sigmoids that start alike would stay alike
    "naf": Promise({"num_flows": 2, "num_hidden": 8, "num_sigmoids": 4}, start=2.0, steep=STEEP),
    # not near the identity: gates that start nearly closed stay so, at a cost of 0.06 nats
    "bnaf": Promise({"num_flows": 2, "num_hidden": 4}, start=15.0, lr=5e-2, grid=320),
    "planar": Promise({"num_flows": 4}, start=0.2),
    "radial": Promise({"num_flows": 4}, start=0.2),
    "sylvester": Promise(
        {"num_flows": 4, "num_reflections": 3},
        start=0.2,
        variants={name: {"variant": name} for name in ("orthogonal", "triangular")},
    ),
    "residual": Promise({"num_flows": 2, "num_hidden": 6}, start=0.3),
    # steps of finite size: neither inverses of each other nor of a volume that is just the trace's
    "ffjord": Promise({"num_flows": 2, "num_hidden": 8, "num_steps": 4}, double=1e-5),
}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    case: (name, promise.options | options)
    for name, promise in PROMISES.items()
    for case, options in {
        name: {},
        f"{name}-context": {"context": 2},
        f"{name}-sampling": {"context": 1, "direction": "sampling"},
        **{f"{name}-{variant}": options for variant, options in promise.variants.items()},
    }.items()
}
SIZES = {"": (1, 2, 3, 16), "context": (1, 3), "sampling": (2, 3)}  # (3,) of other cases
DIMS = [
    (case, dim)
    for case, (name, _) in CASES.items()
    for dim in SIZES.get(case.removeprefix(name).removeprefix("-"), (3,))
]
PRECISIONS = [(case, dim, DOUBLE) for case, dim in DIMS]
PRECISIONS += [(case, dim, SINGLE) for case, dim in DIMS if dim <= 3]

each_case = pytest.mark.parametrize("case", CASES)
each_dim = pytest.mark.parametrize(("case", "dim"), DIMS)
each_precision = pytest.mark.parametrize(("case", "dim", "dtype"), PRECISIONS)


def turned(case: str) -> Any:
    """A case for a test in which flows that are turned round take long; one of them is quick."""
    name, options = CASES[case]
    long = options.get("direction") == "sampling" and name != "coupling"
    return pytest.param(case, marks=pytest.mark.long if long else ())


def promise_of(case: str) -> Promise:
    return PROMISES[CASES[case][0]]


def build(case: str, dim: int, dtype: torch.dtype = DOUBLE, **others: Any) -> Flow:
    """A new flow."""
    name, options = CASES[case]
    torch.manual_seed(dim)
    return build_flow(name, dim, **options | others).to(dtype)


def make(
    case: str, dim: int, dtype: torch.dtype = DOUBLE, part: float = 1.0, **others: Any
) -> Flow:
    """A flow with random weights, far from the identity; deep ones gentler in each layer."""
    flow = build(case, dim, dtype, **others)
    spread = part * promise_of(case).spread * min(1.0, (4 / flow.config["num_flows"]) ** 0.5)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(spread * torch.randn(parameter.shape, dtype=DOUBLE))
    return flow


@functools.cache
def trained(case: str) -> Flow:
    """A flow in the plane that has seen two modes for 50 steps, under contexts that say nothing."""
    flow, generator = build(case, 2, SINGLE), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(flow.parameters(), lr=promise_of(case).lr)
    x = Bimodal().sample(2000, generator)
    for _ in range(50):
        optimizer.zero_grad()
        batch = x[torch.randint(len(x), (100,), generator=generator)]
        c = torch.randn(100, flow.context, generator=generator) if flow.context else None
        (-flow.log_prob(batch, c).mean()).backward()
        optimizer.step()
    return flow.to(DOUBLE)


def points(n: int, dim: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(1)).to(dtype)


def context_of(flow: Flow, *leading: int, dtype: torch.dtype = DOUBLE) -> Tensor | None:
    """A context of any leading shape for a flow that has one."""
    if not flow.context:
        return None
    generator = torch.Generator().manual_seed(7)
    return torch.randn(*leading, flow.context, generator=generator).to(dtype)


def close_to(case: str, dtype: torch.dtype) -> Callable[[Tensor, Tensor], None]:
    """Assert that two tensors agree within the family's tolerance, relative beyond 1."""
    promise = promise_of(case)
    tolerance = promise.single if dtype == SINGLE else promise.double
    return functools.partial(torch.testing.assert_close, rtol=tolerance, atol=tolerance)

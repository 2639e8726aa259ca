"""What each family of flows promises, in one table, and the flows that its tests are made of.

A new family is one line in `FLOWS` and one in `PROMISES`. What it does not promise stands in its
line, with the reason. The tests of the contract are test_flows.py, the mathematics, and
test_flows_use.py, what the rest of the project relies on.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import pytest
import torch
from torch import Tensor

from flowlab.flows import Flow, build_flow
from flowlab.targets import Bimodal

SINGLE, DOUBLE = torch.float32, torch.float64
Shape = int | tuple[int, ...]


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
    images: tuple[Shape, ...] = ()  # the shapes to test, of a family of images
    layers: Callable[[dict[str, Any]], int] = itemgetter("num_flows")  # but for linear ones


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
    "diagonal": Promise({}, layers=lambda config: 1),
    "realnvp": Promise(
        {"num_flows": 2, "num_levels": 1, "num_hidden": 8},
        single=3e-4,
        spread=0.15,
        images=((2, 2), (2, 4, 3)),
        variants={"levels": {"num_flows": 1, "num_levels": 2}},
        layers=lambda config: 2 * config["num_flows"] * config["num_levels"],
    ),
    "glow": Promise(
        {"num_flows": 2, "num_levels": 1, "num_hidden": 8},
        single=3e-4,
        spread=0.15,
        images=((2, 2), (2, 4, 3)),
        variants={"levels": {"num_levels": 2}},
        # with the priors of what stays behind
        layers=lambda config: (config["num_flows"] + 1) * config["num_levels"] - 1,
    ),
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


def shapes_of(case: str) -> tuple[Shape, ...]:
    name, options = CASES[case]
    if images := PROMISES[name].images:
        return ((4, 4),) if options["num_levels"] > 1 else images
    return SIZES.get(case.removeprefix(name).removeprefix("-"), (3,))


def usual(case: str) -> tuple[int, ...]:
    """The shape of points for tests that need but one."""
    shape = shapes_of(case)[0] if promise_of(case).images else 3
    return (shape,) if isinstance(shape, int) else shape


SHAPES = [(case, shape) for case in CASES for shape in shapes_of(case)]
PRECISIONS = [(case, shape, DOUBLE) for case, shape in SHAPES]
PRECISIONS += [(case, shape, SINGLE) for case, shape in SHAPES if shape != 16]

each_case = pytest.mark.parametrize("case", CASES)
each_shape = pytest.mark.parametrize(("case", "shape"), SHAPES)
each_precision = pytest.mark.parametrize(("case", "shape", "dtype"), PRECISIONS)


def turned(case: str) -> Any:
    """A case for a test in which flows that are turned round take long; one of them is quick."""
    name, options = CASES[case]
    long = options.get("direction") == "sampling" and name != "coupling"
    return pytest.param(case, marks=pytest.mark.long if long else ())


def promise_of(case: str) -> Promise:
    return PROMISES[CASES[case][0]]


def build(case: str, shape: Shape, dtype: torch.dtype = DOUBLE, **others: Any) -> Flow:
    """A new flow."""
    name, options = CASES[case]
    torch.manual_seed(shape if isinstance(shape, int) else math.prod(shape))
    return build_flow(name, shape, **options | others).to(dtype)


def make(
    case: str, shape: Shape, dtype: torch.dtype = DOUBLE, part: float = 1.0, **others: Any
) -> Flow:
    """A flow with random weights, far from the identity; deep ones gentler in each layer."""
    flow = build(case, shape, dtype, **others)
    spread = part * promise_of(case).spread * min(1.0, (4 / flow.config.get("num_flows", 1)) ** 0.5)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(spread * torch.randn(parameter.shape, dtype=DOUBLE))
    return flow


def small(case: str) -> tuple[int, ...]:
    """The plane, or the usual image."""
    return usual(case) if promise_of(case).images else (2,)


@functools.cache
def trained(case: str) -> Flow:
    """A flow in the plane that has seen two modes for 50 steps, under contexts that say nothing.

    Or of images, which have them in each pair of their numbers.
    """
    flow, generator = build(case, small(case), SINGLE), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(flow.parameters(), lr=promise_of(case).lr)
    x = Bimodal().sample(2000 * flow.dim // 2, generator).reshape(2000, *flow.shape)
    for _ in range(50):
        optimizer.zero_grad()
        batch = x[torch.randint(len(x), (100,), generator=generator)]
        c = torch.randn(100, flow.context, generator=generator) if flow.context else None
        (-flow.log_prob(batch, c).mean()).backward()
        optimizer.step()
    return flow.to(DOUBLE)


def points(n: int, shape: Shape, dtype: torch.dtype = DOUBLE) -> Tensor:
    sizes = (shape,) if isinstance(shape, int) else shape
    return torch.randn(n, *sizes, generator=torch.Generator().manual_seed(1)).to(dtype)


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

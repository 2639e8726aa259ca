"""The data's units: what takes them away, against autograd, scipy and quadrature."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from flowlab.export import load, save
from flowlab.flows import Flow, build_flow
from flowlab.flows.units import Standardize, Support, Units, checked_support
from flowlab.training.replicates import Replicates

SUPPORT = [None, "positive", [-2.0, 5.0]]
DOUBLE = torch.float64


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def within(n: int, dtype: torch.dtype = DOUBLE) -> Tensor:
    """Points within SUPPORT, (n, 3), each coordinate with a scale of its own."""
    z = torch.randn(n, 3, generator=generator(), dtype=DOUBLE)
    columns = 300 + 20 * z[:, 0], (2 * z[:, 1] + 4).exp(), 7 * (1.5 * z[:, 2] - 1).sigmoid() - 2
    return torch.stack(columns, dim=1).to(dtype)


def disturbed(flow: Flow, seed: int = 2) -> Flow:
    torch.manual_seed(seed)
    for parameter in flow.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return flow


def fitted(dtype: torch.dtype = DOUBLE, seed: int = 2, **options: Any) -> Flow:
    """A flow with random weights and the units of points in SUPPORT."""
    flow = disturbed(build_flow("coupling", 3, support=SUPPORT, **options), seed).to(dtype)
    flow.fit(within(500), context(500) if flow.context else None)
    return flow


def context(n: int) -> Tensor:
    return 1e6 + 100 * torch.randn(n, 2, generator=generator(), dtype=DOUBLE)


@pytest.mark.parametrize("direction", ["density", "sampling"])
@pytest.mark.parametrize("way", ["forward", "inverse"])
def test_log_det_is_that_of_the_jacobian(way: str, direction: str) -> None:
    flow = fitted(direction=direction, context=2)
    x, c = within(20), context(20)
    x = x if way == "forward" else flow(x, c)[0]
    go = getattr(flow, way)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x, c: go(x, c)[0]))(x, c)
    torch.testing.assert_close(go(x, c)[1], torch.linalg.slogdet(jacobian).logabsdet)
    for layer in flow.transforms[:2]:
        go = getattr(layer, way)
        jacobian = torch.func.vmap(torch.func.jacrev(lambda x, _, go=go: go(x)[0]))(x, c)
        torch.testing.assert_close(go(x)[1], torch.linalg.slogdet(jacobian).logabsdet)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_there_and_back(dtype: torch.dtype) -> None:
    flow, x, tolerance = fitted(dtype), within(200), 1e-4 if dtype == torch.float32 else 1e-10
    before = x.clone()
    u, log_det = flow(x)
    assert u.dtype == log_det.dtype == flow.log_prob(x).dtype == dtype
    back, log_det_back = flow.inverse(u)
    assert (back.dtype, log_det_back.dtype) == (DOUBLE, dtype)
    torch.testing.assert_close(back, x, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(log_det_back, -log_det, rtol=tolerance, atol=tolerance)
    assert torch.equal(x, before)
    layers = [type(layer) for layer in flow.transforms]
    assert layers[:2] == [Support, Standardize]
    assert len(layers) == 2 + flow.config["num_flows"]


def test_a_flow_at_the_identity_is_scipys() -> None:
    """Normal, lognormal and logit-normal, with the mean and scale that `fit` finds."""
    x, flow = (
        within(1000),
        build_flow("coupling", 3, support=SUPPORT).double().requires_grad_(False),
    )
    flow.fit(x)
    y = (x[:, 2] + 2) / 7
    logit, log = (y / (1 - y)).log(), x[:, 1].log()
    mean, std = (  # to the precision of float32, in which they are held
        [f(z).item() for z in (x[:, 0], log, logit)]
        for f in (torch.mean, lambda z: z.std(0, correction=0))
    )
    logit_normal = stats.norm(mean[2], std[2]).logpdf(logit) - (7 * y * (1 - y)).log().numpy()
    expected = (
        stats.norm(mean[0], std[0]).logpdf(x[:, 0])
        + stats.lognorm(std[1], scale=math.exp(mean[1])).logpdf(x[:, 1])
        + logit_normal
    )
    np.testing.assert_allclose(flow.log_prob(x).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("support", "points", "ends"),
    [
        ("positive", "exp", (0.0, 40.0)),
        ([2, 3], "sigmoid", (2.0, 3.0)),
        (None, "clone", (-9.0, 9.0)),
    ],
)
def test_the_density_integrates_to_one_in_the_units_of_the_file(
    support: Any, points: str, ends: tuple[float, float]
) -> None:
    """By the midpoint rule in both coordinates, each with a support."""
    flow = disturbed(build_flow("coupling", 2, support=[support, None])).double()
    z = torch.randn(500, 2, generator=generator(), dtype=DOUBLE)
    x = getattr(z, points)()
    flow.fit(torch.stack((x[:, 0] + 2 * (support == [2, 3]), z[:, 1]), dim=1))
    n, (low, high) = 1500, ends
    edges = torch.linspace(0, 1, n + 1, dtype=DOUBLE)
    if support is not None:  # finer towards zero
        edges = edges**2 if support == "positive" else edges
    first, second = low + (high - low) * edges, torch.linspace(-9, 9, 301, dtype=DOUBLE)
    middles = [(e[1:] + e[:-1]) / 2 for e in (first, second)]
    cells = torch.outer(first.diff(), second.diff()).flatten()
    p = flow.log_prob(torch.cartesian_prod(*middles)).exp().detach()
    assert (p * cells).sum().item() == pytest.approx(1, abs=2e-3)


def test_points_outside_of_their_support_and_on_its_edge_have_no_density() -> None:
    flow, inside = fitted(), within(1)[0]
    for i, values in ((1, (0, -1, -math.inf)), (2, (-2, 5, -3, 6, math.inf))):
        for value in values:
            x = inside.clone()
            x[i] = value
            assert flow.log_prob(x) == -math.inf
    assert flow.log_prob(inside).isfinite()
    inside[1] = math.nan
    assert flow.log_prob(inside).isnan()


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_what_is_generated_lies_strictly_within_however_far_out(dtype: torch.dtype) -> None:
    support = ["positive", [0, 1], [1.7e9, 1.7e9 + 1], None, [-1e-300, 0]]
    flow = build_flow("coupling", 5, support=support).to(dtype)
    far = torch.tensor([1.0, 30.0, 1e3, 1e10, 1e37]).repeat_interleave(5).reshape(5, 5)
    u = torch.cat((far, -far)).to(dtype)
    x, log_det = flow.inverse(u)
    for column, (low, high) in zip(
        x.mT,
        [(0, math.inf), (0, 1), (1.7e9, 1.7e9 + 1), (-math.inf, math.inf), (-1e-300, 0)],
        strict=True,
    ):
        assert ((low < column) & (column < high)).all()
    assert log_det.isfinite().all()
    assert flow(x)[0].isfinite().all()
    leaf = u[:1].requires_grad_()
    (gradient,) = torch.autograd.grad(flow.inverse(leaf)[0].sum(), leaf)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_a_large_offset_costs_nothing(dtype: torch.dtype) -> None:
    z = torch.randn(1000, 1, generator=generator(), dtype=DOUBLE)
    flow = build_flow("coupling", 1, support=[None]).to(dtype)
    flow.fit(1.7e9 + 10 * z)
    u, _ = flow(1.7e9 + 10 * z)
    expected = (z - z.mean()) / z.std(correction=0)
    torch.testing.assert_close(u.double(), expected, rtol=0, atol=1e-6)
    back, _ = flow.inverse(u)
    torch.testing.assert_close(back, 1.7e9 + 10 * z, rtol=0, atol=2e-5)
    x = flow.sample(1000, generator=generator())
    assert x.std() == pytest.approx(10 * z.std().item(), rel=0.1)
    assert len(set(x.flatten().tolist())) == 1000


def test_all_points_are_seen_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    x, c = within(1000), context(1000)
    flow = build_flow("coupling", 3, support=SUPPORT, context=2).double()
    flow.fit(x, c)
    pieces = build_flow("coupling", 3, support=SUPPORT, context=2).double()
    pieces.chain.load_state_dict(flow.chain.state_dict())
    assert pieces.units is not None
    pieces.units.load_state_dict(Units(SUPPORT, 2).state_dict())
    monkeypatch.setattr("flowlab.flows.units.PIECE", 7)
    monkeypatch.setattr("flowlab.flows.flow.CHUNK", 50)  # as ActNorm sees
    pieces.fit(x, c)
    torch.testing.assert_close(pieces.state_dict(), flow.state_dict(), rtol=1e-12, atol=1e-12)
    assert flow.units is not None
    u, _ = flow.units(x)
    torch.testing.assert_close(u.mean(0), torch.zeros(3, dtype=DOUBLE), rtol=0, atol=1e-6)
    torch.testing.assert_close(u.std(0, correction=0), torch.ones(3, dtype=DOUBLE))
    with torch.no_grad():
        torch.testing.assert_close(pieces.log_prob(x, c), flow.log_prob(x, c))
        several = pieces.sample(101, c[:1], generator=generator())
    assert several.dtype == DOUBLE
    torch.testing.assert_close(several, flow.sample(101, c[:1], generator=generator()))


def test_many_samples_of_a_large_offset_keep_their_precision(monkeypatch: Any) -> None:
    flow = build_flow("coupling", 1, support=[None])
    flow.fit(1.7e9 + within(100)[:, :1])
    monkeypatch.setattr("flowlab.flows.flow.CHUNK", 10)
    assert len(set(flow.sample(100).flatten().tolist())) == 100


@pytest.mark.parametrize("value", [0.1, 1.7e9, 0.0])
def test_a_constant_column_is_not_divided_by_zero(value: float) -> None:
    x = torch.full((1000, 1), value, dtype=DOUBLE)
    layer = Standardize([1])
    layer.fit(x)
    assert layer.scale == 1
    u, log_det = layer(x)
    assert u.abs().max() < 1e-6
    assert (log_det == 0).all()


def test_a_context_has_units_too() -> None:
    flow, c = build_flow("coupling", 3, support=[None] * 3, context=2), context(500)
    flow.fit(within(500), c)
    standard = flow.without_units(c)
    assert standard is not None
    assert standard.dtype == torch.float32
    torch.testing.assert_close(standard.mean(0), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(standard.std(0), torch.ones(2), rtol=0, atol=2e-3)
    plain, flow = build_flow("coupling", 3, context=2), disturbed(flow)
    plain.chain[0].load_state_dict(flow.chain[1].state_dict())
    assert flow.units is not None
    u, log_det = flow.units(within(500))
    expected = plain.log_prob(u, standard) + log_det
    torch.testing.assert_close(flow.log_prob(within(500), c), expected)


def test_replicates_have_the_units_of_their_points() -> None:
    flows = [fitted(torch.float32, seed, context=2) for seed in (2, 3)]
    flows[1].fit(2 * within(500)[:, :] / torch.tensor([1, 1, 2]), context(500) + 50)
    together = Replicates(flows, lambda flow, x, c: -flow.log_prob(x, c))
    x, c = within(20), context(20)
    expected = torch.stack([-flow.log_prob(x, c) for flow in flows])
    torch.testing.assert_close(together(x, c), expected, rtol=1e-5, atol=1e-5)
    for i in range(2):
        torch.testing.assert_close(together.flow(i).state_dict(), flows[i].state_dict())


def test_compiles_without_a_break() -> None:
    torch._dynamo.reset()
    flow, x, c = fitted(context=2), within(20), context(20)
    compiled = torch.compile(flow.log_prob, backend="eager", fullgraph=True)(x, c)
    torch.testing.assert_close(compiled, flow.log_prob(x, c))


@pytest.mark.parametrize("direction", ["density", "sampling"])
def test_save_and_load_to_the_bit(direction: str, tmp_path: Path) -> None:
    flow = fitted(torch.float32, direction=direction, context=2).eval()
    assert flow.config["support"] == SUPPORT
    assert "support" not in build_flow("coupling", 3).config
    save(flow, tmp_path / "flow.safetensors")
    twin, x, c = load(tmp_path), within(50), context(50)
    assert twin.config == flow.config == build_flow(**flow.config).config
    assert torch.equal(twin.log_prob(x, c), flow.log_prob(x, c))
    samples = [f.sample(5, c, torch.Generator().manual_seed(6)) for f in (flow, twin)]
    assert torch.equal(*samples)


def test_everything_stays_on_the_device() -> None:
    flow = build_flow("coupling", 3, support=SUPPORT, context=2).to("meta")
    x, c = torch.zeros(7, 3, device="meta"), torch.zeros(7, 2, device="meta")
    for value in (*flow(x, c), *flow.inverse(x, c), flow.log_prob(x, c), flow.sample(1, c)):
        assert value.device.type == "meta"


@pytest.mark.parametrize(
    ("support", "message"),
    [
        ([None], r"support must have an entry for each number of \(2\), got \[None\]"),
        ("positive", "support must have an entry for each"),
        ([None, "negative"], r'null, "positive" or \[low, high\], got \'negative\''),
        ([None, [1, 0]], r"got \[1, 0\]"),
        ([None, [0, math.inf]], r"got \[0, inf\]"),
        ([None, [0, math.nan]], r"got \[0, nan\]"),
        ([None, [0, True]], r"got \[0, True\]"),
        ([None, [0, 10**400]], r"got \[0, 1000"),
        ([None, [-1.7e308, 1.7e308]], r"got \[-1.7e"),
        ([None, [0, 5e-324]], r"got \[0, 5e-324\]"),
        ([None, [0, 1, 2]], r"got \[0, 1, 2\]"),
        ([None, ["0", 1]], r"got \['0', 1\]"),
        ([None, {}], r"got \{\}"),
    ],
)
def test_mistakes_are_named(support: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_flow("coupling", 2, support=support)


def test_units_are_of_vectors() -> None:
    with pytest.raises(ValueError, match=r"for each number of \(2, 2\)"):
        checked_support([None, None], [2, 2])
    assert isinstance(build_flow("coupling", 2, support=(None, (0, 1))).chain[0], Units)

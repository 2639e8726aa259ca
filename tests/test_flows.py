"""The contract that every flow keeps: against autograd, quadrature, statistics and the file format.

Every name in `FLOWS` is tested by itself, turned round, and given a context; `CASES` adds options
worth a test of their own.
"""

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from flowlab.export import load, save
from flowlab.flows import FLOWS, Flow, Inverse, OneWay, build_flow
from flowlab.flows.nets import MLP
from flowlab.flows.solve import EVALUATIONS

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in FLOWS},
    **{f"{name}-context": (name, {"context": 2}) for name in FLOWS},
    **{f"{name}-sampling": (name, {"context": 1, "direction": "sampling"}) for name in FLOWS},
    "coupling-odd": ("coupling", {"num_flows": 5, "num_hidden": 5, "bound": 0.7}),
    "coupling-deep": ("coupling", {"num_flows": 32}),
}
DTYPES = {torch.float32: 1e-4, torch.float64: 1e-10}  # and the tolerance of each
IDENTITIES = [case for case in CASES if CASES[case][0] == "coupling"]  # at initialisation
STEPS = {"planar": 0.1}  # of a grid that resolves the density to rounding; 0.02 if not said

Map = Callable[..., tuple[Tensor, Tensor]]

DIMS = [(case, dim) for case in CASES for dim in (1, 2, 3, 16)]
each_dim = pytest.mark.parametrize(("case", "dim"), DIMS)
each_case = pytest.mark.parametrize("case", CASES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def make(
    case: str, dim: int, dtype: torch.dtype = torch.float64, spread: float = 0.3, **others: Any
) -> Flow:
    """A flow with random weights, far from the identity; deep ones gentler in each layer."""
    name, options = CASES[case]
    torch.manual_seed(dim)
    flow = build_flow(name, dim, **options | others)
    scale = spread * min(1.0, math.sqrt(4 / flow.config.get("num_flows", 4)))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return flow.to(dtype)


def points(n: int, dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(1)).to(dtype)


def context_of(flow: Flow, *leading: int, dtype: torch.dtype = torch.float64) -> Tensor | None:
    """A context of any leading shape for a flow that has one."""
    if not flow.context:
        return None
    generator = torch.Generator().manual_seed(7)
    return torch.randn(*leading, flow.context, generator=generator).to(dtype)


def solved(flow: Flow) -> str | None:
    """The direction that the flow's layers have no formula for, if there is one."""
    if any(isinstance(layer, OneWay) for layer in flow.transforms):
        return "inverse"
    turned = (layer.transform for layer in flow.transforms if isinstance(layer, Inverse))
    return "forward" if any(isinstance(layer, OneWay) for layer in turned) else None


@each_dtype
@each_dim
def test_round_trip_both_ways_and_log_dets_cancel(case: str, dim: int, dtype: torch.dtype) -> None:
    flow, x = make(case, dim, dtype), points(200, dim, dtype)
    c, tolerance = context_of(flow, 200, dtype=dtype), DTYPES[dtype]
    u, log_det = flow(x, c)
    back, log_det_back = flow.inverse(u, c)
    torch.testing.assert_close(back, x, rtol=0, atol=tolerance)
    torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=tolerance)
    y, log_det = flow.inverse(x, c)
    forth, log_det_forth = flow(y, c)
    torch.testing.assert_close(forth, x, rtol=0, atol=tolerance)
    torch.testing.assert_close(log_det_forth, -log_det, rtol=0, atol=tolerance)


def jacobian_of(transform: Map, x: Tensor, c: Tensor | None) -> Tensor:
    """The Jacobian at each point: (N, D) -> (N, D, D)."""

    def one(x: Tensor, c: Tensor | None) -> Tensor:
        return transform(x, c)[0]

    return torch.func.vmap(torch.func.jacrev(one), in_dims=(0, None if c is None else 0))(x, c)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@each_dtype
@each_dim
def test_log_det_is_that_of_the_jacobian(
    case: str, dim: int, dtype: torch.dtype, direction: str
) -> None:
    flow, x = make(case, dim, dtype), points(20, dim, dtype)
    transform, c = getattr(flow, direction), context_of(flow, 20, dtype=dtype)
    expected = torch.linalg.slogdet(jacobian_of(transform, x, c).double()).logabsdet
    torch.testing.assert_close(transform(x, c)[1].double(), expected, rtol=0, atol=DTYPES[dtype])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float64, 1e-6)])
@pytest.mark.parametrize(("case", "dim"), [(case, dim) for case, dim in DIMS if dim <= 2])
def test_density_integrates_to_one(
    case: str, dim: int, dtype: torch.dtype, tolerance: float
) -> None:
    flow = make(case, dim, dtype, spread=0.2)
    step = 0.1 if dtype == torch.float32 else STEPS.get(CASES[case][0], 0.02)
    c = context_of(flow, dtype=dtype)
    axis = torch.arange(-14, 14, step, dtype=dtype)
    total = 0.0
    with torch.no_grad():
        for row in axis.split(200):
            grid = torch.cartesian_prod(*[row, *[axis] * (dim - 1)]).reshape(-1, dim)
            total += flow.log_prob(grid, c).exp().double().sum().item() * step**dim
    assert total == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize(("case", "dim"), [(case, dim) for case, dim in DIMS if dim == 2])
def test_samples_agree_with_the_density_cell_by_cell(case: str, dim: int) -> None:
    """A chi-squared test over the cells of a grid, fails by chance once in 10^6 runs."""
    flow = make(case, dim)
    c, edges, sub = context_of(flow), torch.linspace(-3, 3, 13, dtype=torch.float64), 40
    fine = torch.linspace(-3, 3, 12 * sub + 1, dtype=torch.float64)
    middles = (fine[1:] + fine[:-1]) / 2
    with torch.no_grad():
        density = flow.log_prob(torch.cartesian_prod(middles, middles), c).exp()
    cells = density.reshape(12, sub, 12, sub).sum(dim=(1, 3)) * (6 / (12 * sub)) ** 2
    n = 50_000
    samples = flow.sample(n, c, torch.Generator().manual_seed(2))
    counts = torch.histogramdd(samples, [edges, edges]).hist
    observed = torch.cat((counts.flatten(), n - counts.sum()[None]))
    expected = n * torch.cat((cells.flatten(), 1 - cells.sum()[None]))
    common = expected > 5
    observed = torch.cat((observed[common], observed[~common].sum()[None]))
    expected = torch.cat((expected[common], expected[~common].sum()[None]))
    statistic = ((observed - expected) ** 2 / expected).sum().item()
    assert stats.chi2.sf(statistic, df=len(observed) - 1) > 1e-6


@each_dim
def test_samples_agree_with_the_density_in_any_dimension(case: str, dim: int) -> None:
    """E[q(x) / p(x)] = 1 over samples from p, for any density q; 5 standard errors: 6 in 10^7."""
    flow = make(case, dim, spread=0.1)
    for c in (None, context_of(flow, 1)) if not flow.context else context_of(flow, 2).split(1):
        x = flow.sample(40_000, c, torch.Generator().manual_seed(3)).reshape(-1, dim)
        center, scale = x.mean(0), 0.8 * x.std(0)
        q = torch.distributions.Independent(torch.distributions.Normal(center, scale), 1)
        ratio = (q.log_prob(x) - flow.log_prob(x, c)).exp().detach()
        assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(len(ratio))
        assert ratio.std() < 10  # or the test would see nothing


@each_dtype
@pytest.mark.parametrize(("case", "dim"), [(case, dim) for case, dim in DIMS if case in IDENTITIES])
def test_identity_at_initialisation_to_the_bit(case: str, dim: int, dtype: torch.dtype) -> None:
    name, options = CASES[case]
    flow, x = build_flow(name, dim, **options).to(dtype), points(100, dim, dtype)
    c = context_of(flow, 100, dtype=dtype)
    for value, log_det in (flow(x, c), flow.inverse(x, c)):
        assert torch.equal(value, x)
        assert torch.equal(log_det, torch.zeros(100, dtype=dtype))


@each_case
def test_near_the_identity_at_initialisation(case: str) -> None:
    torch.manual_seed(0)
    name, options = CASES[case]
    flow, x = build_flow(name, 2, **options), points(100, 2, torch.float32)
    u, log_det = flow(x, context_of(flow, 100, dtype=torch.float32))
    assert (u - x).abs().max() < 0.2
    assert log_det.abs().max() < 0.2


@each_dim
def test_every_coordinate_gets_moved(case: str, dim: int) -> None:
    flow, x = make(case, dim), points(50, dim)
    assert ((flow(x, context_of(flow, 50))[0] - x).abs().amax(0) > 1e-3).all()


@each_dim
def test_every_parameter_gets_a_gradient(case: str, dim: int) -> None:
    flow, x = make(case, dim), points(100, dim)
    value, log_det = flow(x, context_of(flow, 100))
    (value.square().sum(-1) - log_det).mean().backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0 or not parameter.numel(), name


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0,), (2, 0, 3)])
@each_dim
def test_any_batch_shape_and_an_untouched_input(
    case: str, dim: int, shape: tuple[int, ...]
) -> None:
    flow = make(case, dim)
    x, c = points(math.prod(shape), dim).reshape(*shape, dim), context_of(flow, *shape)
    flat = None if c is None else c.reshape(-1, flow.context)
    before = x.clone(), None if c is None else c.clone()
    for transform in (flow, flow.inverse):
        value, log_det = transform(x, c)
        assert value.shape == (*shape, dim)
        assert log_det.shape == shape
        flat_value, flat_log_det = transform(x.reshape(-1, dim), flat)
        torch.testing.assert_close(value, flat_value.reshape(value.shape))
        torch.testing.assert_close(log_det, flat_log_det.reshape(shape))
    assert flow.log_prob(x, c).shape == shape
    assert torch.equal(x, before[0])
    assert c is None or torch.equal(c, before[1])


@each_case
def test_the_layers_are_the_flow_and_write_into_nothing(case: str) -> None:
    flow, x = make(case, 3), points(20, 3)
    c, u, total = context_of(flow, 20), x, torch.zeros(20, dtype=torch.float64)
    layers = flow.transforms
    assert len(layers) == flow.config["num_flows"]
    for layer in layers:
        before, version = u, u._version
        u, log_det = layer(u, c)
        assert before._version == version
        assert u is not before
        total = total + log_det
        back, log_det_back = layer.inverse(u, c)
        torch.testing.assert_close(back, before, rtol=0, atol=1e-10)
        torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=1e-10)
    torch.testing.assert_close((u, total), flow(x, c), rtol=0, atol=1e-12)


@each_case
def test_a_context_decides_and_broadcasts(case: str) -> None:
    flow = make(case, 3)
    if not flow.context:
        with pytest.raises(ValueError, match="this flow needs no context"):
            flow.log_prob(points(5, 3), points(5, 2))
        return
    x, c = points(20, 3).reshape(5, 4, 3), context_of(flow, 4)
    assert c is not None
    with torch.no_grad():
        together = flow.log_prob(x, c)
        alone = [flow.log_prob(x[:, i], c[i]) for i in range(4)]
        torch.testing.assert_close(together, torch.stack(alone, dim=1))
        one = flow.log_prob(x[0, 0], c)  # a point in many contexts
        assert one.shape == (4,)
        assert len(one.unique()) == 4
        for transform in (flow, flow.inverse):
            assert transform(x[:, :1], c)[0].shape == (5, 4, 3)
            assert transform(x[0, 0], c)[1].shape == (4,)
    with pytest.raises(ValueError, match=r"points \(5, 4, 3\) and context \(3, .\) do not"):
        flow.log_prob(x, c[:3])
    for wrong in (points(4, flow.context + 1), torch.tensor(1.0)):
        with pytest.raises(ValueError, match=rf"expected a context \(..., {flow.context}\), got"):
            flow.log_prob(x, wrong)
    for call in (lambda: flow(x), lambda: flow.sample(3)):
        with pytest.raises(ValueError, match=rf"this flow needs a context \(..., {flow.context}\)"):
            call()


@each_case
def test_samples_given_contexts_are_those_of_each_context(case: str) -> None:
    """The random numbers of all are drawn at once, so each context's can be found among them."""
    flow = make(case, 3)
    if not flow.context:
        assert flow.sample(0).shape == (0, 3)
        return
    c = context_of(flow, 2, 4)
    x = flow.sample(10, c, torch.Generator().manual_seed(4))
    assert x.shape == (10, 2, 4, 3)
    assert flow.sample(10, context_of(flow)).shape == (10, 3)
    assert flow.sample(0, c).shape == (0, 2, 4, 3)
    with torch.no_grad():
        u, _ = flow(x, c)
    normal = torch.randn(80, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    torch.testing.assert_close(u.reshape(80, 3), normal, rtol=0, atol=1e-10)


@each_dtype
@each_dim
def test_finite_far_out(case: str, dim: int, dtype: torch.dtype) -> None:
    flow, x = make(case, dim, dtype), 1e6 * points(100, dim, dtype)
    c = context_of(flow, 100, dtype=dtype)
    for far in (x, 1e6 * x.sign()):
        assert flow.log_prob(far, c).isfinite().all()
        for value, log_det in (flow(far, c), flow.inverse(far, c)):
            assert value.isfinite().all()
            assert log_det.isfinite().all()


@each_dtype
@each_dim
def test_the_same_generator_gives_the_same_samples(case: str, dim: int, dtype: torch.dtype) -> None:
    flow = make(case, dim, dtype)
    c = context_of(flow, dtype=dtype)
    first, second, other = (
        flow.sample(10, c, torch.Generator().manual_seed(seed)) for seed in (4, 4, 5)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.dtype == dtype


@each_case
def test_many_points_are_taken_in_chunks(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, x = make(case, 3), points(4 * 26, 3).reshape(4, 26, 3)
    c, bars, sizes = context_of(flow, 4, 1), [], []

    def progress(chunks: Any) -> Any:
        bars.append(len(chunks))
        return chunks

    def sample() -> Tensor:
        n = 26 if flow.context else 104
        return flow.sample(n, c, torch.Generator().manual_seed(6), progress)

    with torch.no_grad():
        whole, samples = flow.log_prob(x, c, progress), sample()
    assert bars == []
    flow.chain[0].register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    monkeypatch.setattr("flowlab.flows.flow.CHUNK", 50)
    with torch.no_grad():
        torch.testing.assert_close(flow.log_prob(x, c, progress), whole, atol=1e-5, rtol=1e-5)
    assert sizes == [50, 50, 4]
    in_chunks = sample()
    torch.testing.assert_close(in_chunks, samples, atol=1e-5, rtol=1e-5)
    assert bars == [3, 3]
    sizes.clear()
    assert flow.log_prob(x, c).requires_grad
    assert sizes == [104]  # whole, for autograd


def stacked(flows: list[Flow]) -> tuple[dict[str, Tensor], Callable[..., Any]]:
    """The flows' parameters in one stack, and how a direction of one of them is called."""
    parameters, buffers = torch.func.stack_module_state(flows)

    class Direction(torch.nn.Module):
        def __init__(self, direction: str):
            super().__init__()
            self.flow, self.direction = flows[0], direction

        def forward(self, *args: Any) -> Any:
            return getattr(self.flow, self.direction)(*args)

    def call(direction: str, named: dict[str, Tensor], *args: Any) -> Any:
        named = {f"flow.{name}": value for name, value in named.items()}
        return torch.func.functional_call(Direction(direction), named, args)

    return parameters | buffers, call


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("grad", [True, False])
@each_dim
def test_vmap_over_stacked_parameters(case: str, dim: int, direction: str, grad: bool) -> None:
    flows = [make(case, dim, spread=spread) for spread in (0.1, 0.2, 0.3)]
    x, c = points(20, dim), context_of(flows[0], 20)
    named, call = stacked(flows)
    with torch.set_grad_enabled(grad):
        together = torch.func.vmap(lambda named: call(direction, named, x, c))(named)
        alone = [getattr(flow, direction)(x, c) for flow in flows]
    for values, expected in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(values, torch.stack(expected), rtol=0, atol=1e-10)


@pytest.mark.parametrize("case", [c for name in FLOWS for c in (name, f"{name}-sampling")])
def test_compiles_without_a_break(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the fast backend: whether inductor's code is right is for torch to test."""
    monkeypatch.setitem(EVALUATIONS, torch.float64, 4)  # of which all are compiled
    torch._dynamo.reset()
    flow, x = make(case, 3, num_flows=2), points(20, 3)
    c, way = context_of(flow, 20), functools.partial(torch.compile, backend="aot_eager")
    with torch.no_grad():
        compiled = way(flow.inverse, fullgraph=True)(x, c)
        torch.testing.assert_close(compiled, flow.inverse(x, c), rtol=0, atol=1e-10)
    compiled, plain = way(flow.log_prob, fullgraph=True)(x, c), flow.log_prob(x, c)
    torch.testing.assert_close(compiled, plain, rtol=0, atol=1e-10)
    gradients = (torch.autograd.grad(y.sum(), [*flow.parameters()]) for y in (compiled, plain))
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-8)


@each_dtype
@each_dim
def test_save_and_load_to_the_bit(case: str, dim: int, dtype: torch.dtype, tmp_path: Any) -> None:
    flow, x = make(case, dim, dtype), points(50, dim, dtype)
    c = context_of(flow, 50, dtype=dtype)
    save(flow, tmp_path / "flow.safetensors")
    twin = load(tmp_path)
    assert twin.config == flow.config
    assert build_flow(**flow.config).config == flow.config
    assert torch.equal(twin.log_prob(x, c), flow.log_prob(x, c))
    sample, twin_sample = (f.sample(5, c, torch.Generator().manual_seed(6)) for f in (flow, twin))
    assert torch.equal(sample, twin_sample)


@pytest.mark.parametrize("name", FLOWS)
def test_direction_sampling_is_the_flow_turned_round(name: str) -> None:
    torch.manual_seed(0)
    flow = build_flow(name, 3)
    torch.manual_seed(0)
    turned = build_flow(name, 3, direction="sampling")
    for part, other in zip(flow.chain, reversed(turned.chain), strict=True):
        for first, second in zip(part.parameters(), other.parameters(), strict=True):
            assert torch.equal(first, second)  # drawn alike
            second.data.normal_(std=0.3)
            first.data.copy_(second)
    x = points(20, 3, torch.float32)
    torch.testing.assert_close(turned.inverse(x), flow(x))
    torch.testing.assert_close(turned(x), flow.inverse(x))


@pytest.mark.parametrize(
    "device",
    [
        "meta",  # as good as a GPU for finding tensors that were left on the CPU
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
        ),
    ],
)
@each_case
def test_everything_stays_on_the_device(case: str, device: str) -> None:
    flow = make(case, 3, torch.float32, num_flows=2).to(device)
    c = None if not flow.context else context_of(flow, 7).float().to(device)
    x = flow.sample(1, c)[0] if flow.context else flow.sample(7)
    assert x.device.type == device
    assert x.shape == (7, 3)
    for value in (*flow(x, c), *flow.inverse(x, c), flow.log_prob(x, c)):
        assert value.device.type == device


@each_case
def test_a_wrong_shape_of_points_names_both(case: str) -> None:
    flow = make(case, 3)
    for call in (flow, flow.inverse, flow.log_prob):
        with pytest.raises(ValueError, match=r"expected points \(..., 3\), got shape \(5, 4\)"):
            call(points(5, 4))
        with pytest.raises(ValueError, match=r"expected points \(..., 3\), got shape \(\)"):
            call(torch.tensor(1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "nosuch", "shape": 2}, "unknown flow 'nosuch'; available: coupling"),
        ({"name": "coupling", "shape": 2, "widht": 3}, "no option widht; available: num_flows"),
        ({"name": "coupling", "shape": 2.0}, "shape must be a positive whole number"),
        ({"name": "coupling", "shape": True}, "shape must be a positive whole number"),
        ({"name": "coupling", "shape": 0}, "shape must be a positive whole number"),
        ({"name": "coupling", "shape": []}, "shape must be a positive whole number"),
        ({"name": "coupling", "shape": [2, "3"]}, r"or a list of them, got \[2, '3'\]"),
        ({"name": "coupling", "shape": [1, 8, 8]}, "is of vectors, a shape of one number"),
        ({"name": "planar", "shape": (8, 8)}, "is of vectors, a shape of one number"),
        ({"name": "coupling", "shape": 2, "context": -1}, "context must be a whole number"),
        ({"name": "coupling", "shape": 2, "context": 1.0}, "context must be a whole number"),
        ({"name": "coupling", "shape": 2, "direction": "x"}, "must be density or sampling, got"),
        ({"name": "coupling", "shape": 2, "num_flows": True}, "must be of type int, got True"),
        ({"name": "coupling", "shape": 2, "num_flows": "4"}, "must be of type int, got '4'"),
        (
            {"name": "coupling", "shape": 2, "num_flows": 0},
            "num_flows of flow .* at least 1, got 0",
        ),
        ({"name": "coupling", "shape": 2, "num_hidden": -1}, "must be at least 1, got -1"),
        ({"name": "coupling", "shape": 2, "bound": 0.0}, "bound must be positive and finite"),
        ({"name": "coupling", "shape": 2, "bound": math.nan}, "bound must be positive and finite"),
        ({"name": "planar", "shape": 2, "num_flows": 0}, "must be at least 1, got 0"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_flow(**arguments)


def test_a_single_coupling_layer_warns_and_keeps_half_of_the_coordinates() -> None:
    with pytest.warns(UserWarning, match="half of the coordinates never move"):
        flow = build_flow("coupling", 3, num_flows=1)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.normal_()
    x = points(10, 3).float()
    u, _ = flow(x)
    assert torch.equal(u[:, 0::2], x[:, 0::2])
    assert (u[:, 1] != x[:, 1]).all()


@pytest.mark.parametrize(("dim", "num_flows"), [(3, 2), (1, 1)])
def test_where_all_coordinates_move_there_is_no_warning(dim: int, num_flows: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_flow("coupling", dim, num_flows=num_flows)


def test_a_hand_set_affine_flow_is_a_multivariate_normal() -> None:
    """With t linear in the kept half and s constant, u = A x + c, so x is Gaussian."""
    s0, a, t0, s1, b, t1 = 0.3, 0.8, -0.5, -0.6, 0.4, 1.1
    flow = build_flow("coupling", 2, num_flows=2, num_hidden=2, bound=2.0).double()
    ((w1, w2, w3, b1, b2, b3),) = flow.chain[0].weights
    double = functools.partial(torch.tensor, dtype=torch.float64)
    with torch.no_grad():
        w1.copy_(double([[1], [-1]]))  # relu(x) - relu(-x) = x
        w2.copy_(torch.eye(2))
        w3.copy_(double([[[0, 0], [a, -a]], [[0, 0], [b, -b]]]))
        b1.zero_()
        b2.zero_()
        b3.copy_(double([[2 * math.atanh(s0 / 2), t0], [2 * math.atanh(s1 / 2), t1]]))
    first, second = double([[1, 0], [a, math.exp(s0)]]), double([[math.exp(s1), b], [0, 1]])
    matrix, offset = second @ first, second @ double([0, t0]) + double([t1, 0])
    normal = torch.distributions.MultivariateNormal(
        -torch.linalg.solve(matrix, offset), precision_matrix=matrix.T @ matrix
    )
    x = 3 * points(100, 2)
    torch.testing.assert_close(flow.log_prob(x), normal.log_prob(x), rtol=0, atol=1e-10)


def test_the_mlps_are_plain_networks_of_pytorch() -> None:
    """Two hidden layers of ReLU units, and a last layer of zeros."""
    mlp = MLP(4, num_hidden=6, num_out=5).double()
    assert not mlp.weights[2].any()
    assert not mlp.biases[2].any()
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 5))
    net.double()
    with torch.no_grad():
        for i in range(3):
            mlp.weights[i].normal_()
            mlp.biases[i].normal_()
            net[2 * i].weight.copy_(mlp.weights[i])
            net[2 * i].bias.copy_(mlp.biases[i])
    x = points(50, 4)
    torch.testing.assert_close(mlp(x), net(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(mlp(x[:, :1], x[:, 1:]), net(x), rtol=0, atol=1e-12)


def test_hidden_layers_start_as_those_of_pytorch() -> None:
    """Kolmogorov-Smirnov against `torch.nn.Linear` itself, fails by chance four times in 10^6."""
    torch.manual_seed(0)
    mlps = [MLP(4, num_hidden=25, num_out=2) for _ in range(300)]
    for i, num_in in enumerate((4, 25)):
        layers = [nn.Linear(num_in, 25) for _ in range(300)]
        pairs = [
            (torch.stack([m.weights[i] for m in mlps]), torch.stack([n.weight for n in layers])),
            (torch.stack([m.biases[i] for m in mlps]), torch.stack([n.bias for n in layers])),
        ]
        for own, other in pairs:
            own, other = own.detach().flatten(), other.detach().flatten()
            assert own.abs().max() <= 1 / math.sqrt(num_in)
            assert stats.ks_2samp(own.numpy(), other.numpy()).pvalue > 1e-6


def test_a_coupling_flow_of_one_coordinate_is_a_gaussian_for_each_context() -> None:
    flow = make("coupling-context", 1)
    contexts, x = context_of(flow, 4), torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None, None]
    with torch.no_grad():
        log_p = flow.log_prob(x, contexts)
        mean = flow.inverse(torch.zeros(1, dtype=torch.float64), contexts)[0][:, 0]
        scale = flow.inverse(torch.ones(1, dtype=torch.float64), contexts)[0][:, 0] - mean
    expected = torch.distributions.Normal(mean, scale).log_prob(x[..., 0])
    torch.testing.assert_close(log_p, expected, rtol=0, atol=1e-10)
    assert len(mean.unique()) == len(scale.unique()) == 4

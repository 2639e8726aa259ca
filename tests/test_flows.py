"""The contract that every flow keeps: against autograd, quadrature, statistics and the file format.

Every name in `FLOWS` is tested by itself; `CASES` adds options worth a test of their own.
"""

import functools
import math
import warnings
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from flowlab.export import load, save
from flowlab.flows import FLOWS, Flow, build_flow
from flowlab.flows.coupling import StackedMLP, mlp

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in FLOWS},
    "coupling-odd": ("coupling", {"num_flows": 5, "num_hidden": 5, "bound": 0.7}),
    "coupling-deep": ("coupling", {"num_flows": 32}),
}
DTYPES = {torch.float32: 1e-4, torch.float64: 1e-10}  # and the tolerance of each


LEAST_DIM = {"coupling": 2}  # 1 where nothing is said

DIMS = [
    (case, dim)
    for case, (name, _) in CASES.items()
    for dim in (*range(1, 9), 16)
    if dim >= LEAST_DIM.get(name, 1)
]
each_dim = pytest.mark.parametrize(("case", "dim"), DIMS)
each_case = pytest.mark.parametrize("case", CASES)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def make(case: str, dim: int, dtype: torch.dtype = torch.float64, spread: float = 0.3) -> Flow:
    """A flow with random weights, far from the identity; deep ones gentler in each layer."""
    name, options = CASES[case]
    torch.manual_seed(dim)
    flow = build_flow(name, dim, **options)
    scale = spread * min(1.0, math.sqrt(4 / flow.config.get("num_flows", 4)))
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return flow.to(dtype)


def points(n: int, dim: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(1)).to(dtype)


@each_dtype
@each_dim
def test_round_trip_both_ways_and_log_dets_cancel(case: str, dim: int, dtype: torch.dtype) -> None:
    flow, x = make(case, dim, dtype), points(200, dim, dtype)
    tolerance = DTYPES[dtype]
    u, log_det = flow(x)
    back, log_det_back = flow.inverse(u)
    torch.testing.assert_close(back, x, rtol=0, atol=tolerance)
    torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=tolerance)
    y, log_det = flow.inverse(x)
    forth, log_det_forth = flow(y)
    torch.testing.assert_close(forth, x, rtol=0, atol=tolerance)
    torch.testing.assert_close(log_det_forth, -log_det, rtol=0, atol=tolerance)


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@each_dtype
@each_dim
def test_log_det_is_that_of_the_jacobian(
    case: str, dim: int, dtype: torch.dtype, direction: str
) -> None:
    transform, x = getattr(make(case, dim, dtype), direction), points(20, dim, dtype)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda point: transform(point)[0]))(x)
    expected = torch.linalg.slogdet(jacobian.double()).logabsdet
    torch.testing.assert_close(transform(x)[1].double(), expected, rtol=0, atol=DTYPES[dtype])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.float64, 1e-6)])
@pytest.mark.parametrize(("case", "dim"), [(case, dim) for case, dim in DIMS if dim <= 2])
def test_density_integrates_to_one(
    case: str, dim: int, dtype: torch.dtype, tolerance: float
) -> None:
    flow = make(case, dim, dtype, spread=0.2)
    step = 0.02
    axis = torch.arange(-14, 14, step, dtype=dtype)
    total = 0.0
    with torch.no_grad():
        for row in axis.split(200):
            grid = torch.cartesian_prod(*[row, *[axis] * (dim - 1)]).reshape(-1, dim)
            total += flow.log_prob(grid).exp().double().sum().item() * step**dim
    assert total == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize(("case", "dim"), [(case, dim) for case, dim in DIMS if dim == 2])
def test_samples_agree_with_the_density_cell_by_cell(case: str, dim: int) -> None:
    """A chi-squared test over the cells of a grid, fails by chance once in 10^6 runs."""
    flow = make(case, dim)
    edges, sub = torch.linspace(-3, 3, 13, dtype=torch.float64), 40
    fine = torch.linspace(-3, 3, 12 * sub + 1, dtype=torch.float64)
    middles = (fine[1:] + fine[:-1]) / 2
    density = flow.log_prob(torch.cartesian_prod(middles, middles)).exp().detach()
    cells = density.reshape(12, sub, 12, sub).sum(dim=(1, 3)) * (6 / (12 * sub)) ** 2
    n = 50_000
    samples = flow.sample(n, torch.Generator().manual_seed(2))
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
    x = flow.sample(40_000, torch.Generator().manual_seed(3))
    center, scale = x.mean(0), 0.8 * x.std(0)
    q = torch.distributions.Independent(torch.distributions.Normal(center, scale), 1)
    ratio = (q.log_prob(x) - flow.log_prob(x)).exp().detach()
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(len(ratio))
    assert ratio.std() < 10  # or the test would see nothing


@each_dtype
@each_dim
def test_identity_at_initialisation_to_the_bit(case: str, dim: int, dtype: torch.dtype) -> None:
    name, options = CASES[case]
    flow, x = build_flow(name, dim, **options).to(dtype), points(100, dim, dtype)
    for value, log_det in (flow(x), flow.inverse(x)):
        assert torch.equal(value, x)
        assert torch.equal(log_det, torch.zeros(100, dtype=dtype))


@each_dim
def test_every_coordinate_gets_moved(case: str, dim: int) -> None:
    flow, x = make(case, dim), points(50, dim)
    assert ((flow(x)[0] - x).abs().amax(0) > 1e-3).all()


@each_dim
def test_every_parameter_gets_a_gradient(case: str, dim: int) -> None:
    flow = make(case, dim)
    flow.log_prob(points(100, dim)).mean().backward()
    for name, parameter in flow.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (0,), (2, 0, 3)])
@each_dim
def test_any_batch_shape_and_an_untouched_input(
    case: str, dim: int, shape: tuple[int, ...]
) -> None:
    flow = make(case, dim)
    x = points(math.prod(shape), dim).reshape(*shape, dim)
    before = x.clone()
    for transform in (flow, flow.inverse):
        value, log_det = transform(x)
        assert value.shape == (*shape, dim)
        assert log_det.shape == shape
        flat, flat_log_det = transform(x.reshape(-1, dim))
        torch.testing.assert_close(value, flat.reshape(value.shape))
        torch.testing.assert_close(log_det, flat_log_det.reshape(shape))
    assert flow.log_prob(x).shape == shape
    assert torch.equal(x, before)


@each_dtype
@each_dim
def test_finite_far_out(case: str, dim: int, dtype: torch.dtype) -> None:
    flow, x = make(case, dim, dtype), 1e6 * points(100, dim, dtype)
    for far in (x, 1e6 * x.sign()):
        assert flow.log_prob(far).isfinite().all()
        for value, log_det in (flow(far), flow.inverse(far)):
            assert value.isfinite().all()
            assert log_det.isfinite().all()


@each_dtype
@each_dim
def test_the_same_generator_gives_the_same_samples(case: str, dim: int, dtype: torch.dtype) -> None:
    flow = make(case, dim, dtype)
    first, second, other = (
        flow.sample(10, torch.Generator().manual_seed(seed)) for seed in (4, 4, 5)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.dtype == dtype
    assert flow.sample(0).shape == (0, dim)


@each_case
def test_many_points_are_taken_in_chunks(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, x = make(case, 3), points(4 * 26, 3).reshape(4, 26, 3)
    with torch.no_grad():
        whole, sample = flow.log_prob(x), flow.sample(104, torch.Generator().manual_seed(6))
    sizes: list[int] = []
    flow.transforms[0].register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    monkeypatch.setattr("flowlab.flows.flow.CHUNK", 50)
    with torch.no_grad():
        torch.testing.assert_close(flow.log_prob(x), whole, atol=1e-5, rtol=1e-5)
    assert sizes == [50, 50, 4]
    in_chunks = flow.sample(104, torch.Generator().manual_seed(6))
    torch.testing.assert_close(in_chunks, sample, atol=1e-5, rtol=1e-5)
    assert flow.log_prob(x).requires_grad
    assert sizes == [50, 50, 4, 4]  # the last whole: four rows of 26 points


@each_dtype
@each_dim
def test_save_and_load_to_the_bit(case: str, dim: int, dtype: torch.dtype, tmp_path: Any) -> None:
    flow, x = make(case, dim, dtype), points(50, dim, dtype)
    save(flow, tmp_path / "flow.safetensors")
    twin = load(tmp_path)
    assert twin.config == flow.config
    assert torch.equal(twin.log_prob(x), flow.log_prob(x))
    sample, twin_sample = (f.sample(5, torch.Generator().manual_seed(6)) for f in (flow, twin))
    assert torch.equal(sample, twin_sample)


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
    flow = make(case, 3, torch.float32).to(device)
    x = flow.sample(7)
    assert x.device.type == device
    assert x.shape == (7, 3)
    for value in (*flow(x), *flow.inverse(x), flow.log_prob(x)):
        assert value.device.type == device


@each_case
def test_a_wrong_last_dimension_names_both_numbers(case: str) -> None:
    flow = make(case, 3)
    for call in (flow, flow.inverse, flow.log_prob):
        with pytest.raises(ValueError, match=r"last dimension of 3, got shape \(5, 4\)"):
            call(points(5, 4))
        with pytest.raises(ValueError, match=r"last dimension of 3, got shape \(\)"):
            call(torch.tensor(1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "nosuch", "dim": 2}, "unknown flow 'nosuch'; available: coupling"),
        ({"name": "coupling", "dim": 2, "widht": 3}, "no option widht; available: num_flows"),
        ({"name": "coupling", "dim": 2.0}, "dim of flow 'coupling' must be of type int, got 2.0"),
        ({"name": "coupling", "dim": 2, "num_flows": True}, "must be of type int, got True"),
        ({"name": "coupling", "dim": 2, "num_flows": "4"}, "must be of type int, got '4'"),
        ({"name": "coupling", "dim": 2, "num_flows": 0}, "must be at least 1, got 0 and 8"),
        ({"name": "coupling", "dim": 2, "num_hidden": -1}, "must be at least 1, got 4 and -1"),
        ({"name": "coupling", "dim": 2, "bound": 0.0}, "bound must be positive and finite"),
        ({"name": "coupling", "dim": 2, "bound": math.nan}, "bound must be positive and finite"),
        ({"name": "coupling", "dim": 1}, "needs dim >= 2"),
        ({"name": "coupling", "dim": 0}, "needs dim >= 2"),
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


def test_two_layers_or_more_do_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_flow("coupling", 3, num_flows=2)


def test_a_hand_set_affine_flow_is_a_multivariate_normal() -> None:
    """With t linear in the kept half and s constant, u = A x + c, so x is Gaussian."""
    s0, a, t0, s1, b, t1 = 0.3, 0.8, -0.5, -0.6, 0.4, 1.1
    flow = build_flow("coupling", 2, num_flows=2, num_hidden=2, bound=2.0).double()
    (net,) = flow.transforms[0].nets
    double = functools.partial(torch.tensor, dtype=torch.float64)
    both_signs = double([[1], [-1]])  # relu(x) - relu(-x) = x
    with torch.no_grad():
        net.weights[0].copy_(both_signs.expand(2, 2, 1))
        net.weights[1].copy_(torch.eye(2).expand(2, 2, 2))
        net.weights[2].copy_(double([[[0, 0], [a, -a]], [[0, 0], [b, -b]]]))
        net.biases[0].zero_()
        net.biases[1].zero_()
        net.biases[2].copy_(double([[2 * math.atanh(s0 / 2), t0], [2 * math.atanh(s1 / 2), t1]]))
    first, second = double([[1, 0], [a, math.exp(s0)]]), double([[math.exp(s1), b], [0, 1]])
    matrix, offset = second @ first, second @ double([0, t0]) + double([t1, 0])
    normal = torch.distributions.MultivariateNormal(
        -torch.linalg.solve(matrix, offset), precision_matrix=matrix.T @ matrix
    )
    x = 3 * points(100, 2)
    torch.testing.assert_close(flow.log_prob(x), normal.log_prob(x), rtol=0, atol=1e-10)


def test_the_mlps_are_plain_networks_of_pytorch() -> None:
    """Two hidden layers of ReLU units, and a last layer of zeros."""
    stack = StackedMLP(3, num_in=4, num_hidden=6, num_out=5).double()
    with torch.no_grad():
        assert not stack.weights[2].any()
        assert not stack.biases[2].any()
        for parameter in stack.parameters():
            parameter.normal_()
    x = points(50, 4)
    for w1, w2, w3, b1, b2, b3 in stack.unstack():
        net = nn.Sequential(
            nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 5)
        ).double()
        values = dict(zip(net.state_dict(), (w1, b1, w2, b2, w3, b3), strict=True))
        net.load_state_dict(values)
        torch.testing.assert_close(mlp(x, w1, w2, w3, b1, b2, b3), net(x), rtol=0, atol=1e-12)


def test_hidden_layers_start_as_those_of_pytorch() -> None:
    """Kolmogorov-Smirnov against `torch.nn.Linear` itself, fails by chance four times in 10^6."""
    torch.manual_seed(0)
    stack = StackedMLP(300, num_in=4, num_hidden=25, num_out=2)
    for weight, bias, num_in in zip(stack.weights, stack.biases, (4, 25), strict=False):
        layers = [nn.Linear(num_in, 25) for _ in range(300)]
        theirs = torch.stack([layer.weight for layer in layers])
        for own, other in ((weight, theirs), (bias, torch.stack([r.bias for r in layers]))):
            own, other = own.detach().flatten(), other.detach().flatten()
            assert own.abs().max() <= 1 / math.sqrt(num_in)
            assert stats.ks_2samp(own.numpy(), other.numpy()).pvalue > 1e-6

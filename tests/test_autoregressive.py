"""Autoregressive layers: what depends on what, and the coordinates found one by one."""

import pytest
import torch
from contract import points
from torch import Tensor

from flowlab.flows import build_flow
from flowlab.flows.autoregressive import Autoregressive
from flowlab.flows.made import MADE
from flowlab.flows.univariate import Affine

DOUBLE = torch.float64


def random_net(
    dim: int, context: int, reverse: bool, num_hidden: int = 12, layers: int = 2
) -> MADE:
    torch.manual_seed(0)
    options = {"context": context, "reverse": reverse, "num_hidden_layers": layers}
    net = MADE(dim, num_hidden, 2, **options).double()
    for parameter in net.parameters():
        parameter.data.normal_()
    return net


each_net = pytest.mark.parametrize(
    ("dim", "context", "reverse", "num_hidden", "layers"),
    [
        (1, 0, False, 12, 2),
        (1, 2, False, 12, 2),
        (2, 0, True, 12, 1),
        (4, 0, False, 12, 2),
        (4, 0, True, 12, 2),
        (4, 2, True, 12, 3),
        (7, 1, False, 3, 2),  # more coordinates than units
    ],
)


@each_net
def test_a_made_lets_a_coordinate_see_those_before_it_alone(
    dim: int, context: int, reverse: bool, num_hidden: int, layers: int
) -> None:
    net = random_net(dim, context, reverse, num_hidden, layers)
    x, c = 3 * points(200, dim), 3 * points(200, context)  # somewhere every unit is on

    def one(x: Tensor, c: Tensor) -> Tensor:
        return net(x[None], c[None] if context else None)[0]

    jacobians = torch.func.vmap(torch.func.jacrev(one, argnums=(0, 1)))(x, c)
    sees, sees_context = (j.reshape(200, 2, dim, -1).abs().sum(0) for j in jacobians)
    before = torch.ones(dim, dim).tril(-1)
    before = before.flip(0, 1) if reverse else before
    assert not sees[:, before == 0].any()
    if num_hidden >= dim:
        assert (sees[:, before == 1] > 0).all()
        assert (sees_context > 0).all()


@each_net
def test_coordinates_in_turn_are_those_of_whole_passes(
    dim: int, context: int, reverse: bool, num_hidden: int, layers: int
) -> None:
    """The inverse as the papers have it: D passes through the net, each with one more known."""
    layer = Autoregressive(random_net(dim, context, reverse, num_hidden, layers), Affine(2.0))
    u, c = points(20, dim), points(20, context) if context else None
    x, log_det = layer.inverse(u, c)
    slow = torch.zeros_like(u)
    for _ in range(dim):
        slow, log_slopes = layer.univariate.inverse(u, layer.net(slow, c))
    torch.testing.assert_close(x, slow, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(log_det, log_slopes.sum(-1), rtol=1e-10, atol=1e-10)


def test_the_density_of_iaf_is_that_of_maf_turned_round() -> None:
    torch.manual_seed(0)
    options = {"num_flows": 2, "num_hidden": 6}
    iaf, maf = build_flow("iaf", 3, **options), build_flow("maf", 3, **options)
    for first, second in zip(iaf.parameters(), maf.parameters(), strict=True):
        second.data.normal_(std=0.3)
        first.data.copy_(second)
    x = points(20, 3, torch.float32)
    for ours, theirs in zip(iaf(x), maf.inverse(x), strict=True):
        assert torch.equal(ours, theirs)
    assert len(iaf.chain) == 1  # in the fast lane too


def test_layers_take_the_coordinates_from_either_end_in_turn() -> None:
    torch.manual_seed(0)
    flow = build_flow("maf", 3, num_flows=2, num_hidden=6).double()
    for parameter in flow.parameters():
        parameter.data.normal_()
    for layer, triangle in zip(flow.transforms, (torch.tril, torch.triu), strict=True):

        def one(x: Tensor, layer: torch.nn.Module = layer) -> Tensor:
            return layer(x[None])[0][0]

        jacobian = sum(torch.func.jacrev(one)(x).abs() for x in points(20, 3))
        assert torch.equal(jacobian > 0, triangle(torch.ones(3, 3)) > 0)


@pytest.mark.parametrize("name", ["spline_ar", "naf"])
def test_what_bends_a_coordinate_is_no_affine_map(name: str) -> None:
    """Along each coordinate the slope changes, as that of maf does not given those before."""
    torch.manual_seed(0)
    flow = build_flow(name, 2, num_flows=1, num_hidden=6).double()
    for parameter in flow.parameters():
        parameter.data.normal_(std=0.5)
    x = torch.stack((torch.linspace(-2, 2, 9), torch.zeros(9)), dim=-1).double()
    for points_along in (x, x.flip(-1)):
        bends = flow(points_along)[0][:, int(points_along is not x)].diff().diff()
        assert bends.abs().max() > 1e-3

"""Block neural autoregressive layers: their masks, their signs, and how they reach all of R."""

import pytest
import torch

from flowlab.flows import build_flow
from flowlab.flows.bnaf import LARGEST, BlockNAF


def random_layer(dim: int, flipped: bool = False) -> BlockNAF:
    torch.manual_seed(0)
    layer = BlockNAF(dim, 5, flipped=flipped).double()
    for parameter in layer.parameters():
        parameter.data += torch.randn_like(parameter)
    layer.gate.data.normal_()
    return layer


@pytest.mark.parametrize("flipped", [False, True])
def test_each_output_increases_in_its_own_input_and_sees_none_beyond(flipped: bool) -> None:
    layer = random_layer(4, flipped)
    x = 2 * torch.randn(30, 4, dtype=torch.float64)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: layer(x[None])[0][0]))(x)
    seen = torch.ones(4, 4).triu() if flipped else torch.ones(4, 4).tril()
    assert torch.equal((jacobian != 0).any(0), seen.bool())
    assert (jacobian.diagonal(dim1=1, dim2=2) > 0).all()


def test_it_reaches_all_of_r_with_the_slope_of_its_gate() -> None:
    """Far out tanh is flat: the network gives a constant, and the gate's other side the rest."""
    layer = random_layer(2)
    x = torch.tensor([[1e6, -1e6], [2e6, -2e6]], dtype=torch.float64)
    u, log_det = layer(x)
    rest = 1 - LARGEST * layer.gate.sigmoid()
    torch.testing.assert_close(u[1] - u[0], rest * (x[1] - x[0]))
    torch.testing.assert_close(log_det, rest.log().sum().expand(2))


def test_an_open_gate_leaves_a_way_back() -> None:
    """However much of the network it lets through."""
    layer, u = random_layer(2), 2 * torch.randn(50, 2, dtype=torch.float64)
    layer.gate.data.fill_(50.0)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-3)):
        x, log_det = layer.to(dtype).inverse(u.to(dtype))
        back, log_det_back = layer(x)
        torch.testing.assert_close(back, u.to(dtype), rtol=tolerance, atol=tolerance)
        assert log_det.isfinite().all()
        assert log_det_back.isfinite().all()


def test_slopes_that_vanish_in_floating_point_cost_no_precision() -> None:
    """From the steep middle, where 1 - tanh^2 is above 1e-3, to where it is zero in float32."""
    layer = random_layer(2)
    x = torch.linspace(-100, 100, 4001, dtype=torch.float64)[:, None].expand(-1, 2)
    expected, single = layer(x)[1], layer.float()(x.float())[1]
    torch.testing.assert_close(single.double(), expected, rtol=0, atol=1e-4)


def test_its_weights_have_positive_blocks_on_the_diagonal_and_rows_of_the_norms_it_says() -> None:
    layer = random_layer(3)
    for weight, scale in zip(layer._layers(None)[0], layer.scales, strict=True):
        torch.testing.assert_close(weight.norm(dim=1), scale.exp())
        assert (layer._diagonal(weight) > 0).all()


def test_in_two_layers_every_coordinate_meets_every_other() -> None:
    torch.manual_seed(0)
    flow = build_flow("bnaf", 3, num_hidden=4).double()
    jacobian = torch.func.jacrev(lambda x: flow(x)[0])(torch.randn(3, dtype=torch.float64))
    assert (jacobian != 0).all()


@pytest.mark.parametrize("flipped", [False, True])
def test_the_bracket_holds_the_point_behind_whatever_the_gate(flipped: bool) -> None:
    layer = random_layer(3, flipped)
    layer.gate.data = torch.tensor([-3.0, 0.0, 3.0], dtype=torch.float64)
    layer.scales[-1].data += 2
    u = 3 * torch.randn(100, 3, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(layer.inverse(u)[0])[0], u, rtol=0, atol=1e-10)

"""What flows of images are made of, against PyTorch's own and closed forms."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import special
from torch import Tensor

from flowlab.errors import ModelFileError
from flowlab.export import load, save
from flowlab.flows import Flow, build_flow
from flowlab.flows.coupling import Coupling
from flowlab.flows.image import HALVE, SQUEEZE, Checkerboard, Level, squeeze, unsqueeze
from flowlab.flows.linear import LU, ActNorm
from flowlab.flows.nets import ConvNet
from flowlab.flows.pixels import Pixels
from flowlab.flows.univariate import Affine
from flowlab.schema import Schema

DOUBLE = torch.float64
FAMILIES = pytest.mark.parametrize("name", ["realnvp", "glow"])


def images(n: int, *shape: int) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)


def disturbed(flow: Any, spread: float = 0.2) -> Any:
    torch.manual_seed(2)
    for parameter in flow.double().parameters():
        parameter.data.add_(spread * torch.randn_like(parameter))
    return flow


def test_a_squeeze_is_pytorchs_and_is_undone() -> None:
    x = images(3, 4, 6, 5)
    expected = F.pixel_unshuffle(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    assert torch.equal(squeeze(x), expected)
    assert torch.equal(unsqueeze(squeeze(x)), x)


@pytest.mark.parametrize("kept", [0, 1])
def test_a_checkerboard_keeps_one_colour_and_moves_the_other_by_it_alone(kept: int) -> None:
    net = ConvNet((2, 8, 8, 4), (3, 1, 3))
    layer, x = disturbed(Checkerboard(net, Affine(2.0), kept, (4, 6))), images(5, 4, 6, 2)
    colours = torch.from_numpy(np.indices((4, 6)).sum(0) % 2)
    is_kept = colours == kept
    y, _ = layer(x)
    assert torch.equal(y[:, is_kept], x[:, is_kept])
    assert (y[:, ~is_kept] != x[:, ~is_kept]).all()
    jacobian = torch.func.jacrev(lambda x: layer(x[None])[0][0])(x[0])
    among = jacobian[~is_kept][:, :, ~is_kept]  # of what moves, each depends on itself and the kept
    assert torch.equal(among, among * torch.eye(12)[:, None, :, None] * torch.eye(2)[:, None])


def test_at_a_level_all_that_stayed_behind_stays_and_the_rest_is_seen_in_its_order() -> None:
    """Two squeezes, after the first of which every second channel stays behind."""
    way, x = (SQUEEZE, HALVE, SQUEEZE), images(5, 8, 4, 1)
    level = Level((8, 4, 1), way, [ActNorm(8)]).double()
    level.parts[0].b.data = torch.arange(1.0, 9, dtype=DOUBLE)
    moved = (level(x.flatten(1))[0].reshape(x.shape) - x)[0, ..., 0]
    # channels (row, column) of the first squeeze, of which those in even columns go on
    expected = torch.zeros(8, 4)
    for row, column in itertools.product(range(8), range(0, 4, 2)):
        channel = row % 2, row // 2 % 2, column // 2 % 2
        expected[row, column] = 1 + 4 * channel[0] + 2 * channel[1] + channel[2]
    torch.testing.assert_close(moved, expected.double())


def test_layers_of_channels_treat_each_place_as_a_vector() -> None:
    x, places = images(5, 2, 3, 4), images(5, 2, 3, 4).reshape(30, 4)
    for layer in (disturbed(ActNorm(4)), disturbed(LU(4))):
        for way in (layer, layer.inverse):
            (value, log_det), (alone, alone_log_det) = way(x), way(places)
            torch.testing.assert_close(value, alone.reshape(x.shape))
            torch.testing.assert_close(log_det, alone_log_det.reshape(5, 6).sum(1))
    layer = ActNorm(4).double()
    layer.fit(x)
    u = layer(x)[0].reshape(30, 4)
    torch.testing.assert_close(u.mean(0), torch.zeros(4, dtype=DOUBLE), rtol=0, atol=1e-12)
    torch.testing.assert_close(u.std(0, correction=0), torch.ones(4, dtype=DOUBLE))


def test_the_net_is_pytorchs_convolutions_with_the_context_as_channels() -> None:
    net, x, c = disturbed(ConvNet((5, 7, 6, 4), (3, 1, 3))), images(2, 4, 6, 3), images(2, 2)
    one, two, three = net.convolutions
    h = torch.cat((x.permute(0, 3, 1, 2), c.reshape(2, 2, 1, 1).expand(-1, -1, 4, 6)), dim=1)
    h = F.conv2d(h, one.weight, one.bias, padding=1).relu()
    h = F.conv2d(F.conv2d(h, two.weight, two.bias).relu(), three.weight, three.bias, padding=1)
    torch.testing.assert_close(net(x, c), h.permute(0, 2, 3, 1))


def test_glows_prior_of_what_stays_behind_is_a_normal_given_the_rest() -> None:
    """At the identity but for the prior, log p is that of two normals, one given the other."""
    flow = build_flow("glow", (4, 4), num_flows=2, num_levels=2, bound=5.0).double()
    prior = flow.transforms[6].parts[0]
    assert isinstance(prior, Coupling)
    disturbed(prior)
    x = images(20, 4, 4)
    going_on, behind = x[..., 0::2], x[..., 1::2]
    h = torch.stack((going_on[:, 0::2], going_on[:, 1::2]), 1)  # channels of the squeezed image
    (conv,) = prior.net.convolutions
    r, t = F.conv2d(h, conv.weight, conv.bias, padding=1).chunk(2, dim=1)
    log_scale = -5 * (r / 5).tanh()
    z = torch.stack((behind[:, 0::2], behind[:, 1::2]), 1)
    normal = torch.distributions.Normal(-t * log_scale.exp(), log_scale.exp())
    expected = normal.log_prob(z).sum((1, 2, 3))
    expected += torch.distributions.Normal(0, 1).log_prob(going_on).sum((1, 2))
    torch.testing.assert_close(flow.log_prob(x), expected)


@FAMILIES
def test_a_fit_gives_all_that_couplings_see_mean_0_and_deviation_1(name: str) -> None:
    flow = build_flow(name, (8, 8), num_flows=2).double()
    x = 3 + 2 * images(500, 8, 8)
    flow.fit(x)
    u = flow(x)[0]
    assert u.mean().item() == pytest.approx(0, abs=1e-6)
    assert u.std().item() == pytest.approx(1, rel=1e-3)


@FAMILIES
def test_every_latent_depends_on_what_is_far_and_what_is_behind_stays(name: str) -> None:
    flow = disturbed(build_flow(name, (8, 8), num_flows=3, num_hidden=8), 0.3)
    jacobian = torch.func.jacrev(lambda x: flow(x[None])[0][0])(images(1, 8, 8)[0])
    assert (jacobian.flatten(1) != 0).double().mean() > 0.9
    level, last = flow.chain[0], flow.chain[-1]
    for part in (level, last):
        assert isinstance(part, Level)
    x = images(5, 8, 8)
    moved = (last(x.flatten(1))[0].reshape(x.shape) != x).flatten(0, 1).all(0)
    assert moved.tolist() == [True, False] * 4


@pytest.mark.parametrize("logit", [None, 0.05, 1e-6])
def test_pixels_against_scipy(logit: float | None) -> None:
    x = torch.rand(20, 6, generator=torch.Generator().manual_seed(3), dtype=DOUBLE) * 256
    layer = Pixels(256, logit).double()
    u, log_det = layer(x)
    share = x.numpy() / 256
    expected = share - 0.5 if logit is None else special.logit(logit + (1 - 2 * logit) * share)
    np.testing.assert_allclose(u.numpy(), expected, rtol=1e-9)
    for way, points in ((layer, x), (layer.inverse, u)):
        jacobian = torch.func.vmap(torch.func.jacrev(lambda x, way=way: way(x[None])[0][0]))(points)
        torch.testing.assert_close(way(points)[1], torch.linalg.slogdet(jacobian).logabsdet)
    torch.testing.assert_close(layer.inverse(u), (x, -log_det))


def test_outside_of_what_a_logit_can_have_the_density_is_nil_and_samples_lie_within() -> None:
    flow, edge = build_flow("glow", (4, 4), support={"levels": 16, "logit": 0.1}), 16 * 0.1 / 0.8
    for value, possible in ((-edge + 1e-3, True), (16 + edge - 1e-3, True), (-edge - 1e-3, False)):
        assert (flow.log_prob(torch.full((4, 4), value)) > -math.inf) == possible
    x, _ = flow.inverse(torch.tensor([-1e4, 1e4]).repeat(8))
    assert flow.log_prob(x) > -math.inf


@pytest.mark.parametrize("logit", [None, 0.2])
def test_the_density_is_one_in_the_units_of_the_pixels(logit: float | None) -> None:
    """E[q(x) / p(x)] = 1 over samples from p, for q uniform on all images of 3 levels.

    Within 5 standard errors: 6 in 10^7.
    """
    support = {"levels": 3, "logit": logit}
    flow = disturbed(build_flow("glow", (2, 2), num_levels=1, num_flows=2, support=support), 0.05)
    with torch.no_grad():
        if logit is None:  # as wide as the pixels are
            flow.chain[1].parts[0].s.fill_(1.2)
        x = flow.sample(20_000, generator=torch.Generator().manual_seed(5))
        inside = ((x > 0) & (x < 3)).flatten(1).all(1)
        ratio = torch.where(inside, (-flow.log_prob(x)).exp() / 3**4, 0.0)
    assert abs(ratio.mean() - 1) < 5 * ratio.std() / math.sqrt(len(ratio))
    assert ratio.std() < 5


def test_units_of_images_travel_with_the_flow(tmp_path: Any) -> None:
    flow: Flow = disturbed(build_flow("glow", (4, 4, 3), support={"levels": 256, "logit": 0.05}))
    flow = flow.float()
    x = torch.rand(10, 4, 4, 3, dtype=DOUBLE) * 256
    assert flow.log_prob(x).dtype == flow.sample(3).dtype == torch.float32
    save(flow, tmp_path / "flow.safetensors")
    twin = load(tmp_path)
    assert twin.config == flow.config
    assert twin.config["support"] == {"levels": 256, "logit": 0.05}
    assert torch.equal(twin.log_prob(x), flow.log_prob(x))


def test_pixels_have_no_columns(tmp_path: Any) -> None:
    flow = build_flow("coupling", 4, support={"levels": 4})
    with pytest.raises(ValueError, match="columns for points that are not rows of numbers"):
        save(flow, tmp_path / "flow.safetensors", Schema.plain(4, 0))


def test_a_file_of_images_beyond_all_memory_is_refused(tmp_path: Any) -> None:
    flow = build_flow("glow", (4, 4), num_hidden=2)  # whose weights are those of any size
    flow.config["shape"] = [2**18, 2**18]
    save(flow, tmp_path / "flow.safetensors")
    with pytest.raises(ModelFileError, match=r"shape=.* is of more numbers than flowlab builds"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("support", "message"),
    [
        ({}, r"support of pixels must be \{levels: 256, logit: 0.05\}, got \{\}"),
        ({"levels": 256, "alpha": 0.05}, "support of pixels must be"),
        ({"levels": 1}, "support of pixels must be"),
        ({"levels": True}, "support of pixels must be"),
        ({"levels": 256, "logit": 0.5}, "logit of pixels must be null or between 0 and 0.5"),
        ({"levels": 256, "logit": math.nan}, "logit of pixels must be"),
        ({"levels": 256, "logit": "x"}, "logit of pixels must be"),
    ],
)
def test_mistakes_are_named(support: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_flow("glow", (8, 8), support=support)

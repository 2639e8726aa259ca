"""Pictures of images: what is in their rows, and where."""

import numpy as np
import pytest
import torch

from flowlab.callbacks import Images
from flowlab.callbacks.images import _between, _nearest
from flowlab.data import Data, digits, toy
from flowlab.flows import Flow, build_flow
from flowlab.plots import images


@pytest.fixture(scope="module")
def data() -> Data:
    return digits(num_val=30, num_test=30, logit=0.05)


@pytest.fixture(scope="module")
def flow(data: Data) -> Flow:
    """At the identity: latents are the logits of the pixels."""
    return build_flow("glow", (8, 8), num_flows=2, num_hidden=4, support=data.support)


def test_the_rows_of_each_picture(flow: Flow, data: Data) -> None:
    with torch.no_grad():
        drawings = {name: dict(rows) for name, _, rows, _ in Images(1, 5).draw(flow, data)}
    assert list(drawings) == ["images", "nearest", "levels", "interpolations"]
    held_out, drawn, cool = drawings["images"].values()
    assert held_out.shape == drawn.shape == cool.shape == (5, 8, 8)
    share = [(0.05 + 0.9 * x / 17) for x in (drawn, cool)]
    u, cooler = (np.log(s / (1 - s)) for s in share)
    np.testing.assert_allclose(cooler, 0.7 * u, rtol=1e-3, atol=1e-4)
    np.testing.assert_array_equal(drawings["nearest"]["samples"], drawn)
    # of columns 1, 3, 5, ... at the second level nothing is left but the middle of the range
    bare = drawings["levels"]["without what stayed behind"]
    np.testing.assert_allclose(bare[..., 0::2], held_out[..., 0::2], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(bare[..., 1::2], 8.5, rtol=1e-4)
    arcs = list(drawings["interpolations"].values())
    for i, arc in enumerate(arcs):
        np.testing.assert_allclose(arc[0], held_out[i], rtol=1e-3, atol=1e-3)
        assert np.abs(arc[-1] - held_out[i]).max() > 1


def test_an_arc_keeps_the_distance_from_0() -> None:
    u = torch.randn(2, 3, 50, generator=torch.Generator().manual_seed(0)).double()
    u = u / u.norm(dim=-1, keepdim=True)
    for i, (_, arc) in enumerate(_between(u[0], u[1], 7)):
        torch.testing.assert_close(arc[[0, -1]], u[:, i])
        torch.testing.assert_close(arc.norm(dim=-1), torch.ones(7).double())
        steps = (arc[1:] - arc[:-1]).norm(dim=-1)
        torch.testing.assert_close(steps, steps[:1].expand(6))


def test_the_nearest_are_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowlab.callbacks.images.PIECE", 7)
    generator = torch.Generator().manual_seed(1)
    x, others = (torch.rand(n, 3, 4, generator=generator).double() for n in (5, 40))
    distances = np.square(x.numpy()[:, None] - others.numpy()).sum((2, 3))
    assert torch.equal(_nearest(x, others), others[distances.argmin(1)])


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 1), (8, 8, 3)])
def test_images_stand_in_rows_as_they_are(shape: tuple[int, ...]) -> None:
    first, second = (np.full((4, *shape), value) for value in (0.0, 15.0))
    first[1, 2, 3] = 99.0  # beyond white
    figure = images.rows([("above", first), ("below", second)], 16, "title")
    assert [text.get_text() for text in figure.texts] == ["title", "above", "below"]
    shown = [np.asarray(ax.images[0].get_array()) for ax in figure.axes]
    assert len(shown) == 8
    assert [float(image.max()) for image in shown] == [0, 1, 0, 0, 1, 1, 1, 1]
    assert (shown[1][2, 3] == 1).all()
    boxes = np.array([ax.get_position().bounds for ax in figure.axes]).reshape(2, 4, 4)
    assert (np.diff(boxes[:, :, 0], axis=1) > 0).all()  # to the right
    assert (boxes[0, :, 1] > boxes[1, :, 1] + boxes[1, :, 3]).all()  # above
    width, height = figure.get_size_inches()
    np.testing.assert_allclose(boxes[..., 2] * width, boxes[..., 3] * height)
    assert boxes.min() >= 0
    assert (boxes[..., :2] + boxes[..., 2:]).max() <= 1


def test_only_images_are_shown(data: Data) -> None:
    assert Images(1, 5).suits(data)
    assert not Images(1, 5).suits(toy("bimodal", 10, 10, 10, 0))

"""Pictures: what they suit, and that what they show is what the flow and the data are."""

import functools
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NO_PICTURES, SHORT, Compose, events
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text
from mpl_toolkits.mplot3d import Axes3D
from omegaconf import OmegaConf
from PIL import Image
from scipy import stats
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
from torch import Tensor

from flowlab.callbacks import Density, Film, Grid, Latents, Samples
from flowlab.callbacks.picture import Picture
from flowlab.config import validate
from flowlab.data import Data, Points, toy
from flowlab.experiment import train
from flowlab.flows import Flow
from flowlab.flows.flow import Transform
from flowlab.logger import RunLogger, masked_crc32c
from flowlab.plots import curves, film, plane
from flowlab.plots.style import SEVERAL
from flowlab.targets import TARGETS

PLANE = {"density", "surface", "samples", "grid"}
FILM = "density.gif"
COLUMNS = {"pairs", "quantiles"}
ANYWHERE = {"loss", "latents"}


class Gaussian:
    """Correlated, and known exactly; no modes to mark."""

    dim = 5
    extent = 4.0

    def __init__(self) -> None:
        matrix = torch.randn(self.dim, self.dim, generator=torch.Generator().manual_seed(self.dim))
        self.factor = torch.linalg.cholesky(
            0.3 * matrix @ matrix.T / self.dim + 0.5 * torch.eye(self.dim)
        )
        self.mean = torch.linspace(-1, 1, self.dim)

    def _normal(self) -> torch.distributions.MultivariateNormal:
        return torch.distributions.MultivariateNormal(self.mean, scale_tril=self.factor)

    @property
    def entropy(self) -> float:
        return float(self._normal().entropy())

    def log_prob(self, x: Tensor) -> Tensor:
        normal = torch.distributions.MultivariateNormal(
            self.mean.to(x), scale_tril=self.factor.to(x)
        )
        return normal.log_prob(x)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return self.mean + torch.randn(n, self.dim, generator=generator) @ self.factor.T


@pytest.fixture
def gaussian(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], str]:
    """gaussian(dim): the words that choose a Gaussian target of that dimension."""

    def register(dim: int) -> str:
        kind = type("GaussianInTheTest", (Gaussian,), {"dim": dim})
        monkeypatch.setitem(TARGETS, "gaussian", kind)
        return "data.target=gaussian"

    return register


Drawn = dict[tuple[str, int], Callable[[], Figure]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """What the runs of a test draw, not drawn yet: by name and epoch."""
    pictures: Drawn = {}

    def log_picture(self: Any, name: str, epoch: int, plot: Any, *args: Any) -> None:
        pictures[name, epoch] = functools.partial(plot, *args)

    monkeypatch.setattr(RunLogger, "log_picture", log_picture)
    return pictures


@pytest.mark.parametrize(("dim", "words"), [(2, ()), (3, ("replicates=3",)), (16, ())])
def test_a_run_in_any_dimension_ends_well_with_the_pictures_that_suit_it(
    dim: int,
    words: tuple[str, ...],
    compose_config: Compose,
    gaussian: Callable[[int], str],
    drawn: Drawn,
    tmp_path: Path,
) -> None:
    metrics = train(compose_config(*SHORT, *words, gaussian(dim), f"run_dir={tmp_path}"))
    assert metrics["status"] == "completed"
    names = ANYWHERE | (PLANE if dim == 2 else COLUMNS)
    film = {(FILM, 4)} if dim == 2 else set()
    assert set(drawn) == {(name, epoch) for name in names for epoch in (0, 2, 4)} | film
    for name in names:
        figure = drawn[name, 4]()
        figure.canvas.draw()  # warnings are errors
        width, height = figure.get_size_inches() * figure.dpi
        assert width == 1000 >= height >= 500
        fonts = {text.get_fontsize() for text in figure.findobj(Text) if text.get_text()}
        assert min(fonts) * figure.dpi / 72 * 370 / width > 8  # pixels in a card of TensorBoard


def test_the_pictures_of_five_dimensions_are_saved(
    compose_config: Compose, gaussian: Callable[[int], str], tmp_path: Path
) -> None:
    train(compose_config(*SHORT, gaussian(5), f"run_dir={tmp_path}"))
    paths = {path.stem: path for path in (tmp_path / "plots").iterdir()}
    assert set(paths) == ANYWHERE | COLUMNS
    shown = events(tmp_path).Images
    for name, path in paths.items():
        with Image.open(path) as image:
            assert image.size[0] == 1000
            assert {(i.width, i.height) for i in shown(name)} == {image.size}
            assert len(image.convert("RGB").getcolors(10**6)) > 100


SCALE, SHIFT = torch.tensor([0.5, 1.25]), torch.tensor([-1.0, 0.5])


class Affine(Transform):
    """x = SCALE * u + SHIFT, another one in each coordinate, so that no axis passes for another."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (x - SHIFT) / SCALE, -SCALE.log().sum().expand(x.shape[:-1])

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return SCALE * u + SHIFT, SCALE.log().sum().expand(u.shape[:-1])


def learned_density(x1: Any, x2: Any) -> Any:
    (m1, m2), (s1, s2) = SHIFT.tolist(), SCALE.tolist()
    square = ((x1 - m1) / s1) ** 2 + ((x2 - m2) / s2) ** 2
    return np.exp(-0.5 * square) / (2 * math.pi * s1 * s2)


def true_density(x1: Any, x2: Any) -> Any:
    """Of a target that is not symmetric either: N((1, 0), diag(0.25, 1))."""
    return np.exp(-2 * (x1 - 1) ** 2 - 0.5 * x2**2) / (2 * math.pi * 0.5)


class Target:
    dim = 2
    extent = 3.0
    modes = torch.tensor([[1.0, 0.0]])

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.from_numpy(true_density(*x.double().numpy().transpose(2, 0, 1))).log()


def draw(picture: Picture, target: Any = None, val: Tensor | None = None) -> dict[str, Figure]:
    val = torch.zeros(1, 2) if val is None else val
    points = Points(val)
    data = Data(points, points, points, ("x", "y"), target or Target())
    assert picture.suits(data)
    with torch.no_grad():
        drawings = list(picture.draw(Flow([Affine()], (2,)), data))
    return {name: plot(*arrays, "title") for name, plot, *arrays in drawings}


LOG = {"learned log-density", "true log-density"}


@pytest.mark.parametrize(("kind", "method"), [(Axes, "contourf"), (Axes3D, "plot_surface")])
def test_the_density_is_that_of_the_flow_at_each_point(
    kind: type, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = getattr(kind, method)

    def spy(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append((self, *args[:3]))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(kind, method, spy)
    draw(Density(every_n_epochs=1, resolution=30))
    seen = {}
    for ax, x1, x2, values in calls:
        if x1.ndim == 1:  # a column of values for each x1, a row for each x2
            x1, x2 = np.meshgrid(x1, x2)
        assert (x1.min(), x2.max(), x1.shape) == (-3, 3, (30, 30))
        density = learned_density if "learned" in ax.get_title() else true_density
        expected = density(x1, x2)
        if ax.get_title() in LOG:
            expected = np.log(expected)
            lowest = expected.max() - plane.DEPTH
            expected, values = (np.maximum(v, lowest) for v in (expected, values))
        np.testing.assert_allclose(values, expected, atol=1e-4)
        seen[ax.get_title()] = (ax.get_xlabel(), ax.get_ylabel())
    names = {"learned density", "true density"} | (LOG if kind is Axes else set())
    assert seen == dict.fromkeys(names, ("$x_1$", "$x_2$"))


@pytest.mark.parametrize("plot", [plane.density, plane.surface])
def test_a_density_that_is_no_number_is_drawn_without_a_word(plot: Callable[..., Figure]) -> None:
    axis = np.linspace(-4, 4, 20)
    true = -0.5 * (axis[:, None] ** 2 + axis**2)
    learned = np.where(true > -1, np.float32(200), np.float32(-np.inf))
    plot(axis, learned, true, "").savefig(io.BytesIO())  # warnings are errors here


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_grid_that_a_layer_takes_to_no_number_is_drawn(value: float) -> None:
    points, density = np.random.default_rng(0).normal(size=(21, 21, 2)), np.ones((21, 21))
    points[3:5], density[3:5] = value, abs(value)
    plane.grid([("base", points, density)], 5, 4.0, "").savefig(io.BytesIO())


def test_samples_go_from_the_base_to_the_data_and_stand_beside_held_out_points() -> None:
    """Means and spreads within 5 standard errors: fails by chance 3 times in 10^6."""
    val, n = torch.randn(3000, 2), 2000
    (figure,) = draw(Samples(every_n_epochs=1, num_samples=n), val=val).values()
    flow, held_out = figure.axes
    x = np.asarray(flow.collections[0].get_offsets())
    error = SCALE.numpy() / math.sqrt(n)
    assert x.shape == (n, 2)
    assert (np.abs(x.mean(0) - SHIFT.numpy()) < 5 * error).all()
    assert (np.abs(x.std(0) - SCALE.numpy()) < 5 * error / math.sqrt(2)).all()
    np.testing.assert_array_equal(held_out.collections[0].get_offsets(), val[:n])
    for ax in figure.axes:
        np.testing.assert_array_equal(ax.collections[1].get_offsets(), [[1.0, 0.0]])


def test_modes_are_marked_only_where_a_target_has_them() -> None:
    class NoModes(Target):
        modes = None  # type: ignore[assignment]

    (figure,) = draw(Samples(1, 100), target=NoModes(), val=torch.randn(100, 2)).values()
    for ax in figure.axes:
        assert len(ax.collections) == 1
        assert ax.get_legend() is None


def test_each_layer_takes_the_grid_from_the_base_to_the_data() -> None:
    with torch.no_grad():
        data = Data(*[Points(torch.zeros(1, 2))] * 3, ("x", "y"), Target())
        flow = Flow([Affine(), Affine()], (2,))
        ((_, plot, steps, every, limit),) = Grid(1, 5).draw(flow, data)
    assert [step for step, *_ in steps] == ["base", "after layer 2", "after layer 1: data"]
    (_, base, density), *others = steps
    assert base.shape == (4 * every + 1, 4 * every + 1, 2)
    axis = np.linspace(-3, 3, 4 * every + 1)
    lattice = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    np.testing.assert_allclose(base, lattice, atol=1e-6)
    np.testing.assert_allclose(density, np.exp(-0.5 * (base**2).sum(-1)) / (2 * math.pi), rtol=1e-5)
    x = base
    for _, points, p in others:
        x, density = SCALE.numpy() * x + SHIFT.numpy(), density / SCALE.prod().item()
        np.testing.assert_allclose(points, x, atol=1e-5)
        np.testing.assert_allclose(p, density, rtol=1e-4)
    figure = plot(steps, every, limit, "title")
    for ax, (step, points, _) in zip(figure.axes, steps, strict=True):
        assert ax.get_title() == step
        (lines,) = (c for c in ax.collections if isinstance(c, LineCollection))
        np.testing.assert_array_equal(lines.get_segments()[1], points[every])
        np.testing.assert_array_equal(lines.get_segments()[6], points[:, every])


def test_of_many_layers_nine_panels_are_shown() -> None:
    data = Data(*[Points(torch.zeros(1, 2))] * 3, ("x", "y"), Target())
    with torch.no_grad():
        ((_, _, steps, *_),) = Grid(1, 3).draw(Flow([Affine()] * 32, (2,)), data)
    names = [name for name, *_ in steps]
    assert (names[0], names[-1], len(names)) == ("base", "after layer 1: data", 9)
    assert names[1:-1] == [f"after layer {33 - k}" for k in range(4, 32, 4)]


def test_latents_are_those_of_held_out_points() -> None:
    """Points of the flow's own density have standard normal latents; chi-squared, p > 10^-6."""
    n = 20_000
    val = SHIFT + SCALE * torch.randn(n, 2, generator=torch.Generator().manual_seed(0))
    (figure,) = draw(Latents(every_n_epochs=1), val=val).values()
    scatter, *marginals = figure.axes
    (dots,) = scatter.collections
    shown = np.asarray(dots.get_offsets())
    np.testing.assert_allclose(shown, ((val - SHIFT) / SCALE)[: len(shown)], atol=1e-5)
    for i, ax in enumerate(marginals):
        assert ax.get_xlabel() == f"$u_{{{i + 1}}}$"
        outline = ax.patches[0].get_xy()
        edges = np.linspace(-4, 4, 51)
        heights = outline[1:101:2, 1]
        expected = np.diff(stats.norm.cdf(edges)) * n
        common = expected > 5
        observed = heights * 0.16 * n
        statistic = ((observed - expected) ** 2 / expected)[common].sum()
        assert stats.chi2.sf(statistic, df=common.sum()) > 1e-6


def test_latents_have_the_colours_of_the_modes_that_they_come_from() -> None:
    class Two(Target):
        modes = torch.tensor([[2.0, 0.0], [-2.0, 0.0]])

    val = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    (figure,) = draw(Latents(every_n_epochs=1), target=Two(), val=val).values()
    u = ((val - SHIFT) / SCALE).numpy()
    for dots, color, own in zip(
        figure.axes[0].collections, SEVERAL, (val[:, 0] > 0, val[:, 0] <= 0), strict=False
    ):
        np.testing.assert_allclose(dots.get_offsets(), u[own.numpy()], atol=1e-5)
        assert (dots.get_facecolors()[0, :3] == to_rgb(color)).all()


def test_the_loss_curve_starts_before_the_training_and_ends_at_the_divergence(
    compose_config: Compose, drawn: Drawn, tmp_path: Path
) -> None:
    """Less the NLL of the truth on the same points: of few, nearer to the KL than the entropy."""
    train(compose_config(*SHORT, f"run_dir={tmp_path}"))
    (ax,) = drawn["loss", 4]().axes
    curves = {line.get_label(): line.get_xydata() for line in ax.lines}
    assert (ax.get_yscale(), ax.get_ylabel()) == ("log", "NLL $-$ entropy (nats)")
    truth, data = TARGETS["bimodal"](), toy("bimodal", 200, 100, 500, 0)
    for name, points in (("training", data.train.x), ("validation", data.val.x)):
        assert curves[name][:, 0].tolist() == [0, 1, 2, 3, 4]
        identity = 0.5 * points.square().sum(1).mean() + math.log(2 * math.pi)
        above = identity + truth.log_prob(points).mean()
        assert curves[name][0, 1] == pytest.approx(above.item(), abs=1e-4)


def test_a_loss_below_its_lowest_is_still_seen() -> None:
    values = np.array([[1.0], [0.1], [-0.02]])
    (ax,) = curves.excess([0, 1, 2], values, values, "NLL", "title").axes
    assert ax.get_yscale() == "symlog"
    assert ax.get_ylim()[0] < -0.02


def test_replicates_are_a_mean_and_a_range() -> None:
    values = np.array([[3.0, 4.0, 5.5], [2.0, 2.5, 1.0]])
    figure = curves.loss([0, 1], values, values + 1, "NLL", None, "title")
    (ax,) = figure.axes
    np.testing.assert_allclose(ax.lines[0].get_ydata(), values.mean(1))
    band = ax.collections[0].get_paths()[0].vertices
    for epoch in (0, 1):
        ys = band[band[:, 0] == epoch, 1]
        assert (ys.min(), ys.max()) == (values[epoch].min(), values[epoch].max())


@pytest.mark.parametrize(("mode", "every"), [(None, 25), ("RUN", 25), ("MULTIRUN", None)])
def test_cells_of_a_sweep_draw_at_the_end_alone(
    mode: str | None, every: int | None, compose_config: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    if mode is not None:
        hydra = OmegaConf.create({"mode": RunMode[mode]})
        monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
        monkeypatch.setattr(HydraConfig, "get", lambda: hydra)
    for words in ((), ("sweep=families",)):
        cfg = compose_config(*words)
        validate(cfg)
        assert cfg.callbacks.density.every_n_epochs == every
    assert compose_config("pictures.every_n_epochs=5").callbacks.loss.every_n_epochs == 5


def test_without_a_number_of_epochs_there_is_one_picture_of_each(
    compose_config: Compose, tmp_path: Path
) -> None:
    cfg = compose_config(*SHORT, "pictures.every_n_epochs=null", f"run_dir={tmp_path}")
    train(cfg)
    read = events(tmp_path)
    tags = read.Tags()["images"]
    assert {"density", "samples", "loss", "latents"} <= {*tags}
    assert [[event.step for event in read.Images(tag)] for tag in tags] == [[4]] * len(tags)


@pytest.mark.parametrize(("epochs", "frames"), [(4, [0, 1, 2, 3, 4]), (40, [0, 4, 8, 40])])
def test_the_film_has_a_frame_at_each_of_so_many_epochs(epochs: int, frames: list[int]) -> None:
    camera = Film(num_frames=10, resolution=8)
    due = [e for e in range(epochs) if camera.is_due(e + 1, epochs)]
    assert len(due) == min(epochs, 10)
    assert set(frames) <= {0, *(e + 1 for e in due)}


def test_a_film_shows_each_frame_beside_the_truth() -> None:
    """What its frames have is what they are given: bright where the density is."""
    frames = [np.zeros((8, 8), np.uint8) for _ in range(26)]
    for i, frame in enumerate(frames):
        frame[i % 8, 7 - i % 8] = 255
    gif = film.density(frames, frames[3], [f"epoch {i}" for i in range(26)], 4.0)
    assert len(gif) < 1_000_000
    with Image.open(io.BytesIO(gif)) as image:
        assert image.n_frames == 26
        seen = []
        for i in (0, 3, 25):
            image.seek(i)
            seen.append(np.asarray(image.convert("L"), dtype=float))
    left, right = np.split(seen[0], 2, axis=1), np.split(seen[1], 2, axis=1)
    assert np.abs(left[1] - right[1])[60:-60].max() < 3  # the truth stays
    assert np.abs(left[0] - right[0]).max() > 100
    inside = seen[2][90:310, 70:290]
    row, column = np.unravel_index(inside.argmax(), inside.shape)
    assert (row > 110, column > 110) == (True, True)  # of frame 25 low in x2, high in x1


def test_a_resumed_run_has_the_whole_film(
    compose_config: Compose, drawn: Drawn, tmp_path: Path
) -> None:
    words = (*SHORT, *NO_PICTURES[:1], *NO_PICTURES[2:])
    films = []
    for name in ("whole", "parts"):
        first = ("trainer.max_epochs=2",) if name == "parts" else ()
        train(compose_config(*words, *first, f"run_dir={tmp_path / name}"))
        if name == "parts":
            resume = (f"run_dir={tmp_path / name}", f"ckpt_path={tmp_path / name}")
            train(compose_config(*words, *resume))
        films.append(drawn[FILM, 4].args)
    (frames, true, captions, limit), others = films
    assert [caption.split(":")[0] for caption in captions] == [f"epoch {e}" for e in range(5)]
    np.testing.assert_array_equal(frames, others[0])
    assert (captions, limit) == others[2:]
    x = np.linspace(-4, 4, 64)
    x1, x2 = np.meshgrid(x, x)
    truth = TARGETS["bimodal"]().log_prob(torch.tensor(np.stack((x1, x2), -1))).exp().numpy()
    np.testing.assert_allclose(true, 255 * truth / truth.max(), atol=1.01)
    base = 255 * np.exp(-0.5 * (x1**2 + x2**2)) / (2 * math.pi) / truth.max()
    np.testing.assert_allclose(frames[0], base, atol=1.01)


@pytest.mark.parametrize("size", [0, 1, 8, 1000, 4097])
def test_records_have_the_checksum_that_tensorboard_looks_for(size: int) -> None:
    content = np.random.default_rng(size).bytes(size)
    assert masked_crc32c(content) == pywrap_tensorflow.masked_crc32c(content)

"""Pictures of tables: which there are, and that they show the columns as they are."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import SHORT, Compose
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from scipy import stats
from torch import Tensor

from flowlab.callbacks import Density, Grid, Latents, Loss, Pairs, Quantiles, Samples
from flowlab.callbacks.pairs import dependent
from flowlab.callbacks.picture import beside
from flowlab.data import Data, Points
from flowlab.errors import ConfigError
from flowlab.experiment import train
from flowlab.flows import Flow
from flowlab.flows.flow import Transform
from flowlab.logger import RunLogger
from flowlab.plots import style, table
from flowlab.plots.column import column

TITLE = "best of 100 epochs: test NLL -12.345 nats"


def data(num: int = 300, *, dim: int = 3, context: bool = False, seed: int = 0) -> Data:
    """Correlated columns, a table's, or columns that follow their context closely."""
    splits = []
    for split in range(3):
        g = torch.Generator().manual_seed(10 * seed + split)
        c = torch.randn(num, 1, generator=g)
        x = 2 * c + torch.randn(num, dim, generator=g)
        splits.append(Points(x, c if context else None))
    names = tuple(f"column {i}" for i in range(dim))
    train, val, test = splits
    return Data(train, val, test, names, support=(None,) * dim)


class OfContext(Transform):
    """x = u / 100 + context, the same for all columns."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert context is not None
        return 100 * (x - context), math.log(100) * torch.full(x.shape[:1], float(x.shape[1]))

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert context is not None
        return u / 100 + context, -math.log(100) * torch.full(u.shape[:1], float(u.shape[1]))


@pytest.mark.parametrize(("dim", "plane"), [(1, False), (2, False), (2, True), (43, False)])
def test_a_table_is_no_plane_but_toy_data_of_two_coordinates_are(dim: int, plane: bool) -> None:
    every = [Density(1, 9), Samples(1, 9), Grid(1, 9), Loss(1), Latents(1)]
    every += [Pairs(1, 9, None), Quantiles(1, 9)]
    given = data(dim=dim)
    if plane:
        given = Data(given.train, given.val, given.test, given.names)
    suiting = {type(picture).__name__ for picture in every if picture.suits(given)}
    own = {"Samples", "Grid"} if plane else {"Pairs", "Quantiles"}
    assert suiting == {"Loss", "Latents"} | own


def test_samples_are_for_held_out_rows_of_the_whole_split_each_with_its_context() -> None:
    given = data(300, context=True)
    flow = Flow([OfContext()], (3,), context=1)
    drawn, held_out = beside(flow, given, 100)
    assert given.val.context is not None
    np.testing.assert_array_equal(held_out, given.val.x[::3])
    assert np.abs(drawn - given.val.context[::3].numpy()).max() < 0.06
    again, _ = beside(flow, given, 100)
    np.testing.assert_array_equal(drawn, again)
    assert len(beside(flow, given, 1000)[0]) == 300


def test_columns_of_a_table_keep_their_precision() -> None:
    """Whole numbers beyond 2^24, which float32 does not tell apart."""
    x = (2.0**25 + torch.arange(9, dtype=torch.float64)).unsqueeze(1)
    points = Points(x, torch.zeros(9, 1))
    given = Data(points, points, points, ("id",), support=(None,))
    _, held_out = beside(Flow([OfContext()], (1,), context=1), given, 9)
    np.testing.assert_array_equal(held_out[:, 0], 2.0**25 + np.arange(9))


def shown(count: int, modes: bool = False) -> tuple[list[Any], Figure]:
    rng = np.random.default_rng(0)
    held_out = rng.normal(-np.arange(count), 1, (400, count))
    drawn = rng.normal(np.arange(count), 1 + np.arange(count), (400, count))
    marked = np.arange(2.0 * count).reshape(2, count) if modes else None
    names = [f"c{i}" for i in range(count)]
    figure = table.pairs(drawn, held_out, marked, names, [False] * count, count, TITLE)
    return [held_out, drawn, marked], figure


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_pairs_show_each_column_and_each_pair(count: int) -> None:
    (held_out, drawn, modes), figure = shown(count, modes=True)
    figure.canvas.draw()
    assert len(figure.axes) == count * (count + 1) // 2
    assert [ax.get_xlabel() for ax in figure.axes[-count:]] == [f"c{i}" for i in range(count)]
    pairs = iter((i, j) for i in range(count) for j in range(i + 1))
    for ax, (i, j) in zip(figure.axes, pairs, strict=True):
        if i != j:
            dots, marked = ax.collections
            assert ax.get_ylabel() == (f"c{i}" if j == 0 else "")
            np.testing.assert_array_equal(marked.get_offsets(), modes[:, [j, i]])
            points, colors = np.asarray(dots.get_offsets()), dots.get_facecolors()[:, :3]
            for color, expected in ((style.ORANGE, held_out), (style.BLUE, drawn)):
                own = (colors == to_rgb(color)).all(1)
                np.testing.assert_array_equal(points[own], expected[:, [j, i]])
        else:
            bars = ax.patches[0].get_data().values.sum()
            low, high = ax.get_xlim()
            inside = ((held_out[:, i] >= low) & (held_out[:, i] <= high)).mean()
            assert bars == pytest.approx(inside)
    (legend,) = figure.legends
    said = {text.get_text() for text in legend.get_texts()}
    assert said == {"held-out data", "samples of the flow"} | (
        {"true modes"} if count > 1 else set()
    )


def test_limits_hold_the_bulk_and_not_the_tails() -> None:
    rng = np.random.default_rng(0)
    normal, cauchy = rng.normal(size=2000), rng.standard_cauchy(2000)
    for values, least in ((normal, 0.995), (cauchy, 0.96)):
        low, high = (shape := column("x", values, False))[1:3]
        assert ((low < values) & (values < high)).mean() >= least
        assert not shape.log
    assert high - low < 0.1 * np.ptp(cauchy)
    low, high = column("x", rng.exponential(size=2000), False)[1:3]
    assert -0.5 < low < 0 < 5 < high  # no farther below the lowest than a margin


def test_positive_values_over_decades_have_a_logarithmic_axis() -> None:
    values = np.exp(3 * np.random.default_rng(0).normal(size=1000))
    shape = column("income", values, True)
    assert shape.log
    assert 0 < shape.low < np.median(values) < shape.high
    ratios = shape.edges(10)[1:] / shape.edges(10)[:-1]
    np.testing.assert_allclose(ratios, ratios[0])
    assert not column("income", values, False).log
    assert not column("height", 170 + values / values.max(), True).log
    ticks, labels = shape.ticks(room=20)
    assert [float(label.replace("\N{MINUS SIGN}", "-")) for label in labels] == ticks


@pytest.mark.parametrize(
    ("low", "high", "room"),
    [(0, 1, 12), (-3e-6, 4e-6, 20), (2e7, 2e7 + 3, 24), (1.5e6, 9e6, 8), (-0.002, 0.0021, 9)],
)
def test_ticks_are_where_their_labels_say_and_fit(low: float, high: float, room: int) -> None:
    values, labels = column("x", np.linspace(low, high, 50), False).ticks(room)
    assert 0 < len(values) <= 3
    numbers = [float(label.replace("\N{MINUS SIGN}", "-")) for label in labels]
    np.testing.assert_allclose(numbers, values, atol=1e-6 * (high - low), rtol=0)
    assert len(labels) == 1 or sum(map(len, labels)) <= room
    assert all(low < value < high for value in values)


def test_quantiles_stand_against_those_of_held_out_rows() -> None:
    rng = np.random.default_rng(0)
    held_out = rng.normal(size=(2000, 5))
    drawn = rng.normal(size=(2000, 5))
    drawn[:, 3] = 1.5 * drawn[:, 3]
    names = ["a", "b", "c", "d", "e"]
    figure = table.quantiles(drawn, held_out, names, [False] * 5, TITLE)
    figure.canvas.draw()
    assert [ax.get_title() for ax in figure.axes] == names
    levels = np.linspace(0.01, 0.99, 99)
    for i, ax in enumerate(figure.axes):
        equal, dots = ax.lines
        assert ax.get_xlim() == ax.get_ylim() == tuple(equal.get_xdata())
        np.testing.assert_allclose(dots.get_xdata(), np.quantile(held_out[:, i], levels))
        np.testing.assert_allclose(dots.get_ydata(), np.quantile(drawn[:, i], levels))
        off = stats.ks_2samp(held_out[:, i], drawn[:, i]).pvalue < table.CHANCE / 5
        assert off == (i == 3)
        assert to_rgb(dots.get_color()) == to_rgb(style.RED if off else style.BLUE)


@pytest.mark.parametrize(("dim", "panels"), [(1, 1), (23, 23), (200, table.MULTIPLES)])
def test_quantiles_of_many_columns_are_of_those_furthest_off(dim: int, panels: int) -> None:
    rng = np.random.default_rng(0)
    held_out, drawn = rng.normal(size=(2, 500, dim))
    off = rng.permutation(dim)[:20]
    drawn[:, off] += 1
    figure = table.quantiles(drawn, held_out, list(map(str, range(dim))), [False] * dim, TITLE)
    titles = [ax.get_title() for ax in figure.axes]
    assert len(titles) == panels
    assert set(map(str, off)) <= set(titles)
    assert titles == sorted(titles, key=int)
    assert ("24 of 200" in figure.get_suptitle()) == (dim == 200)


def test_words_of_a_file_are_no_formulas_and_fit() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 50, 4))
    names = ["$ \\n $", "one\nline", "of " * 40 + "it", "$x_{3}$"]
    off = [False] * 4
    for figure in (
        table.pairs(*x, None, names, off, 4, TITLE),
        table.quantiles(*x, names, off, TITLE),
    ):
        figure.canvas.draw()
        words = [ax.get_xlabel() or ax.get_title() for ax in figure.axes[-4:]]
        assert words[0] == "\\$ \\n \\$"
        assert words[1] == "one line"
        assert words[2].startswith("of ")
        assert words[2].endswith("it")
        assert len(words[2]) <= 12
        assert words[3] == "$x_{3}$"


@pytest.mark.parametrize("num", [1, 2, 100])
def test_few_or_equal_or_far_values_are_drawn_without_a_warning(num: int) -> None:
    rng = np.random.default_rng(0)
    held_out = rng.normal(size=(num, 6))
    held_out[:, 1:3] += 1e9
    held_out[:, 2] = 7
    held_out[:, 3] = rng.integers(0, 3, num)
    drawn = rng.normal(size=(num, 6))
    drawn[0, 4:] = np.inf, np.nan  # of a flow that just begins
    names, off = list("abcdef"), [False] * 6
    table.pairs(drawn, held_out, None, names, off, 6, TITLE).canvas.draw()
    table.quantiles(drawn, held_out, names, off, TITLE).canvas.draw()


def test_of_many_columns_those_that_depend_on_others_are_paired() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 20))
    related = [1, 3, 4, 7, 11, 12, 17, 19]
    x[:, related] = np.exp(x[:, related] + 2 * rng.normal(size=(500, 1)))
    x[:, 0] = 1.0
    assert dependent(x) == related
    assert dependent(x[:, :8]) == list(range(8))


@pytest.fixture
def drawings(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, ...]]:
    """What is drawn last under each name: plot and arguments."""
    drawn: dict[str, tuple[Any, ...]] = {}

    def log_picture(self: Any, name: str, epoch: int, *args: Any) -> None:
        drawn[name] = args

    monkeypatch.setattr(RunLogger, "log_picture", log_picture)
    return drawn


@pytest.fixture
def run(compose_config: Compose, tmp_path: Path) -> Callable[..., Any]:
    """A short run over `data` with these words."""

    def run(*words: str) -> Any:
        cfg = compose_config(*SHORT, *words, f"run_dir={tmp_path / 'run'}")
        keys = {"_target_": "test_pictures_tables.data", "num": 200, "dim": 9}
        cfg.data = keys | {"batch_size": 64, "seed": None}
        return train(cfg)

    return run


def test_the_columns_of_the_pairs_can_be_chosen(
    run: Callable[..., Any], drawings: dict[str, tuple[Any, ...]]
) -> None:
    run("callbacks.pairs.columns=[column 7,column 2]")
    plot, drawn, held_out, _, names, *_ = drawings["pairs"]
    assert plot is table.pairs
    assert names == ["column 7", "column 2"]
    np.testing.assert_array_equal(held_out, data(200, dim=9).val.x[:, [7, 2]])
    assert drawn.shape == held_out.shape
    assert drawings["quantiles"][1].shape == (200, 9)


@pytest.mark.parametrize(
    ("column", "hint"),
    [
        ("colum 7", "did you mean column 7"),
        ("COLUMN 7", "did you mean column 7"),
        ("xyz", "columns: column 0, column 1, "),
    ],
)
def test_a_column_that_is_not_there_is_told_before_the_training(
    column: str,
    hint: str,
    run: Callable[..., Any],
    drawings: dict[str, tuple[Any, ...]],
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigError) as error:
        run(f"callbacks.pairs.columns=[column 1,{column}]")
    assert str(error.value).startswith(f"callbacks.pairs.columns: no column '{column}'; {hint}")
    assert not drawings
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [(), ("replicates=2",)])
def test_the_loss_of_a_table_is_seen_beside_a_gaussians_and_this_is_found_once(
    words: tuple[str, ...],
    run: Callable[..., Any],
    drawings: dict[str, tuple[Any, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of replicates with data of their own the mean."""
    from flowlab.callbacks import loss

    calls, original = [], loss.gaussian_nll
    monkeypatch.setattr(loss, "gaussian_nll", lambda *args: calls.append(args) or original(*args))
    run(*words)
    assert len(calls) == 1 + len(words)
    plot, *args = drawings["loss"]
    nlls = []
    for seed in range(1 + len(words)):
        x, val = (
            getattr(data(200, dim=9, seed=seed), split).x.numpy() for split in ("train", "val")
        )
        normal = stats.multivariate_normal(x.mean(0), np.cov(x.T))
        nlls.append(-normal.logpdf(val).mean())
    (ax,) = plot(*args).axes
    line = next(line for line in ax.lines if line.get_label().startswith("Gaussian, "))
    assert list(line.get_ydata()) == pytest.approx(2 * [np.mean(nlls)], abs=0.05)
    assert not [line for line in ax.lines if "entropy" in line.get_label()]

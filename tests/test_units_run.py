"""Runs on data with units: noise, the Gaussian beside them, another file, and when they stop."""

import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from conftest import NO_PICTURES, SHORT, Compose
from omegaconf import DictConfig
from scipy import stats
from torch import Tensor

from flowlab import load as load_flow
from flowlab.commands.sweep import run_cell
from flowlab.data import Data, Points
from flowlab.errors import DataError, Finished
from flowlab.experiment import train
from flowlab.flows import build_flow
from flowlab.rng import generator
from flowlab.runs.summary import summary
from flowlab.training.data import DataModule
from flowlab.training.module import Training
from flowlab.training.objectives import Likelihood, gaussian
from flowlab.training.objectives.gaussian import gaussian_nll

DOUBLE = torch.float64
DIGEST = ["a" * 64]


def load(num_train: int, num_val: int, num_test: int, seed: int, **options: Any) -> Data:
    """A time in seconds, a whole number and a share, whose means hang on a context of two."""

    def points(split: str, n: int) -> Points:
        g = generator(f"data/{split}", seed)
        z, c = (torch.randn(n, k, generator=g, dtype=DOUBLE) for k in (3, 2))
        z = z @ torch.tensor([[1.0, 0.5, 0.2], [0.0, 1.0, -0.8], [0.0, 0.0, 1.0]]).double()
        z = z + c @ torch.tensor([[1.0, 0.0, 2.0], [0.5, 1.0, 0.0]]).double()
        x = torch.stack((1.7e9 + 10 * z[:, 0], (z[:, 1] + 3).exp().floor(), z[:, 2].sigmoid()), 1)
        x[:, 1] += 0.0 if split == "train" else torch.rand(n, generator=g).clamp(min=1e-6)
        return Points(x, 1e5 + c)

    splits = (("train", num_train), ("val", num_val), ("test", num_test))
    return Data(
        *(points(split, n) for split, n in splits),
        names=("time", "count", "share"),
        context_names=("c", "d"),
        support=(None, "positive", (0.0, 1.0)),
        noise=torch.tensor([0.0, 1.0, 0.0]),
        facts={"data/rows": num_train + num_val + num_test, "data/sha256": DIGEST[0]},
    )


@pytest.fixture
def table(compose_config: Compose, tmp_path: Path) -> Compose:
    """table("name", ...): a run on the points of `load`, of seven steps in each epoch."""

    def make(name: str, *overrides: str) -> DictConfig:
        own = ("data._target_=test_units_run.load", "data.batch_size=32", "optimizer.lr=0.03")
        return compose_config(*SHORT, *NO_PICTURES, *own, f"run_dir={tmp_path / name}", *overrides)

    return make


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowlab.training.data.CHUNK_SIZE", 64)
    monkeypatch.setattr("test_units_run.DIGEST", ["a" * 64])


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    aside = {"seconds": 0, "resumed_from": "", "environment": {}}
    return first | aside == second | aside


# the Gaussian


def by_hand(train: Points, test: Points, support: tuple[Any, ...]) -> Tensor:
    """The NLL of test points under scipy's normal, whose mean is that of least squares."""

    def whole_line(x: Tensor) -> tuple[Tensor, Tensor]:
        columns, log_det = [], torch.zeros(len(x), dtype=DOUBLE)
        for column, entry in zip(x.double().mT, support, strict=True):
            if entry is None:
                columns.append(column)
            elif entry == "positive":
                columns.append(column.log())
                log_det -= column.log()
            else:
                y = (column - entry[0]) / (entry[1] - entry[0])
                columns.append((y / (1 - y)).log())
                log_det -= (y * (1 - y) * (entry[1] - entry[0])).log()
        return torch.stack(columns, 1), log_det

    def design(points: Points) -> Tensor:
        ones = torch.ones(len(points.x), 1, dtype=DOUBLE)
        return ones if points.context is None else torch.cat((ones, points.context - 1e5), 1)

    (u, _), (v, log_det) = whole_line(train.x), whole_line(test.x)
    shift = u[:1]
    weights = torch.linalg.lstsq(design(train), u - shift, driver="gelsd").solution
    residuals = u - shift - design(train) @ weights
    normal = stats.multivariate_normal(cov=(residuals.mT @ residuals / len(u)).numpy())
    return -torch.from_numpy(normal.logpdf(v - shift - design(test) @ weights)) - log_det


@pytest.mark.parametrize("context", [True, False])
def test_the_gaussian_is_scipys(context: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    data = DataModule([load(500, 10, 300, seed=1)], 32, (0,)).dequantized(0)
    train, test = (
        points if context else points._replace(context=None) for points in (data.train, data.test)
    )
    assert data.support is not None
    expected = by_hand(train, test, data.support)
    for piece in (65_536, 70):
        monkeypatch.setattr(gaussian, "PIECE", piece)
        found = gaussian_nll(Data(train, test, test, data.names, support=data.support))
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_its_figure_has_the_error_of_the_paired_difference() -> None:
    data = DataModule([load(500, 10, 300, seed=1)], 32, (0,)).dequantized(0)
    flow = build_flow("coupling", 3, context=2, support=data.support)
    flow.fit(*data.train)
    figures, expected = Likelihood().test(flow, data, 0), gaussian_nll(data)
    assert expected is not None
    assert figures["test/nll_gaussian"] == pytest.approx(float(expected.mean()))
    difference = expected - -flow.log_prob(*data.test).detach().double()
    error = stats.sem(difference.numpy())
    assert figures["test/nll_gaussian_error"] == pytest.approx(error, rel=1e-4)
    assert figures["test/nll"] > figures["test/nll_gaussian"]  # of a flow that learned nothing


def test_where_there_is_no_such_gaussian_there_is_no_figure() -> None:
    x = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    few = Data(Points(x), Points(x), Points(x), tuple("abcde"), support=(None,) * 5)
    assert gaussian_nll(few) is None
    flow = build_flow("coupling", 5, support=few.support)
    assert "test/nll_gaussian" not in Likelihood().test(flow, few, 0)


def test_a_context_that_says_nothing_twice_is_no_harm() -> None:
    data = load(500, 10, 300, seed=1)
    ones = [Points(p.x, torch.ones(len(p.x), 2)) for p in (data.train, data.val, data.test)]
    x = [Points(p.x) for p in (data.train, data.val, data.test)]
    twice, none = (gaussian_nll(Data(*p, data.names, support=(None,) * 3)) for p in (ones, x))
    torch.testing.assert_close(twice, none)


# runs


@pytest.mark.parametrize("words", [(), ("replicates=2",)])
def test_a_run_says_what_it_is_better_than(
    words: tuple[str, ...], table: Compose, tmp_path: Path
) -> None:
    metrics = train(table("run", "trainer.max_epochs=15", *words))
    assert metrics["data/rows"] == 800
    assert metrics["data/sha256"] == "a" * 64
    lines = dict(line.split(None, 1) for line in summary(metrics, tmp_path).splitlines() if line)
    assert lines["Gaussian"] == f"{metrics['test/nll_gaussian']:.4f} nats"
    (gain,) = (line for line in summary(metrics, tmp_path).splitlines() if "gain" in line)
    difference = metrics["test/nll_gaussian"] - metrics["test/nll"]
    error = metrics["test/nll_gaussian_error"]
    if words:
        lists = metrics["replicates"]
        pairs = zip(lists["test/nll_gaussian"], lists["test/nll"], strict=True)
        error = stats.sem([a - b for a, b in pairs])
    assert gain.startswith(f"gain over it  {difference:.4f} ± {math.ceil(error * 1e4) / 1e4:.4f}")
    flow = load_flow(tmp_path / "run")
    seed = metrics.get("best_replicate", 0)
    held_out = load(200, 100, 500, seed).test
    with torch.no_grad():
        nll = -flow.log_prob(*held_out).double().mean()
    expected = metrics["replicates"]["test/nll"][seed] if words else metrics["test/nll"]
    assert float(nll) == pytest.approx(expected, abs=1e-4)
    samples = flow.sample(100, context=held_out.context)
    assert ((samples[..., 1:] > 0).all()) & (samples[..., 2] < 1).all()


def test_replicates_on_a_table_are_the_runs_of_their_seeds(table: Compose) -> None:
    both, alone = train(table("both", "replicates=2")), train(table("alone", "seed=1"))
    for name in ("train/nll", "test/nll", "test/nll_gaussian"):
        assert both["replicates"][name][1] == pytest.approx(alone[name], abs=1e-3)


@pytest.mark.parametrize("step", [3, 9, 14])
def test_a_cut_run_with_noise_goes_on_to_the_same_end(
    step: int, table: Compose, tmp_path: Path
) -> None:
    halt = f"+callbacks.halt={{_target_: test_resume.Halt, step: {step}, error: MemoryError}}"
    every = "callbacks.checkpoint.every_n_train_steps=2"
    with pytest.raises(MemoryError):
        train(table("cut", every, halt))
    resumed = train(table("cut", every, f"ckpt_path={tmp_path / 'cut'}"))
    assert same(train(table("whole")), resumed)


@pytest.mark.parametrize("cut", [True, False])
def test_a_run_does_not_go_on_with_another_file(
    cut: bool, table: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(table("run"))
    before = (tmp_path / "run" / "metrics.json").read_bytes()
    if cut:
        (tmp_path / "run" / "metrics.json").unlink()
    monkeypatch.setattr("test_units_run.DIGEST", ["b" * 64])
    words = ("trainer.max_epochs=6", f"ckpt_path={tmp_path / 'run'}")
    with pytest.raises(DataError, match=r"last.ckpt: the data have changed since: ") as error:
        train(table("run", *words))
    assert f"data/sha256={'a' * 64} there, {'b' * 64} here" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    if not cut:
        assert (tmp_path / "run" / "metrics.json").read_bytes() == before
    monkeypatch.setattr("test_units_run.DIGEST", ["a" * 64])
    assert train(table("run", *words))["epochs"] == 6


# early stopping

STOP = ("trainer.max_epochs=60", "optimizer.lr=0.1", "trainer.patience=3")


@pytest.mark.parametrize(
    ("losses", "waited"),
    [
        ([], 0),
        ([[1.0]], 0),
        ([[1.0], [0.5]], 0),
        ([[1.0], [2.0], [1.0]], 2),  # as low is not lower
        ([[1.0, 1.0], [2.0, 0.5], [2.0, 2.0]], 1),
        ([[math.nan], [1.0], [math.nan]], 1),
        ([[math.inf], [1.0], [-1.0]], 0),
    ],
)
def test_it_is_that_long_since_any_flow_was_at_its_best(
    losses: list[list[float]], waited: int
) -> None:
    """Whatever the loss before the first epoch, of which there are no weights."""
    training = SimpleNamespace(
        names=("train/nll", "val/nll"), history={"val/nll": [[-9.0], *losses]}
    )
    assert cast(Any, Training.waited).fget(training) == waited


def test_a_run_stops_when_it_has_waited_long_enough(table: Compose, tmp_path: Path) -> None:
    metrics = train(table("run", *STOP))
    assert metrics["best_epoch"] + 3 == metrics["epochs"] < 60
    assert metrics["stopped_early"] is True
    said = f"{metrics['best_epoch']} of {metrics['epochs']}, stopped by trainer.patience"
    assert said in summary(metrics, tmp_path)
    checkpoint = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    losses = checkpoint["flowlab"]["history"]["val/nll"].flatten()[1:]
    assert int(losses.argmin()) + 1 == metrics["best_epoch"]
    assert metrics["val/nll"] == pytest.approx(float(losses.min()), abs=1e-4)
    asked = train(table("asked", *STOP, f"trainer.max_epochs={metrics['epochs']}"))
    assert same(metrics | {"stopped_early": None}, asked | {"stopped_early": None})
    assert "stopped_early" not in asked


def test_a_run_that_stopped_has_nothing_left_to_do(table: Compose, tmp_path: Path) -> None:
    first = train(table("run", *STOP))
    again = table("run", *STOP, f"ckpt_path={tmp_path / 'run'}")
    with pytest.raises(Finished, match=r"finished, \d+ epochs; .* raise trainer.patience"):
        train(again)
    with pytest.raises(Finished):
        train(table("run", *STOP, "trainer.max_epochs=90", f"ckpt_path={tmp_path / 'run'}"))
    assert run_cell(train, table("run", *STOP)) == first["val/nll"]  # as a sweep repeats it
    shutil.copytree(tmp_path / "run", tmp_path / "killed")
    (tmp_path / "killed" / "metrics.json").unlink()
    assert same(first, train(table("killed", *STOP, f"ckpt_path={tmp_path / 'killed'}")))
    more = ("trainer.patience=4", f"ckpt_path={tmp_path / 'run'}")
    longer = train(table("longer", *STOP, *more))
    assert longer["epochs"] > first["epochs"]
    assert same(longer, train(table("whole", *STOP, "trainer.patience=4")))


@pytest.mark.parametrize("words", [(), ("replicates=2",)])
def test_a_run_that_was_cut_stops_where_it_would_have(
    words: tuple[str, ...], table: Compose, tmp_path: Path
) -> None:
    whole = train(table("whole", *STOP, *words))
    halt = "+callbacks.halt={_target_: test_resume.Halt, error: MemoryError, step: "
    for epochs in (1, whole["epochs"] - 1):
        name = f"cut{epochs}"
        with pytest.raises(MemoryError):
            train(table(name, *STOP, *words, f"{halt}{7 * epochs + 2}}}"))
        assert same(whole, train(table(name, *STOP, *words, f"ckpt_path={tmp_path / name}")))
    if words:
        checkpoint = torch.load(tmp_path / "whole/checkpoints/last.ckpt", weights_only=True)
        best = checkpoint["flowlab"]["history"]["val/nll"][1:].argmin(0) + 1
        assert int(best.max()) + 3 == whole["epochs"]  # of all none has been better since


def test_metrics_of_a_stopped_run_are_what_the_file_holds(table: Compose, tmp_path: Path) -> None:
    metrics = train(table("run", *STOP))
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == metrics

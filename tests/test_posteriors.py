"""Flows fitted to densities that can be evaluated: figures against closed forms, and whole runs."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from conftest import NO_PICTURES, Compose, events
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from flowlab import load
from flowlab.commands.tables import to_markdown
from flowlab.data import Data, toy
from flowlab.errors import ConfigError, NonFiniteError
from flowlab.experiment import train
from flowlab.flows import FLOWS, Flow, build_flow
from flowlab.rng import generator
from flowlab.runs.reading import collect
from flowlab.runs.results import rank
from flowlab.runs.summary import summary
from flowlab.targets import build_target
from flowlab.training.diagnosis import diagnose
from flowlab.training.objectives import ReverseKL
from flowlab.training.objectives.objective import warmed_up

MEAN, SCALE, LIFT = 0.5, 1.2, 2.0  # of the target, and what is added to its log-density
NAMES = {
    *("train/negative_elbo", "val/negative_elbo", "test/elbo", "test/elbo_stderr"),
    *("test/log_z", "test/log_z_stderr", "test/ess"),
}
KNOWN = {"test/log_z_error", "test/reverse_kl", "test/kl", "test/kl_error", "test/entropy"}


def bump(x: Tensor) -> Tensor:
    """N(MEAN, SCALE^2 I), with another factor."""
    return LIFT - 0.5 * ((x - MEAN) / SCALE).square().sum(-1)


def log_z_of_bump(dim: int) -> float:
    return LIFT + dim * math.log(SCALE * math.sqrt(2 * math.pi))


def normal(dim: int, mean: float = 0.0, scale: float = 1.0) -> Flow:
    """The flow whose density is N(mean, scale^2 I), turned for sampling."""
    flow = build_flow("diagonal", dim, direction="sampling")
    with torch.no_grad():
        next(flow.parameters()).copy_(
            torch.tensor([-mean / scale, -math.log(scale)]).repeat_interleave(dim)
        )
    return flow


def random_flow(name: str, dim: int, **options: Any) -> Flow:
    """A flow in double precision that is not its start."""
    torch.manual_seed(1)
    flow = build_flow(name, dim, **options).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return flow


def own(num: int, dim: int) -> Data:
    return toy("test_posteriors.bump", 50, 60, num, 0, dim)


# figures


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 1.5), (0.3, 1.1)])
def test_the_figures_of_one_normal_for_another(mean: float, scale: float) -> None:
    """In closed form within five standard errors, and by NumPy over the same draws."""
    n, dim, seed = 20_000, 2, 7
    figures = ReverseKL("test_posteriors.bump", dim, 0.5).test(
        normal(dim, mean, scale), own(n, dim), seed
    )
    assert figures.keys() == NAMES
    kl = dim * (math.log(SCALE / scale) + (scale**2 + (mean - MEAN) ** 2) / (2 * SCALE**2) - 0.5)
    known, error = log_z_of_bump(dim), figures["test/elbo_stderr"]
    assert figures["test/elbo"] == pytest.approx(known - kl, abs=5 * error)
    # log w is a quadratic form c + b u - a u^2 / 2 of each normal u: its variance is b^2 + a^2 / 2
    a, b = scale**2 / SCALE**2 - 1, scale * (mean - MEAN) / SCALE**2
    assert error == pytest.approx(math.sqrt(dim * (b**2 + a**2 / 2) / n), rel=0.03)
    error = figures["test/log_z_stderr"]
    assert figures["test/log_z"] == pytest.approx(known, abs=5 * error)
    # ESS = 1 / int p^2 / q
    a, b = 2 / SCALE**2 - 1 / scale**2, 2 * MEAN / SCALE**2 - mean / scale**2
    exponent = b**2 / (2 * a) - MEAN**2 / SCALE**2 + mean**2 / (2 * scale**2)
    squares = scale / (SCALE**2 * math.sqrt(a)) * math.exp(exponent)
    assert figures["test/ess"] == pytest.approx(squares**-dim, rel=0.02)
    assert error == pytest.approx(math.sqrt((squares**dim - 1) / n), rel=0.05)
    # the same draws
    u = torch.randn(n, dim, generator=generator("elbo/test", seed)).double().numpy()
    x = mean + scale * u
    log_q = -0.5 * (u**2).sum(1) - dim * math.log(scale * math.sqrt(2 * math.pi))
    log_w = LIFT - 0.5 * (((x - MEAN) / SCALE) ** 2).sum(1) - log_q
    w = np.exp(log_w)
    assert figures["test/elbo"] == pytest.approx(log_w.mean(), abs=1e-5)
    assert figures["test/elbo_stderr"] == pytest.approx(log_w.std(ddof=1) / math.sqrt(n), rel=1e-4)
    assert figures["test/log_z"] == pytest.approx(math.log(w.mean()), abs=1e-5)
    assert figures["test/ess"] == pytest.approx(w.sum() ** 2 / (n * (w**2).sum()), rel=1e-4)
    relative = w.std(ddof=1) / math.sqrt(n) / w.mean()
    assert figures["test/log_z_stderr"] == pytest.approx(relative, rel=1e-3)


def test_the_figures_of_a_target_that_is_known() -> None:
    """N(0, C) by the identity: both KLs in closed form, and log Z = 0."""
    data = toy("gaussian", 50, 50, 20_000, 0)
    figures = ReverseKL("gaussian", None, 0.5).test(normal(2), data, 3)
    assert figures.keys() == NAMES | KNOWN
    covariance = np.array([[1, 0.8], [0.8, 1]])
    reverse = 0.5 * (np.trace(np.linalg.inv(covariance)) - 2 + math.log(np.linalg.det(covariance)))
    forward = 0.5 * (np.trace(covariance) - 2 - math.log(np.linalg.det(covariance)))
    error = figures["test/elbo_stderr"]
    assert figures["test/reverse_kl"] == pytest.approx(reverse, abs=5 * error)
    assert figures["test/reverse_kl"] == pytest.approx(-figures["test/elbo"])
    assert figures["test/kl"] == pytest.approx(forward, abs=5 * figures["test/kl_error"] + 1e-4)
    assert figures["test/log_z_error"] == figures["test/log_z"]
    assert abs(figures["test/log_z"]) < 5 * figures["test/log_z_stderr"]


def test_a_flow_that_is_the_target_leaves_nothing() -> None:
    dim = 3
    figures = ReverseKL("test_posteriors.bump", dim, 0.5).test(
        normal(dim, MEAN, SCALE), own(500, dim), 0
    )
    for name in ("test/elbo", "test/log_z"):
        assert figures[name] == pytest.approx(log_z_of_bump(dim), abs=1e-5)
    assert figures["test/ess"] == pytest.approx(1, abs=1e-9)
    assert figures["test/log_z_stderr"] < 1e-5


def test_the_log_z_of_the_energies_is_that_of_their_log_density() -> None:
    """By a sum over an even grid, which need not know how they compute it."""
    axis = torch.arange(-1000, 1000, dtype=torch.float64) * 0.012
    grid = torch.cartesian_prod(axis, axis)
    for name in ("u1", "u2", "u3", "u4"):
        target: Any = build_target(name)
        total = torch.logsumexp(target.log_density(grid), 0) + 2 * math.log(0.012)
        assert ReverseKL(name, None, 0).truth.log_z == pytest.approx(float(total), abs=1e-5)


def test_contexts_go_with_the_samples_and_there_is_no_evidence_of_several_densities() -> None:
    data = toy("turning", 50, 60, 4000, 0)
    objective, flow = ReverseKL("turning", None, 0), build_flow("diagonal", 2, context=1)
    figures = objective.test(flow, data, 3)
    assert figures.keys() == (NAMES | KNOWN) - {f"test/{n}" for n in ("log_z", "log_z_stderr")} - {
        "test/ess",
        "test/log_z_error",
    }
    u = torch.randn(4000, 2, generator=generator("elbo/test", 3))
    truth: Any = objective.truth
    expected = truth.log_prob(u, data.test.context) - flow.base.log_prob(u)
    assert figures["test/elbo"] == pytest.approx(float(expected.mean()), abs=1e-4)


# the loss and its gradient


def nodes(num: int, dim: int) -> tuple[Tensor, Tensor]:
    """Points and weights of Gauss and Hermite for means over N(0, I)."""
    x, w = np.polynomial.hermite_e.hermegauss(num)
    points = torch.cartesian_prod(*[torch.from_numpy(x)] * dim).reshape(-1, dim)
    weights = torch.cartesian_prod(*[torch.from_numpy(w / w.sum())] * dim).reshape(-1, dim)
    return points, weights.prod(1)


def mean_loss(
    objective: ReverseKL, flow: Flow, num: int, patch: pytest.MonkeyPatch
) -> tuple[Tensor, list[Tensor]]:
    """The mean of the loss over all that it may draw, and its gradient."""
    u, weights = nodes(num, flow.dim)
    patch.setattr(torch, "randn_like", lambda x: u)
    loss = (weights * objective.loss(flow, torch.zeros_like(u))).sum()
    return loss, list(torch.autograd.grad(loss, list(flow.parameters())))


def test_loss_and_gradient_are_those_of_the_closed_form(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = normal(2, 0.3, 0.7).double()
    objective = ReverseKL("test_posteriors.bump", 2, 0.0)
    loss, (gradient,) = mean_loss(objective, flow, 5, monkeypatch)
    (raw,) = flow.parameters()
    scale = (-raw[0, 2:]).exp()
    mean = -raw[0, :2] * scale
    kl = (SCALE / scale).log() + (scale**2 + (mean - MEAN) ** 2) / (2 * SCALE**2) - 0.5
    expected = kl.sum() - log_z_of_bump(2)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, *torch.autograd.grad(expected, raw))


@pytest.mark.parametrize("name", ["coupling", "planar"])
def test_loss_and_gradient_are_those_of_a_sum_over_points(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """int q (log q - log f) on a grid, with q as `log_prob` has it, which is data to base."""
    options = {"direction": "sampling"} if name == "planar" else {}
    flow = random_flow(name, 2, num_flows=2, **options)
    objective = ReverseKL("test_posteriors.bump", 2, 0.0)
    loss, gradient = mean_loss(objective, flow, 60, monkeypatch)
    axis = torch.linspace(-14, 14, 281, dtype=torch.float64)
    x = torch.cartesian_prod(axis, axis)
    log_q = flow.log_prob(x)
    expected = (log_q.exp() * (log_q - bump(x))).sum() * 0.1**2
    torch.testing.assert_close(loss, expected, rtol=3e-4, atol=1e-4)
    grid = torch.autograd.grad(expected, list(flow.parameters()))
    torch.testing.assert_close(gradient, list(grid), rtol=1e-2, atol=2e-2)


# annealing


def test_beta_rises_as_a_line_and_is_one_in_evaluation() -> None:
    for progress in (0.0, 0.1, 0.3, 0.495, 0.6, 1.0):
        done = torch.tensor(progress)
        beta = min(1, 0.01 + progress / 0.5)
        assert float(warmed_up(done, 0.5, training=True)) == pytest.approx(beta)
        assert warmed_up(done, 0.5, training=False) == 1
        assert warmed_up(done, 0.0, training=True) == 1


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.7])
def test_the_target_comes_in_with_beta(progress: float) -> None:
    flow, objective = normal(2, 0.3, 0.7), ReverseKL("test_posteriors.bump", 2, 0.5)
    objective.progress.fill_(progress)

    def loss(flow: Flow) -> Tensor:
        torch.manual_seed(0)
        return objective.loss(flow, torch.zeros(9, 2))

    torch.manual_seed(0)
    u = torch.randn(9, 2)
    log_q = flow.base.log_prob(u) - 2 * math.log(0.7)
    log_f = bump(0.3 + 0.7 * u)
    beta = min(1, 0.01 + progress / 0.5)
    torch.testing.assert_close(loss(flow.train()), log_q - beta * log_f)
    torch.testing.assert_close(loss(flow.eval()), log_q - log_f)


class Watch(pl.Callback):
    """Notes the progress that the loss sees in each epoch."""

    def on_train_batch_start(self, trainer: Any, module: Any, *args: Any) -> None:
        SEEN.append((trainer.current_epoch, float(module.objective.progress), module.training))


SEEN: list[tuple[int, float, bool]] = []
SMALL = (
    *("experiment=posterior", "num_flows=2", "trainer.max_epochs=4", *NO_PICTURES),
    *("data.num_train=200", "data.num_val=300", "data.num_test=400", "data.batch_size=32"),
)
OWN = ("data.target=test_posteriors.bump", "data.dim=3")
STILL = "optimizer.lr=1e-30"


@pytest.mark.parametrize("replicates", [1, 2])
def test_each_epoch_has_its_progress_and_validation_the_same_draws(
    replicates: int, compose_config: Compose, tmp_path: Path
) -> None:
    """A flow that stands still: only the draws, and beta, can change its losses."""
    SEEN.clear()
    words = (*SMALL, "data.target=gaussian", "data.num_train=4000", "data.batch_size=500")
    words += (
        "objective.annealing=0.5",
        "flow=diagonal",
        STILL,
        f"replicates={replicates}",
        f"run_dir={tmp_path}",
    )
    train(compose_config(*words, "+callbacks.watch={_target_: test_posteriors.Watch}"))
    assert {*SEEN} == {(epoch, epoch / 4, True) for epoch in range(4)}
    read = events(tmp_path)
    values = {
        name: [e.value for e in read.Scalars(f"{name}/negative_elbo")] for name in ("train", "val")
    }
    assert len({*values["val"]}) == 1
    assert len(values["val"]) >= 4
    entropy = 1 + math.log(2 * math.pi)
    energy = 0.5 * (2 / (1 - 0.8**2) + 2 * math.log(2 * math.pi) + math.log(1 - 0.8**2))
    for epoch, value in enumerate(values["train"][-4:]):
        beta = min(1, 0.01 + epoch / 4 / 0.5)
        assert value == pytest.approx(beta * energy - entropy, abs=0.25)
    assert values["val"][0] == pytest.approx(energy - entropy, abs=0.5)


# runs


@pytest.fixture
def quick(compose_config: Compose, tmp_path: Path) -> Callable[..., Any]:
    """quick("name", ...): the metrics of a short run of experiment=posterior in a folder."""

    def quick(name: str, *words: str) -> dict[str, Any]:
        return train(compose_config(*SMALL, f"run_dir={tmp_path / name}", *words))

    return quick


@pytest.mark.parametrize("words", [(), OWN], ids=["u1", "own"])
def test_runs_and_their_report(words: tuple[str, ...], quick: Any, tmp_path: Path) -> None:
    """Their figures have the names of the issue, and the summary says them."""
    for kind, more in {"a": (), "b": ("optimizer.lr=1e-2",)}.items():
        for seed in (1,):
            folder = tmp_path / f"{kind}{seed}"
            metrics = quick(folder.name, *words, *more, f"seed={seed}")
            assert metrics == json.loads((folder / "metrics.json").read_text())
            assert {n for n in metrics if "/" in n} == (NAMES if words else NAMES | KNOWN)
            assert metrics["status"] == "completed"
            said = summary(metrics, folder)
            assert re.search(r"^ELBO +-?\d", said, re.M)
            assert re.search(r"^log Z +\S+ ± \S+ nats$", said, re.M)
            assert re.search(r"^ESS +\S+% of the samples$", said, re.M)
            assert ("reverse KL" in said) is not bool(words)
    flow = load(tmp_path / "b1")
    assert flow.config["direction"] == "sampling"
    assert flow.sample(3).shape == (3, 3 if words else 2)


def test_a_cell_with_more_evidence_is_the_better_one(tmp_path: Path) -> None:
    """Of a function of one's own there is but the ELBO, of which more is better."""
    from test_report import fabricate

    elbos = {"lr=0.1": [-1.0, -1.1, -1.2], "lr=0.2": [-3.0, -3.2, -3.1], "lr=0.3": [-0.9, -1, -1.1]}
    for word, values in elbos.items():
        for seed, elbo in enumerate(values):
            figures = {"val/negative_elbo": -elbo - (word == "lr=0.1"), "test/elbo": elbo}
            fabricate(
                tmp_path / f"{word},seed={seed}", f"optimizer.{word}", f"seed={seed}",
                **{"val/nll": None, "test/nll": None, "test_kl": None, "test/kl": None}, **figures,
            )  # fmt: skip
    runs, left_out = collect([tmp_path])
    assert not left_out
    (ranking,) = rank(runs)
    assert (ranking.measure, ranking.rank) == ("test/elbo", "val/negative_elbo")
    text = to_markdown(runs, [ranking], left_out, tmp_path)
    rows = [
        line.split("|") for line in text.splitlines() if "optimizer" not in line and "{0" in line
    ]
    marks = {row[2].strip(): row[1].strip() for row in rows}
    assert marks == {"0.1": "best", "0.2": "", "0.3": "="}  # better on the test's draws
    assert "ranked by val/negative_elbo" in text
    assert "= test/elbo not significantly worse than the best's" in text


class Halt(pl.Callback):
    """A run that ends within its second or third epoch."""

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        if module.step >= 10:
            raise MemoryError


VAE = (
    *("experiment=vae", "num_flows=2", "trainer.max_epochs=2", *NO_PICTURES, "data.num_test=20"),
    *("objective.num_latents=2", "objective.num_features=8", "~callbacks.reconstructions"),
)


@pytest.mark.parametrize("words", [SMALL, (*SMALL, "replicates=2"), VAE], ids=["kl", "two", "vae"])
def test_a_cut_run_goes_on_to_the_same_end(
    words: tuple[str, ...], compose_config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, though each step draws; the checkpoint falls between two of its chunks."""
    monkeypatch.setattr("flowlab.training.data.CHUNK_SIZE", 64)
    whole = train(compose_config(*words, f"run_dir={tmp_path / 'whole'}"))
    cut = (*words, f"run_dir={tmp_path / 'cut'}", "callbacks.checkpoint.every_n_train_steps=2")
    with pytest.raises(MemoryError):
        train(compose_config(*cut, "+callbacks.halt={_target_: test_posteriors.Halt}"))
    resumed = train(compose_config(*cut, f"ckpt_path={tmp_path / 'cut'}"))
    aside = {"seconds": 0, "environment": {}, "resumed_from": ""}
    assert resumed | aside == whole | aside
    files = [(tmp_path / name / "flow.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]


def test_replicates_have_the_figures_of_the_runs_of_their_seeds(quick: Any) -> None:
    """Of flows that stand still, as what a step draws is another; and those that move work."""
    names = NAMES | KNOWN - {"test/entropy"}
    together = quick("both", "replicates=2", "seed=5", STILL)
    for i in (0, 1):
        alone = quick(f"one{i}", f"seed={5 + i}", STILL)
        for name in names:
            assert together["replicates"][name][i] == pytest.approx(alone[name], abs=1e-4)
    moved = quick("moved", "replicates=2", "seed=5", "optimizer.lr=1e-2")
    assert all(map(math.isfinite, moved["replicates"]["test/reverse_kl"]))
    assert moved["test/reverse_kl"] < together["test/reverse_kl"]
    assert moved["test/reverse_kl_stderr"] > 0
    own = quick("own", *OWN, "replicates=2", "trainer.max_epochs=1")
    assert len(own["replicates"]["test/elbo"]) == 2


def test_training_lowers_the_reverse_kl_to_that_of_a_normal(quick: Any) -> None:
    """Of a normal, which the diagonal is: log Z is found, and all samples count."""
    words = ("flow=diagonal", "optimizer.lr=3e-2", "trainer.max_epochs=40")
    metrics = quick("run", *OWN, *words)
    assert metrics["test/ess"] > 0.98
    assert metrics["test/elbo"] == pytest.approx(log_z_of_bump(3), abs=0.02)


# runs that go wrong


@pytest.mark.parametrize("layer", [1, 2, 3, 4])
def test_the_first_layer_that_overflows_from_base_to_data_is_named(layer: int) -> None:
    flow = build_flow("coupling", 2, bound=200.0, direction="sampling")
    stack: Any = flow.chain[0].transform  # type: ignore[union-attr]
    ((*_, biases),) = stack.weights
    biases.data[layer - 1 :, 0] = 1000.0  # and all that come after it
    objective = ReverseKL("u1", None, 0.5)
    error = diagnose(flow, torch.zeros(10, 2), 7, "the loss", None, objective)
    assert isinstance(error, NonFiniteError)
    assert f"first the output of layer {5 - layer} of 4, at the point [" in str(error)


def cliff(x: Tensor) -> Tensor:
    """Without a value where points first come to."""
    return torch.where(x[..., 0] > 2.5, torch.nan, -x.square().sum(-1))


def test_a_density_that_is_not_finite_is_named(quick: Any, tmp_path: Path) -> None:
    words = ("data.target=test_posteriors.cliff", "data.dim=2")
    message = r"first the log-density of test_posteriors.cliff, at the point \[\d"
    with pytest.raises(NonFiniteError, match=message):
        quick("run", *words)
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["status"] == "failed"


def test_a_run_that_runs_away_names_a_layer_or_a_parameter(quick: Any) -> None:
    with pytest.raises(NonFiniteError, match=r"step \d+: .* is not finite, and first the "):
        quick("run", "flow=coupling", "flow.bound=100", "optimizer.lr=1e15")


# families, and what fits


def test_which_families_generate_by_a_formula() -> None:
    """Those of images by either way, of their couplings; the rest is measured below."""
    both = {"coupling", "spline", "radial", "ffjord", "diagonal", "realnvp", "glow"}
    sampling = {"maf", "spline_ar", "naf", "bnaf", "planar", "sylvester", "residual"}
    for name in FLOWS:
        shape = (4, 4) if name in ("realnvp", "glow") else 3
        options = {"num_levels": 1} if name in ("realnvp", "glow") else {}
        told = {
            direction: build_flow(name, shape, direction=direction, **options).generates
            for direction in ("density", "sampling")
        }
        assert told["density"] == (name in both | {"iaf"}), name
        assert told["sampling"] == (name in both | sampling), name


@pytest.mark.parametrize("direction", ["density", "sampling"])
@pytest.mark.parametrize("name", [n for n in FLOWS if n not in ("realnvp", "glow")])
def test_what_says_that_it_generates_takes_about_as_many_operations(
    name: str, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As data to base does, at 12 coordinates; else a solver's, or those of a pass for each."""

    class Counting(TorchDispatchMode):
        num = 0

        def __torch_dispatch__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.num += 1
            return f(*args, **(kwargs or {}))

    flow = random_flow(name, 12, direction=direction).float()
    x, counts = torch.randn(4, 12), []
    for way in (flow, flow.inverse):
        with torch.no_grad(), Counting() as counting:
            way(x)
        counts.append(counting.num)
    ratio = counts[1] / counts[0]
    assert (ratio < 7) == flow.generates, counts


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("flow=planar", "objective=reverse_kl"),
            r"^flow: it has a formula for data to base, .* add flow.direction=sampling$",
        ),
        (("flow=iaf", "experiment=posterior"), "; add flow.direction=density$"),
        (("data=digits", "objective=reverse_kl", "flow=glow"), "needs a density that can be eval"),
        (
            ("data=table", "data.path=pyproject.toml", "objective=reverse_kl"),
            "needs a density that can be evaluated, as data=toy data.target=u1 has one$",
        ),
        (("experiment=posterior", "objective.annealing=2"), "objective.annealing=2: expected"),
        (("experiment=posterior", "objective.annealing=x"), "objective.annealing=x: expected"),
        (("experiment=posterior", "data.target=nosuch"), "data.target=nosuch: no such; available"),
    ],
)
def test_what_does_not_fit_is_one_line_and_no_folder(
    words: tuple[str, ...], message: str, compose_config: Compose, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        train(compose_config(*words, f"run_dir={tmp_path / 'run'}"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()

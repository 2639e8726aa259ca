"""The posterior of one's own: a function on one's own path, and what can be wrong with it."""

import importlib
import json
import math
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import NO_PICTURES, ROOT, Compose
from scipy.optimize import minimize
from scipy.special import expit, log_expit
from sklearn.datasets import load_breast_cancer

from flowlab.errors import ConfigError
from flowlab.experiment import train

# logistic regression, whose log Z is the log evidence
MY_POSTERIOR = """\
    import math
    import torch
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True)
    x = torch.tensor((x - x.mean(0)) / x.std(0)).float()
    signs = torch.tensor(2 * y - 1).float()


    def log_density(w):  # log p(y | x, w) + log N(w; 0, I)
        log_prior = -0.5 * (w.square() + math.log(2 * math.pi)).sum(-1)
        return torch.nn.functional.logsigmoid(signs * (w @ x.T)).sum(-1) + log_prior
"""
FAULTY = """\
    import torch

    def good(x):
        return -x.square().sum(-1)

    def summed(x):
        return -x.square().sum(0)

    def whole(x):
        return -x.square().sum()

    def constant(x):
        return torch.zeros(len(x))

    def detached(x):
        return -x.detach().square().sum(-1)

    def number(x):
        return 1.0

    def matrix(x):
        return x @ torch.zeros(7, 7)

    def lines(x):
        raise ValueError("one\\n  two")

    value = 3.0
"""
QUICK = (
    *("experiment=posterior", "num_flows=2", "trainer.max_epochs=2", *NO_PICTURES),
    *("data.num_train=100", "data.num_val=100", "data.num_test=200"),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the modules and nothing else, where Python finds them."""
    for name, text in {"my_posterior": MY_POSTERIOR, "my_faulty": FAULTY}.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
    (tmp_path / "my_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    for name in ("my_posterior", "my_faulty"):
        sys.modules.pop(name, None)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("5",), "data.target=5: no such; available: bimodal"),
        (
            ("my_faulty.good", "objective.target=u1"),
            "objective.target=u1: expected that of the data",
        ),
        (("nosuch.f",), "ModuleNotFoundError: No module named 'nosuch'"),
        (("my_broken.f",), "ZeroDivisionError: division by zero"),
        (("my_faulty.nosuch",), "AttributeError: module 'my_faulty' has no attribute 'nosuch'"),
        (("my_faulty.value",), "expected a function of points, got 3.0"),
        (("my_faulty..",), "data.target=my_faulty..: "),
        ((".",), "data.target=.: "),
        (
            ("my_faulty.summed",),
            r"of points \(4, 3\) expected log-densities \(4,\), got shape \(3,",
        ),
        (("my_faulty.whole",), r"expected log-densities \(4,\), got shape \(\)"),
        (("my_faulty.number",), r"expected log-densities \(4,\), got float"),
        (("my_faulty.constant",), "has no gradient; it must be computed by torch"),
        (("my_faulty.detached",), "has no gradient; it must be computed by torch"),
        (("my_faulty.matrix",), r"of points \(4, 3\): RuntimeError: .*4x3 and 7x7"),
        (("my_faulty.lines",), r"of points \(4, 3\): ValueError: one two"),
        (("my_faulty.good", "data.dim=null"), "data.dim=null: expected how many coordinates"),
        (("my_faulty.good", "data.dim=0"), "data.dim=0: expected"),
        (("my_faulty.good", "data.dim=x"), "data.dim=x: expected"),
        (
            ("my_faulty.good", "objective=likelihood"),
            "but not drawn from; add objective=reverse_kl",
        ),
        (("my_faulty.good", "flow.direction=density"), "add flow.direction=sampling"),
        (("my_faulty.good", "flow=iaf"), "add flow.direction=density"),
        (("my_faulty.good", "flow=glow"), "flow=glow: this flow is of images"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_folder(
    words: tuple[str, ...], message: str, folder: Path, compose_config: Compose
) -> None:
    target, *more = words
    cfg = compose_config(
        *QUICK, f"data.target={target}", "data.dim=3", *more, f"run_dir={folder / 'run'}"
    )
    with pytest.raises(ConfigError, match=message) as error:
        train(cfg)
    assert "\n" not in str(error.value)
    assert not (folder / "run").exists()


def shell(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "train.py"), *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_a_function_of_ones_own_from_an_empty_folder(folder: Path) -> None:
    words = (*QUICK, "data.target=my_faulty.good", "data.dim=3", "hydra.run.dir=run")
    done = shell(folder, *words)
    assert done.returncode == 0, done.stderr
    assert "log Z" in done.stdout
    metrics = json.loads((folder / "run" / "metrics.json").read_bytes())
    assert {"test/elbo", "test/log_z", "test/ess"} <= metrics.keys()
    assert "test/reverse_kl" not in metrics


@pytest.mark.long
def test_a_sweep_of_ones_own_ranks_by_the_elbo_and_resumes(folder: Path) -> None:
    words = (*QUICK, "data.target=my_faulty.good", "data.dim=3")
    swept = shell(folder, "-m", *words, "flow=diagonal,coupling", "hydra.sweep.dir=sweep")
    assert swept.returncode == 0, swept.stderr
    assert "ranked by val/negative_elbo" in swept.stdout
    assert "test/elbo" in swept.stdout
    assert "test/kl" not in swept.stdout
    energies = shell(folder, "-m", *QUICK, "seed=0,1", "hydra.sweep.dir=energies")
    assert "test/reverse_kl" in energies.stdout
    wrong = shell(folder, *words, "data.target=nosuch.f", "hydra.run.dir=wrong")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert not (folder / "wrong").exists()


def test_the_example_is_the_readmes() -> None:
    assert f"\n{textwrap.dedent(MY_POSTERIOR)}```\n" in (ROOT / "README.md").read_text()


def log_evidence(num: int) -> tuple[float, float]:
    """Log Z of logistic regression and its error, by importance sampling from Laplace, widened."""
    x, y = load_breast_cancer(return_X_y=True)
    x, signs = (x - x.mean(0)) / x.std(0), 2 * y - 1
    dim = x.shape[1]

    def log_density(w: Any) -> Any:
        log_prior = -0.5 * (w**2).sum(-1) - 0.5 * dim * math.log(2 * math.pi)
        return log_expit(signs * (w @ x.T)).sum(-1) + log_prior

    def gradient(w: Any) -> Any:
        return w - (signs * expit(-signs * (x @ w))) @ x

    mode = minimize(lambda w: -log_density(w), np.zeros(dim), jac=gradient).x
    p = expit(x @ mode)
    precision = (x.T * (p * (1 - p))) @ x + np.eye(dim)
    root = 1.1 * np.linalg.cholesky(np.linalg.inv(precision))
    e = np.random.default_rng(0).standard_normal((num, dim))
    log_q = -0.5 * (e**2).sum(1) - 0.5 * dim * math.log(2 * math.pi)
    log_w = log_density(mode + e @ root.T) - log_q + np.linalg.slogdet(root)[1]
    w = np.exp(log_w - log_w.max())
    return log_w.max() + math.log(w.mean()), w.std() / w.mean() / math.sqrt(num)


def test_the_evidence_of_the_readmes_example(folder: Path, compose_config: Compose) -> None:
    """A short training; log Z within five errors of importance sampling with another proposal."""
    words = ("experiment=posterior", "flow=maf", "num_flows=2", "num_hidden=32", *NO_PICTURES)
    words += ("trainer.max_epochs=60", "optimizer.lr=5e-3", "objective.annealing=0.2")
    words += (
        "data.target=my_posterior.log_density",
        "data.dim=30",
        "data.num_val=500",
        "data.num_test=4000",
    )
    metrics = train(compose_config(*words, f"run_dir={folder / 'run'}"))
    expected, error = log_evidence(100_000)
    assert error < 0.05
    error = math.hypot(error, metrics["test/log_z_stderr"])
    assert metrics["test/log_z"] == pytest.approx(expected, abs=5 * error)
    assert expected - 1 < metrics["test/elbo"] < expected
    assert metrics["test/ess"] > 0.05

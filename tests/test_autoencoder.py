"""Variational autoencoders: densities of tiny images by quadrature, files, data, and runs."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NO_PICTURES, Compose
from hostile import autoencoders, with_columns
from safetensors.torch import save as to_bytes
from torch import Tensor

from flowlab import load
from flowlab.commands import sample, score
from flowlab.data import Data, Points, digits, images
from flowlab.errors import ConfigError, ModelFileError
from flowlab.experiment import train
from flowlab.export import digest, save
from flowlab.flows import Autoencoder, Flow, build_flow
from flowlab.training.diagnosis import diagnose
from flowlab.training.objectives import ELBO

SHAPE, NUM_FEATURES = (2, 2), 3
ALL = torch.tensor([[i >> j & 1 for j in range(4)] for i in range(16)]).reshape(16, *SHAPE)
QUICK = (
    *("experiment=vae", "num_flows=2", "trainer.max_epochs=2", "data.num_test=40"),
    *("objective.num_latents=2", "objective.num_features=8"),
)
NO_PICTURE = (*NO_PICTURES, "~callbacks.reconstructions")
NAMES = {
    *("train/negative_elbo", "val/negative_elbo", "test/elbo", "test/elbo_stderr"),
    *("test/nll", "test/nll_stderr"),
}


def random_model(num_latents: int, name: str = "planar", **options: Any) -> Autoencoder:
    """An autoencoder of 2 x 2 numbers, in double precision, in which all depends on all."""
    torch.manual_seed(2)
    if name != "diagonal":
        options = {"num_flows": 2} | options
    posterior = build_flow(
        name, num_latents, context=NUM_FEATURES, **{"direction": "sampling"} | options
    )
    model = Autoencoder(posterior, SHAPE).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.4 * torch.randn_like(parameter)
    return model


def log_p(model: Autoencoder, x: Tensor) -> Tensor:
    """Log p(x) of images, (N,), by a sum over an even grid of latents."""
    axis, step = torch.linspace(-8, 8, 161, dtype=torch.float64), 0.1
    num = model.posterior.dim
    z = torch.cartesian_prod(*[axis] * num).reshape(-1, num)
    prior = torch.distributions.Normal(0, 1).log_prob(z).sum(1)
    ones = model.means(z).flatten(1)
    given = torch.distributions.Bernoulli(ones).log_prob(x.double().flatten(1)[:, None])
    return torch.logsumexp(given.sum(-1) + prior, 1) + num * math.log(step)


def data_of(x: Tensor) -> Data:
    points = Points(x.double() + 0.3)  # with noise of width 1, as images have it
    return Data(points, points, points, (), support={"levels": 2, "logit": None})


# densities


@pytest.mark.parametrize("num_latents", [1, 2])
@torch.no_grad()
def test_the_figures_are_those_of_a_quadrature_over_latents(num_latents: int) -> None:
    """The NLL by many draws is log p(x), and the ELBO is below it, for all images there are."""
    model, objective = random_model(num_latents), ELBO(num_latents, NUM_FEATURES, 0.5)
    exact = log_p(model, ALL)
    assert float(exact.exp().sum()) == pytest.approx(1, abs=1e-9)
    many = ALL.double().repeat(4000, 1, 1)
    weights = objective._log_weights(model, many, 1, torch.Generator().manual_seed(0))
    weights = weights.reshape(4000, 16)
    ratio = (weights - exact).exp()
    error = ratio.std(0) / math.sqrt(len(ratio))
    assert ((ratio.mean(0) - 1).abs() < 5 * error).all()
    assert (weights.mean(0) < exact + 5 * weights.std(0) / math.sqrt(len(weights))).all()
    figures = objective.test(model, data_of(ALL.repeat(30, 1, 1)), seed=0)
    assert figures.keys() == NAMES
    nll, error = -float(exact.mean()), float(ratio.std(0).mean()) / math.sqrt(500 * 480)
    bias = float(ratio.var(0).mean()) / 2 / 500
    assert figures["test/nll"] == pytest.approx(nll + bias, abs=5 * error + 0.2 * bias)
    elbo = float(weights.mean())
    assert figures["test/elbo"] == pytest.approx(elbo, abs=5 * figures["test/elbo_stderr"])
    assert figures["test/elbo"] < -nll
    assert figures["test/nll_stderr"] == pytest.approx(
        float(exact.repeat(30).std()) / math.sqrt(480), rel=0.05
    )


@torch.no_grad()
def test_the_loss_is_minus_log_p_plus_the_kl_of_the_posterior(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With q(z | x) from latents to noise, by the solver, and log p(z | x) by quadrature."""
    model, objective = random_model(1).eval(), ELBO(1, NUM_FEATURES, 0.5)
    e = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None]  # even, for the nets have kinks
    weights = torch.distributions.Normal(0, 1).log_prob(e[:, 0]).exp() * 18 / 4000
    axis = torch.linspace(-40, 40, 8001, dtype=torch.float64)[:, None]
    for x in ALL[[0, 3, 6, 13]]:
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randn_like", lambda _: e)
            loss = (weights * objective.loss(model, x.expand(4001, 2, 2).double() + 0.7)).sum()
            features, mean, log_scale = model.encode(x[None].double())
            start, log_det = model.posterior(axis, features.expand(8001, -1))
            normal = torch.distributions.Normal(mean, log_scale.exp())
            log_q = normal.log_prob(start).sum(1) + log_det
            log_x, log_z = model.log_joint(x.expand(8001, 2, 2).double(), axis)
            kl = (log_q.exp() * (log_q - log_x - log_z + log_p(model, x[None]))).sum() * 0.01
        assert float(log_q.exp().sum() * 0.01) == pytest.approx(1, abs=1e-6)
        assert float(kl) > 0
        assert float(loss) == pytest.approx(float(kl - log_p(model, x[None])), abs=1e-4)


@pytest.mark.parametrize("name", ["planar", "sylvester", "coupling", "diagonal", "iaf"])
def test_log_q_is_that_of_the_jacobian(name: str) -> None:
    """Of the map from noise to latents, by automatic differentiation."""
    model = random_model(3, name, **({"direction": "density"} if name == "iaf" else {}))
    encoded = model.encode(ALL[:5].double())
    noise = torch.randn(5, 3, dtype=torch.float64)
    _, log_q = model.drawn(noise, *encoded)
    for i in range(5):
        own = tuple(part[i : i + 1] for part in encoded)
        jacobian = torch.func.jacrev(lambda e, own=own: model.drawn(e[None], *own)[0][0])(noise[i])
        log_normal = torch.distributions.Normal(0, 1).log_prob(noise[i]).sum()
        expected = log_normal - torch.linalg.slogdet(jacobian)[1]
        torch.testing.assert_close(log_q[i], expected)


@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_the_prior_comes_in_with_beta(progress: float) -> None:
    model, objective = random_model(2), ELBO(2, NUM_FEATURES, 0.5)
    objective.progress.fill_(progress)

    def loss(model: Autoencoder) -> Tensor:
        torch.manual_seed(0)
        return objective.loss(model, ALL.double() + 0.9)

    torch.manual_seed(0)
    z, log_q = model.drawn(torch.randn(16, 2, dtype=torch.float64), *model.encode(ALL.double()))
    log_prior = torch.distributions.Normal(0, 1).log_prob(z).sum(1)
    ones = model.means(z).flatten(1)
    log_x = torch.distributions.Bernoulli(ones).log_prob(ALL.double().flatten(1)).sum(1)
    for mode, beta in ((True, min(1, 0.01 + progress / 0.5)), (False, 1)):
        expected = beta * (log_q - log_prior) - log_x
        torch.testing.assert_close(loss(model.train(mode)), expected)


def test_samples_are_as_frequent_as_they_are_likely() -> None:
    model = random_model(2)
    drawn = model.sample(40_000, torch.Generator().manual_seed(0)).flatten(1).long()
    counts = torch.bincount((drawn * torch.tensor([1, 2, 4, 8])).sum(1), minlength=16)
    p = log_p(model, ALL).exp().detach()
    z = (counts - 40_000 * p) / (40_000 * p * (1 - p)).sqrt()
    assert z.abs().max() < 4.5


# files


def test_a_file_gives_it_back_to_the_bit(tmp_path: Path) -> None:
    model = random_model(2)
    save(model, tmp_path / "flow.safetensors")
    again = load(tmp_path)
    assert isinstance(again, Autoencoder)
    assert again.config == model.config
    state = model.state_dict()
    assert again.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())
    drawn = [m.sample(50, torch.Generator().manual_seed(0)) for m in (model, again)]
    assert torch.equal(*drawn)


@pytest.mark.parametrize(
    ("kind", "message"), [("vectors", "must be a flow of vectors"), ("no context", "has a context")]
)
def test_what_is_no_posterior_is_refused(kind: str, message: str) -> None:
    flow: Flow = (
        build_flow("glow", (2, 2), num_levels=1, context=3)
        if kind == "vectors"
        else build_flow("planar", 2)
    )
    with pytest.raises(ValueError, match=message):
        Autoencoder(flow, SHAPE)


def test_a_file_of_a_strangers_is_refused(tmp_path: Path) -> None:
    """What hostile.py has of them, with weights and digests that are those of a good one."""
    model, path = random_model(2), tmp_path / "flow.safetensors"
    state = model.state_dict()
    good = with_columns({"format": 2, "flow": model.config, "sha256": digest(model.config, state)})
    path.write_bytes(to_bytes(state, {"flowlab": json.dumps(good)}))
    load(path)
    for content in autoencoders(good):
        content["sha256"] = digest(content["flow"], state)
        path.write_bytes(to_bytes(state, {"flowlab": json.dumps(content)}))
        with pytest.raises(ModelFileError, match="not a flow that flowlab can load: "):
            load(path)
    more = {**good, "flow": {**model.config, "context": 3}}
    more["sha256"] = digest(more["flow"], state)
    path.write_bytes(to_bytes(state, {"flowlab": json.dumps(more)}))
    with pytest.raises(ModelFileError, match="keys beside the shape and the posterior"):
        load(path)
    path.write_bytes(to_bytes(state, {"flowlab": json.dumps(with_columns(good, {"names": []}))}))
    with pytest.raises(ModelFileError, match="columns for points that are not rows of numbers"):
        load(path)


# data


def test_numbers_are_one_as_often_as_they_are_bright() -> None:
    """In each split, each by itself; the seed decides which."""
    plain = digits(150, 350, None, binary=False, seed=3)
    data = digits(150, 350, None, binary=True, seed=3)
    assert data.levels == 2
    for split in ("train", "val", "test"):
        p = getattr(plain, split).x.floor() / 16
        b = getattr(data, split).x.floor()
        assert {*b.unique().tolist()} == {0.0, 1.0}
        assert torch.equal(b[p == 0], torch.zeros(int((p == 0).sum())))
        assert torch.equal(b[p == 1], torch.ones(int((p == 1).sum())))
        for places in (slice(0, 32), slice(32, 64)):
            mean, var = (t.flatten(1)[:, places].sum() for t in (b - p, p * (1 - p)))
            assert abs(float(mean / var.sqrt())) < 4.5
    again, other = (digits(150, 350, None, binary=True, seed=seed) for seed in (3, 4))
    assert all(torch.equal(getattr(data, s).x, getattr(again, s).x) for s in ("train", "test"))
    assert not torch.equal(data.train.x, other.train.x)


def test_splits_of_the_same_images_are_drawn_apart(tmp_path: Path) -> None:
    grey = np.full((200, 4, 4), 128, np.uint8)
    np.savez(tmp_path / "x.npz", train=grey, val=grey, test=grey)
    data = images(str(tmp_path / "x.npz"), 3, None, binary=True, seed=0)
    drawn = [getattr(data, split).x.floor() for split in ("train", "val", "test")]
    for i in range(3):
        assert float(drawn[i].mean()) == pytest.approx(128 / 255, abs=0.05)
        agree = (drawn[i] == drawn[i - 1]).double().mean()
        assert float(agree) == pytest.approx(0.5, abs=0.05)


def test_a_likelihood_of_binary_images(compose_config: Compose, tmp_path: Path) -> None:
    words = ("data=digits", "data.binary=true", "flow=glow", "num_flows=1", "num_hidden=4")
    words += ("trainer.max_epochs=2", "data.num_test=50", f"run_dir={tmp_path}", *NO_PICTURE)
    metrics = train(compose_config(*words))
    assert 0 < metrics["test/bits_per_dim_iw"] < metrics["test/bits_per_dim"] < 1.5  # 1: uniform


# runs


def test_a_run_and_what_uses_it(
    compose_config: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = train(compose_config(*QUICK, f"run_dir={tmp_path / 'run'}"))
    assert {name for name in metrics if "/" in name} == NAMES
    assert metrics == json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert 0 < metrics["test/nll"] < -metrics["test/elbo"]
    pictures = {path.stem.partition("-")[0] for path in (tmp_path / "run" / "plots").iterdir()}
    assert pictures >= {"loss", "reconstructions"}
    model = load(tmp_path / "run")
    assert model.sample(3).shape == (3, 8, 8)
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    run = str(tmp_path / "run")
    capsys.readouterr()
    for command, words in ((sample, [run, "-n", "3"]), (score, [run, str(tmp_path / "x.csv")])):
        with pytest.raises(SystemExit) as stop:
            command.main(words)  # type: ignore[attr-defined]
        said = capsys.readouterr()
        assert (stop.value.code, said.err.count("\n"), said.out) == (2, 1, "")
        assert "expected rows" in said.err


def test_replicates_have_the_figures_of_the_runs_of_their_seeds(
    compose_config: Compose, tmp_path: Path
) -> None:
    """Of models that stand still, as what a step draws is another."""
    words = (*QUICK, *NO_PICTURE, "optimizer.lr=1e-30", "trainer.max_epochs=1", "data.num_test=20")
    together = train(compose_config(*words, "replicates=2", f"run_dir={tmp_path / 'both'}"))
    for seed in (0, 1):
        alone = train(compose_config(*words, f"seed={seed}", f"run_dir={tmp_path / str(seed)}"))
        for name in NAMES:
            assert together["replicates"][name][seed] == pytest.approx(alone[name], abs=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("experiment=vae", "data.binary=false"), "zeros and ones; add data.binary=true to "),
        (("experiment=vae", "data.binary=maybe"), "data.binary=maybe: expected"),
        (
            ("experiment=vae", "data=table", "data.path=x.csv"),
            "objective=elbo is for .*; choose data=digits",
        ),
        (("objective=elbo", "data=bimodal"), r"objective=elbo is for images, got .* \(2,\)"),
        (
            ("objective=elbo", "data=digits", "data.binary=true", "flow=planar"),
            "add flow.direction=sampling",
        ),
        (("experiment=vae", "flow=iaf"), "add flow.direction=density"),
        (("experiment=vae", "flow=glow"), "this flow is of vectors|this flow is of images"),
        (("experiment=vae", "objective.num_latents=0"), "objective.num_latents=0: expected"),
        (("experiment=vae", "objective.annealing=2"), "objective.annealing=2: expected"),
    ],
)
def test_what_does_not_fit_is_one_line_and_no_folder(
    words: tuple[str, ...], message: str, compose_config: Compose, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        train(compose_config(*words, f"run_dir={tmp_path / 'run'}"))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("head", "what the encoder gives"),
        ("logits", "what the decoder gives"),
        ("x", "layer 2 of 2"),
    ],
)
def test_where_the_numbers_ended_is_named(part: str, said: str) -> None:
    model = random_model(2).float()
    parameters = model.posterior if part == "x" else getattr(model, part)
    with torch.no_grad():
        for parameter in parameters.parameters():
            parameter.fill_(3e38)
    error = diagnose(model, ALL.float(), 7, "the loss", None, ELBO(2, NUM_FEATURES, 0.5))
    assert f"first {said}" in str(error).replace("the output of ", "")

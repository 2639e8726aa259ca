"""What a training minimizes and is tested by, on flows whose figures are known."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from flowlab.data import Data, Points
from flowlab.errors import NonFiniteError
from flowlab.flows import build_flow
from flowlab.rng import generator
from flowlab.training.objectives import Likelihood
from flowlab.training.objectives.objective import PER_POINT, summarized


class Wide:
    """N(0, s^2 I) in three dimensions; notes what is drawn of it."""

    dim, extent, scale = 3, 8.0, 1.5

    def __init__(self) -> None:
        self.drawn: list[Tensor] = []

    @property
    def entropy(self) -> float:
        return self.dim * (0.5 * math.log(2 * math.pi * math.e) + math.log(self.scale))

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.distributions.Normal(0, self.scale).log_prob(x).sum(-1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        self.drawn.append(self.scale * torch.randn(n, self.dim, generator=generator))
        return self.drawn[-1]


def splits(truth: Wide, seed: int) -> tuple[Points, Points, Points]:
    train, val, test = (
        Points(truth.sample(400, generator(f"data/{split}", seed)))
        for split in ("train", "val", "test")
    )
    return train, val, test


def test_the_figures_of_a_standard_normal_for_a_wider_one() -> None:
    """The identity flow; KL between two normals in closed form, within five standard errors."""
    truth = Wide()
    data = Data(*splits(truth, seed=7), ("a", "b", "c"), truth)
    figures = Likelihood().test(build_flow("coupling", 3), data, seed=7)
    for name in ("train", "val", "test"):
        x = getattr(data, name).x.double()
        nll = 0.5 * x.square().sum(1) + 1.5 * math.log(2 * math.pi)
        assert figures[f"{name}/nll"] == pytest.approx(float(nll.mean()), abs=1e-5)
    assert figures["test/nll_stderr"] == pytest.approx(stats.sem(nll.numpy()), rel=1e-4)
    assert figures["test/entropy"] == truth.entropy
    kl = 3 * (-math.log(1.5) + 0.5 * (1.5**2 - 1))
    assert figures["test/kl"] == pytest.approx(kl, abs=5 * figures["test/kl_error"])
    assert figures["test/kl_error"] < 0.01


def test_fresh_points_are_in_no_split_and_never_come_twice() -> None:
    truth = Wide()
    data = Data(*splits(truth, seed=7), ("a", "b", "c"), truth)
    Likelihood().test(build_flow("coupling", 3), data, seed=7)
    assert len(truth.drawn) > 4
    everything = torch.cat(truth.drawn)
    assert len(everything.unique(dim=0)) == len(everything)


def test_a_single_test_point_has_no_standard_error_to_speak_of() -> None:
    one = Points(torch.zeros(1, 2))
    figures = Likelihood().test(build_flow("coupling", 2), Data(one, one, one, ("a", "b")), 0)
    assert figures.pop(PER_POINT).shape == (1,)
    assert figures.keys() == {"train/nll", "val/nll", "test/nll", "test/nll_stderr"}
    assert figures["test/nll_stderr"] == 0


def test_figures_of_several_flows_are_means_with_standard_errors_over_them() -> None:
    kls, entropy = [0.1, 0.2, 0.6], 1.9
    figures = [{"test/kl": kl, "test/kl_error": 0.01, "test/entropy": entropy} for kl in kls]
    assert summarized(figures[:1], 0) == figures[0]
    result = summarized(figures, best=1)
    assert result["test/kl"] == pytest.approx(0.3)
    assert result["test/kl_stderr"] == pytest.approx(stats.sem(kls))
    assert result["test/kl_error"] == pytest.approx(0.01)
    assert result["test/entropy"] == pytest.approx(entropy)
    assert result["best_replicate"] == 1
    assert result["replicates"]["test/kl"] == kls
    assert "test/entropy_stderr" not in result
    with pytest.raises(NonFiniteError, match=r"test/kl is nan; try a lower optimizer.lr"):
        summarized([*figures, {"test/kl": math.nan}], 0)

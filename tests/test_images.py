"""Images to train on: every form of their files, what can be wrong with them, and their bits."""

import gzip
import math
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Compose
from scipy import stats
from sklearn.datasets import load_digits
from torch import Tensor

from flowlab.data import Data, Points, digits, images
from flowlab.errors import ConfigError, DataError
from flowlab.experiment import train
from flowlab.flows import Flow, Transform, build_flow
from flowlab.parts import check_parts
from flowlab.training.data import DataModule
from flowlab.training.objectives import Likelihood
from flowlab.training.objectives.gaussian import gaussian_nll

RNG = np.random.default_rng(0)
TRAIN, TEST = (RNG.integers(0, 256, (n, 4, 6), np.uint8) for n in (20, 7))


def idx(array: Any, kind: int = 8) -> bytes:
    """The format of MNIST's files, by its description."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + bytes(array)


def folder(path: Path, end: str = "", dash: str = "-") -> Path:
    pack = gzip.compress if end else bytes
    for name, array in (("train-images", TRAIN), ("t10k-images", TEST)):
        (path / f"{name}{dash}idx3-ubyte{end}").write_bytes(pack(idx(array)))
    (path / f"train-labels{dash}idx1-ubyte{end}").write_bytes(pack(idx(TRAIN[:, 0, 0])))
    return path


def arrays(path: Path, **values: Any) -> Path:
    np.savez(path / "x.npz", **{"train": TRAIN, "test": TEST} | values)
    return path / "x.npz"


def whole(points: Points) -> list[list[int]]:
    """The images without noise, in an order of their own."""
    return sorted(points.x.floor().flatten(1).int().tolist())


FORMS = {
    "idx": folder,
    "gz": lambda path: folder(path, ".gz"),
    "dots": lambda path: folder(path, ".gz", "."),
    "npz": arrays,
    "three": lambda path: arrays(path, val=TRAIN[:3], train=TRAIN[3:]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images(form: str, tmp_path: Path) -> None:
    data = images(str(FORMS[form](tmp_path)), num_val=3, logit=0.05, seed=1)
    assert (data.shape, data.levels, len(data.val.x)) == ((4, 6), 256, 3)
    assert whole(data.test) == sorted(TEST.reshape(7, -1).tolist())
    assert whole(Points(torch.cat((data.train.x, data.val.x)))) == sorted(
        TRAIN.reshape(20, -1).tolist()
    )
    assert torch.equal(data.train.x, data.train.x.floor())
    for split in (data.val, data.test):
        share = split.x - split.x.floor()
        assert stats.kstest(share.flatten().numpy(), "uniform").pvalue > 1e-6
    assert data.facts["data/images"] == 27
    again = images(
        str(tmp_path if form in ("idx", "gz", "dots") else tmp_path / "x.npz"), 3, None, 2
    )
    if form != "three":
        assert whole(again.val) != whole(data.val)
    assert not torch.equal(again.test.x, data.test.x)


def test_colours_are_the_last_axis(tmp_path: Path) -> None:
    colours = {
        name: np.stack([x, x, 255 - x], -1) for name, x in (("train", TRAIN), ("test", TEST))
    }
    data = images(str(arrays(tmp_path, **colours)), 3, None)
    assert data.shape == (4, 6, 3)
    assert data.support == {"levels": 256, "logit": None}
    assert whole(data.test) == sorted(colours["test"].reshape(7, -1).tolist())


def test_the_digits_are_scikit_learns() -> None:
    data = digits(num_val=150, num_test=350, logit=0.05, seed=3)
    parts = data.train, data.val, data.test
    assert [len(points.x) for points in parts] == [1297, 150, 350]
    expected = load_digits().images
    assert whole(Points(torch.cat([points.x for points in parts]))) == sorted(
        expected.reshape(-1, 64).astype(int).tolist()
    )
    assert (data.levels, data.shape) == (17, (8, 8))
    with pytest.raises(DataError, match=r"data.num_test: 1850 of 1797 images leave none to train"):
        digits(150, 1700, None)


def test_without_scikit_learn_the_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DataError, match=r'scikit-learn: pip install -e "\.\[digits\]"'):
        digits(150, 350, None)


def damaged(path: Path) -> Path:
    folder(path, ".gz")
    file = path / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[:-30])
    return path


def spoilt(path: Path) -> Path:
    folder(path, ".gz")
    file = path / "train-images-idx3-ubyte.gz"
    content = bytearray(file.read_bytes())
    content[12:40] = bytes(28)
    file.write_bytes(content)
    return path


def with_train(path: Path, content: bytes) -> Path:
    folder(path)
    (path / "train-images-idx3-ubyte").write_bytes(content)
    return path


def without_test(path: Path) -> Path:
    folder(path)
    (path / "t10k-images-idx3-ubyte").unlink()
    return path


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


FAULTS: dict[str, tuple[Any, str]] = {
    "no folder": (lambda path: path / "nosuch", "no such folder; expected a folder with train-"),
    "a file": (
        lambda path: written(path / "x.png", b"x"),
        "x.png: not a folder; expected a folder",
    ),
    "no npz": (lambda path: path / "nosuch.npz", "nosuch.npz: no such file; looked in"),
    "empty": (lambda path: written(path / "x.npz", b""), "x.npz: an empty file"),
    "no zip": (
        lambda path: written(path / "x.npz", b"text"),
        "x.npz: damaged, or not of the format",
    ),
    "nothing there": (lambda path: path, "no file train-images-idx3-ubyte in it, with or without"),
    "no test": (without_test, "no file t10k-images-idx3-ubyte in it"),
    "cut": (damaged, "train-images-idx3-ubyte.gz: damaged, or not of the format"),
    "spoilt": (spoilt, "train-images-idx3-ubyte.gz: damaged, or not of the format"),
    "labels": (
        lambda path: with_train(path, idx(TRAIN[:, 0, 0])),
        "begins with 00 00 08 01; images",
    ),
    "floats": (lambda path: with_train(path, idx(TRAIN, 13)), "begins with 00 00 0d 03; images in"),
    "short": (lambda path: with_train(path, idx(TRAIN)[:-1]), "495 bytes, and by its header 20 im"),
    "header": (lambda path: with_train(path, idx(TRAIN)[:9]), "9 bytes, and by its header"),
    "sizes": (
        lambda path: with_train(path, idx(TRAIN[:, 1:])),
        r"train has \(3, 6\), test has \(4,",
    ),
    "none": (lambda path: with_train(path, idx(TRAIN[:0])), r"the shape \(0, 4, 6\); expected"),
    "no array": (lambda path: np.savez(path / "x.npz", train=TRAIN), ""),
    "not uint8": (
        lambda path: arrays(path, train=TRAIN / 1.0),
        "train holds float64; expected uint8",
    ),
    "vectors": (
        lambda path: arrays(path, test=TEST[0]),
        r"test has the shape \(4, 6\); expected \(N",
    ),
    "objects": (lambda path: arrays(path, test=np.array([{}])), "x.npz: damaged, or not of the"),
    "too few": (
        lambda path: arrays(path, train=TRAIN[:3]),
        "data.num_val: 3 of 3 images leave none",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_files_is_one_line(fault: str, tmp_path: Path) -> None:
    make, message = FAULTS[fault]
    path = make(tmp_path) or tmp_path / "x.npz"
    with pytest.raises(DataError, match=message or "no array test; expected train, test") as error:
        images(str(path), num_val=3, logit=None)
    assert str(error.value).startswith("data.")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("num_sets", [1, 2])
def test_noise_is_drawn_anew_each_epoch_within_each_number(num_sets: int, tmp_path: Path) -> None:
    path = str(arrays(tmp_path))
    sets = [images(path, 3, 0.05, seed) for seed in range(num_sets)]
    data = DataModule(sets, 5, range(num_sets))
    index, epochs = torch.arange(17), []
    for epoch in (0, 0, 1):
        data._draw_noise(epoch)
        epochs.append(data.take(data.train, index).x)
    assert torch.equal(epochs[0], epochs[1])
    assert (epochs[0] != epochs[2]).all()
    for x in epochs:
        assert torch.equal(x.floor(), data.train.x)
        assert stats.kstest((x - x.floor()).flatten().numpy(), "uniform").pvalue > 1e-6
    for i, one in enumerate(sets):
        first = epochs[0] if num_sets == 1 else epochs[0][i]
        assert torch.equal(data.dequantized(i).train.x, first)
        assert torch.equal(one.train.x, one.train.x.floor())


class Ramp(Transform):
    """In one dimension, the density 2 (x - k) / 3 on each unit interval [k, k + 1) of [0, 3)."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        share = (x.floor() + (x - x.floor()) ** 2) / 3
        normal = torch.distributions.Normal(0, 1)
        u = normal.icdf(share.clamp(1e-9, 1 - 1e-9))
        return u, ((2 * (x - x.floor())) / 3).log().sum(-1) - normal.log_prob(u).sum(-1)

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        raise NotImplementedError  # bits are of densities alone


def test_bits_of_a_density_whose_bits_are_known() -> None:
    """P(x) = 1/3 for each of three levels; the bound by one draw is higher by E[-log2 2u].

    Both within 5 standard errors, the second also below the bias of a mean of 64 draws, of which
    the variance of 2u, 1/3, makes 1 / (2 * 64 * 3) nats.
    """
    x = torch.randint(3, (2000, 1, 1), generator=torch.Generator().manual_seed(0)).double()
    x += torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
    data = Data(*[Points(x)] * 3, (), support={"levels": 3, "logit": None}, noise=torch.ones(1, 1))
    figures = Likelihood().test(Flow([Ramp()], (1, 1)).double(), data, seed=0)
    bound = math.log2(3) + (1 - math.log(2)) / math.log(2)
    error = figures["test/bits_per_dim_stderr"]
    assert figures["test/bits_per_dim"] == pytest.approx(bound, abs=5 * error)
    assert figures["test/bits_per_dim"] == pytest.approx(figures["test/nll"] / math.log(2))
    assert error == pytest.approx(figures["test/nll_stderr"] / math.log(2))
    exact, bias = math.log2(3), 1 / (2 * 64 * 3) / math.log(2)
    error = figures["test/bits_per_dim_iw_stderr"]
    assert figures["test/bits_per_dim_iw"] == pytest.approx(exact + bias, abs=5 * error + 1e-4)
    assert error < 0.01
    assert gaussian_nll(data) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data=bimodal", "flow=glow"], r"flow=glow: this flow is of images, .* got \(2,\)"),
        (["data=digits", "flow=glow", "flow.num_levels=7"], "64 x 64 can be halved 6 times"),
        (["data=digits", "flow=glow", "flow.bound=-1.0"], "flow: bound must be positive"),
    ],
)
def test_a_flow_that_cannot_be_is_refused_before(
    words: list[str], message: str, compose_config: Compose
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_parts(compose_config(*words))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["flow=coupling"], r"flow=coupling: this flow is of vectors, .* got \(8, 8\); choose an"),
        (["flow=glow", "flow.num_levels=4"], "flow=glow: num_levels=4: .* halved 3 times"),
        (["flow=glow", "data.logit=0.7"], "data.logit=0.7: expected a number between 0 and 0.5"),
    ],
)
def test_a_flow_of_other_points_than_the_datas_is_one_line(
    words: list[str], message: str, compose_config: Compose, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        train(compose_config("data=digits", f"run_dir={tmp_path / 'run'}", *words))


@pytest.mark.parametrize("replicates", [1, 2])
def test_a_run_of_images(replicates: int, compose_config: Compose, tmp_path: Path) -> None:
    """Two epochs are better than the start, and the summary's figures are there."""
    words = ["data=digits", "flow=glow", "num_flows=1", "num_hidden=4", "trainer.max_epochs=2"]
    words += [f"replicates={replicates}", f"run_dir={tmp_path}", "data.num_test=50"]
    metrics = train(compose_config(*words))
    bits = metrics["test/bits_per_dim"]
    assert bits == pytest.approx(metrics["test/nll"] / 64 / math.log(2))
    assert 0 < metrics["test/bits_per_dim_iw"] < bits < 4.087 + 0.5  # of a uniform one, and a bit
    for name in ("", "_iw"):
        assert 0 < metrics[f"test/bits_per_dim{name}_stderr"] < 0.2
    pictures = {path.stem.partition("-")[0] for path in (tmp_path / "plots").iterdir()}
    assert pictures == {"images", "nearest", "levels", "interpolations", "loss", "latents"}
    assert metrics["params"] == sum(
        p.numel() for p in build_flow("glow", (8, 8), num_flows=1, num_hidden=4).parameters()
    )

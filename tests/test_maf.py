"""The tables of the MAF paper, on made-up files of the same form, against their scripts' steps."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conftest import NO_PICTURES, Compose

from flowlab import data as datasets
from flowlab.data import Data, Points, table
from flowlab.data import published as recognised
from flowlab.data.published import PUBLISHED, Published, published
from flowlab.errors import DataError
from flowlab.experiment import train
from flowlab.rules import MAF

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
N = 230


def normal(*size: int) -> Array:
    return np.random.default_rng(1).standard_normal(size)


def save(path: Path, x: Array) -> Path:
    path.parent.mkdir(exist_ok=True)
    np.save(path, x)
    return path.parent.parent


def splits(data: Data) -> list[Array]:
    return [points.x.numpy() for points in (data.train, data.val, data.test)]


def check(data: Data, *expected: Array) -> None:
    """The points to the last bits of float32."""
    for mine, theirs in zip(splits(data), expected, strict=True):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, theirs.astype(np.float32), rtol=1e-6, atol=1e-6)


def cut(x: Array) -> tuple[Array, Array, Array]:
    """A tenth of all and a tenth of the rest, counted one by one from the end."""
    rows = list(x)
    test = [rows.pop() for _ in range(len(x) // 10)][::-1]
    val = [rows.pop() for _ in range(len(rows) // 10)][::-1]
    return np.array(rows), np.array(val), np.array(test)


def scaled(x: Array, known: Array, ddof: int) -> Array:
    deviation = ((known - known.mean(0)) ** 2).sum(0) / (len(known) - ddof)
    return (x - known.mean(0)) / deviation**0.5


def test_power(tmp_path: Path) -> None:
    x = normal(N, 8).round(2) * 10
    path = str(save(tmp_path / "power" / "data.npy", x))
    data = datasets.maf_power(path)
    rng = np.random.RandomState(42)
    order = np.arange(N)
    rng.shuffle(order)
    shuffled = x[order]
    columns = {name: shuffled[:, [j]] for j, name in enumerate(["gap", "grp", "v", "gi", *"abct"])}
    columns["v"] = columns["v"] + rng.uniform(0, 0.01, (N, 1))
    columns["gap"] = columns["gap"] + rng.uniform(0, 0.001, (N, 1))
    meters = np.hstack([columns[name] for name in "abc"]) + rng.uniform(0, 1, (N, 3))
    parts = cut(np.hstack([columns["gap"], columns["v"], meters, columns["t"]]))
    known = np.concatenate(parts[:2])
    check(data, *(scaled(part, known, 0) for part in parts))
    assert [len(part) for part in parts] == [187, 20, 23]
    assert (
        data.facts["data/sha256"]
        == hashlib.sha256((tmp_path / "power" / "data.npy").read_bytes()).hexdigest()
    )
    for mine, other in zip(splits(data), splits(datasets.maf_power(path, seed=1)), strict=True):
        assert np.array_equal(mine, other)  # no seed moves them


@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_gas(end: str, tmp_path: Path) -> None:
    x = normal(N, 16)
    x[:, 1] = x[:, 0] + 0.05 * normal(N, 17)[:, 16]  # which leaves 0 out, and then 1 is alone
    x[:, 9] = x[:, 4] + 0.05 * normal(N, 18)[:, 16]
    x[:, 12] = x[:, 9] + 0.1 * normal(N, 19)[:, 16]  # 4 and 9 correlate with it, each by itself
    x[:, 3] = -x[:, 15]
    frame = pl.DataFrame(
        {name: normal(N) for name in ("Time", "Meth", "Eth")}
        | {f"s{j}": x[:, j] for j in range(16)}
    )
    (tmp_path / "gas").mkdir()
    file = tmp_path / "gas" / f"ethylene_CO.{end}"
    frame.write_csv(file) if end == "csv" else frame.write_parquet(file)
    kept = x
    while (close := (np.corrcoef(kept, rowvar=False) > 0.98).sum(1) > 1).any():
        kept = np.delete(kept, close.argmax(), axis=1)
    assert kept.shape[1] == 13
    check(datasets.maf_gas(str(tmp_path)), *cut(scaled(kept, kept, 1)))


def test_hepmass(tmp_path: Path) -> None:
    """Rows of another label go, and so do columns whose least value is there six times."""
    train, test = (RNG.standard_normal((n, 28)) for n in (N, 90))
    for x in (train, test):
        x[:, 0] = RNG.integers(0, 2, len(x))
    signal = np.flatnonzero(train[:, 0] == 1)
    train[signal[:6], 5] = -9
    train[signal[:5], 6] = -9
    train[signal[:50], 7] = 0.25  # often, but not the least
    names = ["# label", *(f"f{j}" for j in range(27))]
    (tmp_path / "hepmass").mkdir()
    for split, x, more in (("train", train, []), ("test", test, ["mass"])):
        file = tmp_path / "hepmass" / f"1000_{split}.csv"
        rows = [",".join(map(repr, row)) for row in x.tolist()]
        file.write_text("\n".join([",".join(names + more), *rows]) + "\n")
    mine, other = (x[x[:, 0] == 1][:, 1:] for x in (train, test))
    counts = [sorted(Counter(column).items())[0][1] for column in mine.T]
    kept = [j for j, count in enumerate(counts) if count <= 5]
    assert [j for j in range(27) if j not in kept] == [4]
    mine, other = mine[:, kept], other[:, kept]
    train, val = np.split(scaled(mine, mine, 1), [len(mine) - len(mine) // 10])
    check(datasets.maf_hepmass(str(tmp_path)), train, val, scaled(other, mine, 1))


def test_miniboone(tmp_path: Path) -> None:
    x = 3 + 2 * normal(N, 43)
    parts = cut(x)
    known = np.concatenate(parts[:2])
    data = datasets.maf_miniboone(str(save(tmp_path / "miniboone" / "data.npy", x)))
    check(data, *(scaled(part, known, 0) for part in parts))
    assert (data.shape, data.support, data.truth) == ((43,), (None,) * 43, None)


def test_bsds300(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    parts = {
        name: 0.1 * RNG.standard_normal((n, 63)) for name, n in zip(HDF5, (50, 9, 7), strict=True)
    }
    (tmp_path / "BSDS300").mkdir()
    with h5py.File(tmp_path / "BSDS300" / "BSDS300.hdf5", "w") as file:
        for name, part in parts.items():
            file[name] = part
    check(datasets.maf_bsds300(str(tmp_path)), *parts.values())
    with h5py.File(tmp_path / "BSDS300" / "BSDS300.hdf5", "a") as file:
        del file["validation"]
    assert "no array validation in it" in complaint(datasets.maf_bsds300, tmp_path)
    (tmp_path / "BSDS300" / "BSDS300.hdf5").write_bytes(b"nothing")
    assert "damaged" in complaint(datasets.maf_bsds300, tmp_path)


HDF5 = ("train", "validation", "test")


def complaint(load: Callable[[str], Data], path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(str(path))
    line = str(caught.value)
    assert line.startswith("data.path")
    assert "\n" not in line
    return line


FILES = ("power/data.npy", "gas/ethylene_CO.csv", "hepmass/1000_train.csv", "miniboone/data.npy")


@pytest.mark.parametrize(("name", "file"), [*zip(MAF, FILES, strict=False)])
def test_what_is_missing_and_where_it_is_to_be_had(name: str, file: str, tmp_path: Path) -> None:
    load = getattr(datasets, f"maf_{name}")
    line = complaint(load, tmp_path / "no")
    assert "no such folder; " in line
    assert "10.5281/zenodo.1161203" in line
    assert f"no file {file} in it" in complaint(load, tmp_path)


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (normal(N, 9), f"an array ({N}, 9) of float64; expected (rows, 8) of numbers"),
        (normal(8), "an array (8,) of float64"),
        (normal(N, 8).astype(str), "expected (rows, 8) of numbers"),
        (normal(5, 8), "data.path: 5 rows; expected 20 at least"),
        (np.full((N, 8), np.nan), "cells that are not finite"),
        (np.ones((N, 8)), "or a constant column"),
        (np.array([[object()] * 8] * 20), "damaged, or not of the format"),  # a pickle
    ],
)
def test_arrays_that_are_not_of_the_form(x: Array, words: str, tmp_path: Path) -> None:
    path = save(tmp_path / "power" / "data.npy", x)
    assert words in complaint(datasets.maf_power, path)


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "gas").mkdir()
    (tmp_path / "gas" / "ethylene_CO.pickle").write_bytes(b"cos\nabort\n(tR.")
    line = complaint(datasets.maf_gas, tmp_path)
    assert "a pickle can run code and is not read" in line
    assert "to_csv('gas/ethylene_CO.csv', index=False)" in line
    (tmp_path / "gas" / "ethylene_CO.csv").write_text("a,b\n1,2\n")
    assert "no column Eth" in complaint(datasets.maf_gas, tmp_path)


def test_what_was_published_is_recognised() -> None:
    points = [Points(torch.randn(n, 43)) for n in (29_556, 3_284, 3_648)]
    assert published(points) == {"data/published": "MINIBOONE", "data/published_by": "shape"}
    raw = [Points(100 * p.x) for p in points]
    assert published(raw) == {}
    assert published([Points(p.x, p.x[:, :1]) for p in points]) == {}
    assert published([points[0], points[1], Points(points[2].x[1:])]) == {}
    # rows as the scripts leave them: a tenth to test on, of the others a tenth to choose by
    totals = {"POWER": 2_049_280, "GAS": 1_052_065, "MINIBOONE": 36_488}
    for name, total in totals.items():
        train, val, test = PUBLISHED[name].rows
        assert (test, val) == (total // 10, (total - test) // 10)
        assert train + val + test == total


def test_a_run_says_what_it_was_trained_on(
    tmp_path: Path,
    compose_config: Compose,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = save(tmp_path / "miniboone" / "data.npy", normal(N, 43))
    digest = hashlib.sha256(splits(datasets.maf_miniboone(str(path)))[2].tobytes()).hexdigest()
    caplog.set_level(logging.WARNING)
    words = (*NO_PICTURES, "trainer.max_epochs=1", "replicates=2", f"run_dir={tmp_path}/a")
    cfg = compose_config("data=maf_miniboone", f"data.path={path}", *words)
    metrics = train(cfg)
    assert "data/published" not in metrics
    assert "not MINIBOONE as it was published: [187, 20, 23] rows of 43 columns" in caplog.text
    caplog.clear()
    small = {"SMALL": PUBLISHED["POWER"], "MINIBOONE": Published((187, 20, 23), 43, test=digest)}
    monkeypatch.setattr(recognised, "PUBLISHED", small)
    metrics = train(
        compose_config(
            "data=maf_miniboone", f"data.path={path}", *words[:-1], f"run_dir={tmp_path}/b"
        )
    )
    assert (metrics["data/published"], metrics["data/published_by"]) == ("MINIBOONE", "digest")
    assert metrics["data/rows"] == N
    assert len(metrics["replicates"]["test/nll"]) == 2
    assert not caplog.text
    files = {}
    for split, x in zip(
        ("", "val_", "test_"), splits(datasets.maf_miniboone(str(path))), strict=True
    ):
        np.save(tmp_path / f"{split}x.npy", x)
        files[f"{split}path"] = str(tmp_path / f"{split}x.npy")
    assert table(**files).facts["data/published_by"] == "digest"  # the splits as files of their own

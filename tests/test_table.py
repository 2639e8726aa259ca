"""Points from files with columns: every format, the split, supports and noise."""

import gzip
import hashlib
import inspect
import io
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conftest import NO_PICTURES, ROOT, Compose
from omegaconf import OmegaConf
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from torch import Tensor

from flowlab import load
from flowlab.data import Data, table
from flowlab.data.reading import read
from flowlab.experiment import train
from flowlab.rng import generator

N = 200
NUMBERS = list(range(5000, 5040))  # of the rows of another file
TABLE = pl.DataFrame(
    {
        "a": np.random.default_rng(0).standard_normal(N),
        "b": np.random.default_rng(1).standard_normal(N).astype(np.float32),
        "n": np.arange(N) * 7 % N,
    }
)


def save(path: Path, frame: pl.DataFrame = TABLE, header: bool = True) -> Path:
    ends = path.name.partition(".")[2]
    if ends.startswith(("csv", "tsv")):
        text = frame.write_csv(separator="," if "csv" in ends else "\t", include_header=header)
        path.write_bytes(gzip.compress(text.encode()) if ends.endswith("gz") else text.encode())
    elif ends == "parquet":
        frame.write_parquet(path)
    elif ends in ("arrow", "feather"):
        frame.write_ipc(path)
    elif ends == "npy":
        np.save(path, frame.to_numpy())
    else:
        np.savez(path, **{name: frame[name].to_numpy() for name in frame.columns})
    return path


def rows(data: Data) -> Tensor:
    """All points, context too, ordered by the last column."""
    parts = (data.train, data.val, data.test)
    x = torch.cat([torch.cat([t for t in points if t is not None], -1) for points in parts])
    return x[x[:, -1].argsort()]


EXPECTED = torch.from_numpy(TABLE.sort("n").to_numpy()).float()


@pytest.mark.parametrize(
    "ends", ["csv", "tsv", "csv.gz", "tsv.gz", "parquet", "arrow", "feather", "npy", "npz", "CSV"]
)
def test_every_format_gives_the_same_points(ends: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"my.{ends.lower()}").rename(tmp_path / f"my[1]*.{ends}")
    data = table(str(path))
    assert data.names == (("x1", "x2", "x3") if ends == "npy" else ("a", "b", "n"))
    assert data.train.x.dtype == torch.float32
    assert torch.equal(rows(data), EXPECTED)
    assert data.facts == {
        "data/rows": N,
        "data/dropped": 0,
        "data/sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    assert (data.support, data.noise, data.truth) == ((None,) * 3, None, None)
    assert data.train.x.is_contiguous()


@pytest.mark.parametrize("ends", ["csv", "parquet", "npz"])
def test_columns_are_chosen(ends: str, tmp_path: Path) -> None:
    path = str(save(tmp_path / f"my.{ends}"))
    assert table(path, columns=["n", "a"]).names == ("n", "a")
    assert table(path, drop=["b"]).names == ("a", "n")
    data = table(path, context=["b", "n"])
    assert (data.names, data.context_names, data.num_context) == (("a",), ("b", "n"), 2)
    assert torch.equal(rows(data), EXPECTED)
    data = table(path, columns=["b"], context=["n"], drop=[])
    assert torch.equal(rows(data), EXPECTED[:, 1:])
    assert data.shape == (1,)


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    cells = ["1", " 2", "3 ", "+4", "5e0", "6.", ".7e1", '"8"', '" 9"', "1E1"]
    lines = [f'{cell},x,{i * i},"a, b"' for i, cell in enumerate(cells)]
    path.write_bytes("\r\n".join(["\ufeffa, city,b,note", *lines, "", ""]).encode())
    data = table(str(path), drop=["city", "note"], split=[0.6, 0.2, 0.2])
    assert rows(data)[:, 0].tolist() == [*range(1, 11)]


def test_arrays_of_several_columns(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((50, 2))
    np.savez(tmp_path / "my.npz", y=x[:, 0] ** 2, z=x)
    assert table(str(tmp_path / "my.npz")).names == ("y", "z_1", "z_2")
    np.save(tmp_path / "one.npy", x[:, 0])
    assert table(str(tmp_path / "one.npy")).shape == (1,)
    named = np.rec.fromarrays([x[:, 0], x[:, 1]], names="u,v")
    np.save(tmp_path / "named.npy", named)
    assert table(str(tmp_path / "named.npy")).names == ("u", "v")


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ("a,b", "1,2", ("a", "b")),
        ("1,2", "3,4", ("x1", "x2")),
        ("a,2019", "1,2", ("a", "2019")),  # text above a number
        ("5.1,setosa", "4.9,setosa", ("x1", "x2")),  # text above text, a number above a number
        (",b", "0,1", ("x1", "b")),
        ("1,NA", "3,4", ("x1", "x2")),
        ("nan,inf", "3,4", ("x1", "x2")),
        ("a,b", "x,y", ("a", "b")),
    ],
)
def test_a_header_is_told_from_numbers(
    first: str, second: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "my.csv").write_text(f"{first}\n{second}\n")
    found = read(tmp_path / "my.csv")
    assert found.names == names
    assert found.frame.collect().height == (1 if names != ("x1", "x2") else 2)
    assert read(tmp_path / "my.csv", header=False).names == ("x1", "x2")
    assert read(tmp_path / "my.csv", header=True).names[1] == first.split(",")[1]


def numbered(tmp_path: Path, n: int = 1000) -> str:
    """A file in which a column tells the row."""
    x = np.random.default_rng(3).standard_normal(n)
    return str(save(tmp_path / "my.parquet", pl.DataFrame({"n": np.arange(n), "x": x})))


def numbers(data: Data) -> list[list[int]]:
    return [points.x[:, 0].int().tolist() for points in (data.train, data.val, data.test)]


def test_the_split_is_of_the_seed_and_complete(tmp_path: Path) -> None:
    path = numbered(tmp_path)
    parts = numbers(table(path, seed=3))
    assert list(map(len, parts)) == [800, 100, 100]
    assert sorted(chain(*parts)) == list(range(1000))
    assert all(part == sorted(part) for part in parts)
    assert parts == numbers(table(path, seed=3))
    assert parts != numbers(table(path, seed=4))
    order = torch.randperm(1000, generator=generator("data/split", 3))
    assert parts[0] == sorted(order[:800].tolist())
    shares = numbers(table(path, split=[0.5, 0.3, 0.2]))
    assert list(map(len, shares)) == [500, 300, 200]


def test_a_number_of_rows_is_taken_at_random(tmp_path: Path) -> None:
    path = numbered(tmp_path)
    data, other = table(path, rows=100), table(path, rows=100, seed=1)
    parts = numbers(data)
    assert list(map(len, parts)) == [80, 10, 10]
    assert data.facts["data/rows"] == 100
    chosen = set(chain(*parts))
    assert len(chosen) == 100
    assert 400 < np.mean(list(chosen)) < 600
    assert chosen != set(chain(*numbers(other)))


def test_files_of_their_own_for_validation_and_test(tmp_path: Path) -> None:
    path = numbered(tmp_path)
    x = np.random.default_rng(5).standard_normal(40)
    frame = pl.DataFrame({"x": x, "n": np.arange(5000, 5040), "other": ["t"] * 40})
    own = str(save(tmp_path / "own.csv", frame))
    train, val, test = numbers(table(path, test_path=own))
    assert (len(train), len(val)) == (889, 111)  # in the proportion of 8 to 1
    assert test == NUMBERS
    train, val, test = numbers(table(path, val_path=own, rows=90))
    assert (len(train), val, len(test)) == (80, NUMBERS, 10)
    data = table(path, val_path=own, test_path=own, rows=500)
    train, val, test = numbers(data)
    assert (len(train), val, test) == (500, NUMBERS, NUMBERS)
    assert data.facts["data/rows"] == 580
    content = Path(path).read_bytes() + 2 * Path(own).read_bytes()
    assert data.facts["data/sha256"] == hashlib.sha256(content).hexdigest()


def test_noise_is_drawn_once_for_validation_and_test(tmp_path: Path) -> None:
    x = np.random.default_rng(5).standard_normal(2000)
    frame = pl.DataFrame({"x": x, "rooms": np.arange(2000) % 10, "half": np.arange(2000) % 7 / 2})
    path = str(save(tmp_path / "my.parquet", frame))
    noise = {"rooms": 1, "half": 0.5}
    plain, noisy = table(path, drop=[]), table(path, noise=noise)
    assert noisy.noise is not None
    assert noisy.noise.tolist() == [0, 1, 0.5]
    assert noisy.noise.dtype == noisy.train.x.dtype
    assert torch.equal(noisy.train.x, plain.train.x)
    for split in ("val", "test"):
        before, after = getattr(plain, split).x, getattr(noisy, split).x
        assert torch.equal(before[:, 0], after[:, 0])
        assert torch.equal(before[:, 1], after[:, 1].floor())
        assert torch.equal(before[:, 2], (after[:, 2] * 2).floor() / 2)
        u = (after - before)[:, 1:] / torch.tensor([1, 0.5])
        assert (u.std(0) - 12**-0.5).abs().max() < 0.03
        assert (u.mean(0) - 0.5).abs().max() < 0.08
        assert torch.equal(after, getattr(table(path, noise=noise), split).x)
    val, test = noisy.val.x - plain.val.x, noisy.test.x - plain.test.x
    assert (val - test)[:, 1].abs().max() > 0.5


def test_supports_go_with_their_coordinates(tmp_path: Path) -> None:
    frame = TABLE.with_columns(pl.col("a").exp(), c=pl.col("b").tanh())
    path = str(save(tmp_path / "my.csv", frame))
    support: dict[str, Any] = {"c": [-1, 1], "a": "positive"}
    assert table(path, support=support).support == ("positive", None, None, (-1.0, 1.0))
    chosen = table(path, columns=["c", "a"], support=support)
    assert chosen.support == ((-1.0, 1.0), "positive")
    assert table(path, support=None, noise={"n": 1}).support == (None,) * 4


def test_names_that_are_numbers(tmp_path: Path) -> None:
    frame = TABLE.rename({"a": "1", "b": "2"})
    path = str(save(tmp_path / "my.csv", frame))
    data = table(path, header=True, columns=[2, 1], noise={1: 0.5})
    assert data.names == ("2", "1")
    assert data.noise is not None


@pytest.mark.parametrize(
    ("load_set", "words"),
    [
        (load_wine, {"context": ["ash"]}),
        (load_breast_cancer, {"support": {"mean area": "positive"}}),
        (load_diabetes, {"drop": ["sex"]}),
    ],
)
def test_a_run_over_a_real_table(
    load_set: Callable[[], Any], words: Any, compose_config: Compose, tmp_path: Path
) -> None:
    """The flow that it leaves gives the file's own rows the density that it tells."""
    found, path, run = load_set(), tmp_path / "my.csv", tmp_path / "run"
    pl.DataFrame(found.data, schema=list(map(str, found.feature_names))).write_csv(path)
    cfg = compose_config(
        *("data=table", f"data.path={path}", "trainer.max_epochs=2", "data.seed=3"),
        *(*NO_PICTURES, f"run_dir={run}"),
    )
    cfg.data.update(words)
    metrics = train(cfg)
    assert metrics["data/rows"] == len(found.data)
    assert "test/kl" not in metrics
    with torch.no_grad():
        log_prob = load(run).log_prob(*table(str(path), **words, seed=3).test)
    assert metrics["test/nll"] == pytest.approx(-float(log_prob.double().mean()), rel=1e-5)


def test_a_table_has_each_default_once() -> None:
    preset = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "data" / "table.yaml").data)
    assert isinstance(preset, dict)
    parameters = inspect.signature(table).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    del defaults["seed"]  # the run's, if none is said
    for name, default in defaults.items():
        assert preset[name] == (list(default) if isinstance(default, tuple) else default)


def test_a_stream_is_not_kept(tmp_path: Path) -> None:
    """Of a file in columns, only those that are needed are read."""
    buffer = io.BytesIO()
    TABLE.write_parquet(buffer)
    content = buffer.getvalue()
    whole = pl.read_parquet(io.BytesIO(content), columns=["a"]).estimated_size()
    assert read(save(tmp_path / "my.parquet")).numbers(["a"]).collect().estimated_size() == whole

"""python -m flowlab sample and score: what they write, against the flow itself and the truth."""

import csv
import gzip
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from conftest import Run
from scipy import stats
from torch import Tensor

from flowlab import load
from flowlab.commands import sample, score
from flowlab.data import Data, Points, table
from flowlab.export import load_with_schema, save
from flowlab.flows import FLOWS, Transform, build_flow
from flowlab.rng import generator
from flowlab.schema import Schema
from flowlab.training.description import describe
from flowlab.writing import writing

PAY = 'pay, "€"\n(gross)'  # as spreadsheets have it
NAMES = ("a b", PAY, "rooms")
N = 40_000  # rows, more than two pieces


def rows(n: int, seed: int) -> pl.DataFrame:
    dice = np.random.default_rng(seed)
    a = dice.standard_normal(n)
    return pl.DataFrame(
        {
            "id": [f"{i:05d}" for i in range(n)],
            "rooms": 1 + 2 * dice.poisson(3, n),
            PAY: np.exp(a + dice.standard_normal(n)),
            "note": [(" x", "1e3", 'say "no", then', "")[i % 4] or None for i in range(n)],
            "a b": a,
        }
    )


TRAIN, NEW = rows(3000, 0), rows(N, 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with a flow of three columns: of all numbers, positive ones, odd ones."""
    path = tmp_path_factory.mktemp("run")
    x = torch.from_numpy(TRAIN.select(NAMES).to_numpy()).float()
    noise = torch.tensor([0.0, 0.0, 2.0])
    data = Data(*[Points(x)] * 3, NAMES, noise=noise, kinds=("float", "float", "integer"))
    torch.manual_seed(0)
    flow = build_flow("coupling", 3, support=[None, "positive", None])
    flow.fit(x + noise / 2)
    save(flow, path / "flow.safetensors", describe(flow, data))
    return path


@pytest.fixture
def out(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[[], tuple[str, str]]:
    """out(): what was printed, and said of it, since it was asked before."""
    return lambda: tuple(text.decode() for text in capfdbinary.readouterr())  # type: ignore[return-value]


def log_prob(run: Path, frame: pl.DataFrame) -> np.ndarray:
    """By the flow itself, with the odd numbers in the middle of their steps of two."""
    x = torch.from_numpy(frame.select(NAMES).to_numpy()) + torch.tensor([0.0, 0.0, 1.0])
    with torch.no_grad():
        return load(run).log_prob(x).numpy()


def write(frame: pl.DataFrame, path: Path) -> Path:
    if path.suffix in (".csv", ".tsv"):
        frame.write_csv(path, separator="," if path.suffix == ".csv" else "\t")
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(frame.write_csv().encode()))
    elif path.suffix == ".parquet":
        frame.write_parquet(path, row_group_size=10_000)
    elif path.suffix == ".arrow":
        frame.write_ipc(path)
    elif path.suffix == ".npz":
        np.savez(path, **{name: frame[name].to_numpy() for name in frame.columns})
    else:
        frame = frame.select(pl.exclude(pl.String))
        with warnings.catch_warnings(action="ignore"):  # of a name beyond Latin-1
            np.save(path, frame.to_numpy(structured=True))
    return path


def read(path: Path) -> pl.DataFrame:
    """What a file holds, by other readers than flowlab's; of text the cells as strings."""
    if path.suffix in (".csv", ".tsv"):
        separator = "," if path.suffix == ".csv" else "\t"
        with path.open(newline="") as file:
            names = next(
                csv.reader(file, delimiter=separator)
            )  # polars leaves quotes doubled there
        return pl.read_csv(path, separator=separator, infer_schema=False, new_columns=names)
    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    array = np.load(path)
    names = array.dtype.names or [f"x{i + 1}" for i in range(array.shape[1])]
    columns = [array[name] if array.dtype.names else array.T[i] for i, name in enumerate(names)]
    return pl.DataFrame(dict(zip(names, columns, strict=True)))


@pytest.mark.parametrize("end", ["csv", "tsv", "csv.gz", "parquet", "arrow", "npy"])
def test_score_is_the_log_prob_of_all_rows_in_order(end: str, run: Path, tmp_path: Path) -> None:
    file = write(NEW, tmp_path / f"new.{end}")
    score.main([str(run), str(file), "-o", str(tmp_path / "scores.parquet")])
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    expected = NEW if end != "npy" else NEW.select(pl.exclude(pl.String))
    assert scores.columns == [*expected.columns, "log_prob", "rank"]
    assert scores.select(expected.columns).equals(expected)  # text as it was, numbers as numbers
    np.testing.assert_allclose(scores["log_prob"], log_prob(run, NEW), rtol=1e-5, atol=1e-5)


def test_rank_is_the_share_of_training_rows_that_are_less_likely(run: Path, tmp_path: Path) -> None:
    file, output = write(NEW, tmp_path / "new.csv"), tmp_path / "scores.csv"
    score.main([str(run), str(file), "-o", str(output)])
    scores = read(output).select(pl.col("log_prob", "rank").cast(pl.Float64))
    known = np.sort(log_prob(run, TRAIN))
    share = known.searchsorted(scores["log_prob"]) / len(known)
    np.testing.assert_allclose(scores["rank"], share, atol=1.4e-3)  # a quantile and a row
    assert scores["rank"].min() == 0  # type: ignore[operator]


def test_rank_has_ends_and_ties() -> None:
    quantiles = [*np.linspace(-2, -1, 500), *[0.0] * 401, *np.linspace(1, 2, 100)]
    schema = replace(Schema.plain(1, 0), quantiles=tuple(quantiles))
    values = np.array([-np.inf, -3, -2, -0.5, 0, 1e-9, 2, 3, np.inf])
    expected = [0, 0, 0, 0.4995, 0.5, 0.9, 1, 1, 1]
    np.testing.assert_allclose(schema.rank(values), expected, atol=1e-6)
    flat = replace(schema, quantiles=(0.0,) * 1001)
    assert flat.rank(np.array([-1.0, 0.0, 1.0])).tolist() == [0, 0, 1]


def test_points_outside_a_support_or_beyond_all_numbers_are_the_least_likely(
    run: Path, tmp_path: Path
) -> None:
    new = pl.DataFrame({"a b": [0.0, 0.0, 1e300], PAY: [-1.0, 0.0, 1.0], "rooms": [3, 3, 3]})
    score.main([str(run), str(write(new, tmp_path / "n.csv")), "-o", str(tmp_path / "s.parquet")])
    scores = pl.read_parquet(tmp_path / "s.parquet")
    assert scores["log_prob"].to_list() == [-np.inf] * 3
    assert scores["rank"].to_list() == [0.0] * 3


@pytest.mark.parametrize("end", ["csv", "tsv", "parquet", "npy"])
def test_samples_make_the_round_through_every_format(end: str, run: Path, tmp_path: Path) -> None:
    file, scores = tmp_path / f"samples.{end}", tmp_path / f"scores.{end}"
    sample.main([str(run), "-n", "20000", "-o", str(file), "--seed", "3"])
    samples = read(file)
    drawn = pl.concat(sample.samples(sample.opened(str(run)), 20_000, seed=3))
    assert samples.columns == list(NAMES)
    types = [pl.Float64, pl.Float64, pl.Int64]
    assert end in ("csv", "tsv") or samples.dtypes == types
    assert samples.cast(dict(zip(NAMES, types, strict=True))).equals(drawn)
    assert (drawn["rooms"] % 2 == 1).all()  # as in all rows that were learned
    assert (drawn[PAY] > 0).all()
    score.main([str(run), str(file), "-o", str(scores)])
    assert read(scores).select(NAMES).equals(samples)
    found = read(scores)["log_prob"].cast(pl.Float64)
    np.testing.assert_allclose(found, log_prob(run, drawn), rtol=1e-5, atol=1e-5)
    assert {path.name for path in tmp_path.iterdir()} == {file.name, scores.name}


def test_pieces_are_the_whole(run: Path) -> None:
    """The base is drawn piece by piece, and rows do not depend on how many follow."""
    flow, schema = load_with_schema(run)
    g = generator("sample", 5)
    u = torch.cat([flow.base.sample(16_384, g) for _ in range(3)])[:N]
    with torch.no_grad():
        x = schema.with_whole(flow.inverse(u)[0].numpy(), flow.config["support"])
    used = sample.opened(str(run))
    for n in (N, 100):
        drawn = pl.concat(sample.samples(used, n, seed=5)).to_numpy()
        np.testing.assert_allclose(drawn, x[:n], rtol=1e-5, atol=1e-5)


def test_without_o_it_is_csv_on_standard_output(
    run: Path, tmp_path: Path, out: Callable[[], tuple[str, str]]
) -> None:
    sample.main([str(run), "-n", "50"])
    printed, said = out()
    assert said == ""
    (tmp_path / "printed.csv").write_text(printed)
    sample.main([str(run), "-n", "50", "-o", str(tmp_path / "written.csv")])
    assert printed == (tmp_path / "written.csv").read_text()
    score.main([str(run), str(tmp_path / "printed.csv")])
    scores, said = out()
    assert said == ""
    assert len(pl.read_csv(scores.encode())) == 50


class Shift(Transform):
    """u = (x - (c_1, 2 c_2)) / (1, 3): a normal for each context, in closed form."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor([1.0, 3.0]))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert context is not None
        u = (x - context * torch.tensor([1.0, 2.0])) / self.scale
        return u, -self.scale.log().sum().expand(len(x))

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        assert context is not None
        x = u * self.scale + context * torch.tensor([1.0, 2.0])
        return x, self.scale.log().sum().expand(len(u))


@pytest.fixture
def shifted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(FLOWS, "shift", lambda shape, context: [Shift()])
    schema = replace(Schema.plain(2, 2), context_names=("c", "d,=e"))
    save(build_flow("shift", 2, context=2), tmp_path / "flow.safetensors", schema)
    return tmp_path


@pytest.mark.parametrize(("c", "d", "temperature"), [(1.5, -20, 1.0), (0, 2e3, 0.8)])
def test_samples_of_a_context_follow_its_truth(
    c: float, d: float, temperature: float, shifted: Path
) -> None:
    """Two Kolmogorov-Smirnov tests each; together they fail once in 10^5 seeds without a cause."""
    path = shifted / "x.npy"
    words = ["--given", f'c={c}, "d,=e={d}"', "--temperature", str(temperature)]
    sample.main([str(shifted), "-n", "5000", "-o", str(path), *words])
    x = np.load(path)
    assert x.shape == (5000, 2)  # columns x1 and x2 of floats need no names
    for column, mean, scale in zip(x.T, (c, 2 * d), (1, 3), strict=True):
        truth = stats.norm(mean, temperature * scale)
        assert stats.kstest(column, truth.cdf).pvalue > 2.5e-6


def test_rows_are_scored_given_their_contexts(shifted: Path, tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    new = pl.DataFrame(dice.standard_normal((500, 4)), schema=["c", "x2", "d,=e", "x1"])
    output = tmp_path / "s.parquet"
    score.main([str(shifted), str(write(new, tmp_path / "new.csv")), "-o", str(output)])
    truth = stats.norm(new["c"], 1).logpdf(new["x1"])
    truth += stats.norm(2 * new["d,=e"], 3).logpdf(new["x2"])
    scores = pl.read_parquet(output)
    np.testing.assert_allclose(scores["log_prob"], truth, atol=1e-5)
    assert scores["rank"].null_count() == 500  # no training rows are known


def test_temperature_stretches_the_base(shifted: Path) -> None:
    used, context = sample.opened(str(shifted)), torch.zeros(2)
    plain, stretched = (
        pl.concat(sample.samples(used, 100, context=context, temperature=t)) for t in (1, 2)
    )
    np.testing.assert_allclose(stretched, 2 * plain.to_numpy(), rtol=1e-6)


def test_a_run_on_a_known_density(short_run: Run, tmp_path: Path) -> None:
    """Columns x1 and x2, and the training points ranked evenly."""
    output = tmp_path / "s.parquet"
    sample.main([str(short_run.folder), "-n", "1000", "-o", str(tmp_path / "x.npy")])
    x = np.load(tmp_path / "x.npy")
    score.main([str(short_run.folder), str(tmp_path / "x.npy"), "-o", str(output)])
    with torch.no_grad():
        expected = load(short_run.folder).log_prob(torch.from_numpy(x).float())
    scores = pl.read_parquet(output)
    assert scores.columns == ["x1", "x2", "log_prob", "rank"]
    np.testing.assert_allclose(scores["log_prob"], expected, atol=1e-4)


@pytest.mark.parametrize("end", ["csv", "parquet", "npy"])
def test_kinds_are_those_of_the_file(end: str, tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "whole": [*range(29), -3],
            "small": pl.Series([1, 2, 3] * 10, dtype=pl.UInt8),
            "flag": [True, False, True] * 10,
            "real": [0.5, *range(29)],
            "written": [float(i * i) for i in range(30)],
            "large": [2**53 + 2 * i for i in range(30)],
        }
    )
    if end == "csv":
        frame = frame.with_columns(pl.col("flag").cast(int))
    data = table(str(write(frame, tmp_path / f"my.{end}")), context=["real", "whole"])
    kinds = dict(zip(data.names + data.context_names, data.kinds, strict=True))
    whole = {"whole", "small", "flag"} | ({"written"} if end == "csv" else set())
    assert {name for name, kind in kinds.items() if kind == "integer"} == whole


@pytest.mark.parametrize(
    ("noise", "grid", "support", "x", "expected"),
    [
        (0.0, None, None, [-0.4, 2.6, 1e300], [0, 3, 2**53]),
        (0.0, None, "positive", [0.2, 7.5], [1, 8]),
        (0.0, None, (0.0, 5.0), [0.2, 4.9], [1, 4]),
        (1.0, (3.0, 1.0), None, [3.01, 3.99, 2.5], [3, 3, 2]),
        (2.0, (1.0, 2.0), None, [1.01, 2.99, 3.01, -0.5], [1, 1, 3, -1]),
        (2.0, (1.0, 2.0), (0.5, 7.0), [0.6, 6.99], [1, 5]),
    ],
)
def test_whole_numbers_are_whole_again(
    noise: float, grid: tuple[float, float], support: object, x: list[float], expected: list[int]
) -> None:
    schema = replace(Schema.plain(1, 0), kinds=("integer",), noise=(noise,), grid=(grid,))
    assert schema.with_whole(np.array([x]).T, [support]).ravel().tolist() == expected


def test_noise_is_undone_where_it_was_added() -> None:
    """Steps are found in the training rows, however many are left out between them."""
    x = torch.tensor([[5.0, 0.5], [11.0, 1.5], [8.0, 2.5]])
    noise = torch.tensor([3.0, 1.0])
    data = Data(*[Points(x)] * 3, ("n", "h"), noise=noise, kinds=("integer", "float"))
    schema = describe(build_flow("coupling", 2), data)
    assert schema is not None
    assert (schema.noise, schema.grid) == ((3.0, 1.0), ((5.0, 3.0), None))


@pytest.mark.parametrize("names", [("$x_{1}$", "$x_{2}$"), ("a", "a"), ("a",), ("a", "\x1b[2J")])
def test_names_that_no_file_can_have_give_way(names: tuple[str, ...]) -> None:
    data = Data(*[Points(torch.rand(9, 2), torch.rand(9, 1))] * 3, names)
    schema = describe(build_flow("coupling", 2, context=1), data)
    assert schema is not None
    assert (schema.names, schema.context_names) == (("x1", "x2"), ("c1",))


def test_a_large_table_is_written_whole_or_not(tmp_path: Path) -> None:
    """Whatever ends it, what was there stays, and nothing beside it."""
    piece = pl.DataFrame({"x1": [1.0], "n": [2]})
    for end in ("csv", "tsv", "parquet", "npy"):
        path = tmp_path / f"x.{end}"
        path.write_bytes(b"old")
        with suppress(KeyboardInterrupt), writing(path, dict(piece.schema), 2) as write:
            write(piece)
            raise KeyboardInterrupt
        assert path.read_bytes() == b"old"
        with writing(path, dict(piece.schema), 2) as write:
            write(piece)
            write(piece)
        assert len(read(path)) == 2
    assert len(list(tmp_path.iterdir())) == 4

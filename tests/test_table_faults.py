"""What a table can have and a density cannot: each fault has its line."""

import datetime
import gzip
import logging
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conftest import Compose

from flowlab.config import validate
from flowlab.data import table
from flowlab.data.degenerate import dependent
from flowlab.errors import ConfigError, DataError

Write = Callable[..., Path]


def normal(n: int = 200, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(n)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(a=..., b=...): a file of these columns, beside a normal one called `ok`."""

    def write(name: str = "my.csv", **columns: Any) -> Path:
        path = tmp_path / name
        n = len(next(iter(columns.values()), range(200)))
        frame = pl.DataFrame({"ok": normal(n, 7), **columns}, strict=False)
        frame.write_csv(path) if name.endswith("csv") else frame.write_parquet(path)
        return path

    return write


def refused(path: Path, *words: str, **options: Any) -> None:
    with pytest.raises(DataError) as caught:
        table(str(path), **options)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("data."), line
    for word in words:
        assert word in line, line


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


ROWS = "\n".join(f"{x},{y}" for x, y in zip(normal(50, 1), normal(50, 2), strict=True))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["an empty file"]),
        ("\n\n", ["an empty file"]),
        ("a,b\n", ["a header and no rows", "data.header=false"]),
        ("a,b\n1,2\n3,5\n", ["too few rows: 2 give 2 for train, 0 for val, 0", "data.split"]),
        ("a,b\n1,2\n3,4,5\n6\n7,8\n", ["rows of 2 cells", "row 2 has 3, row 3 has 1"]),
        ("a,b\n1,2\n3\n", ["rows of 2 cells", "row 2 has 1"]),
        ('a,b\n"1,5",2\n3,4\n"1,1",2,3\n', ["row 3 has 3"]),
        ("a;b\n1;2\n3;4\n", ["one column found, 'a;b'", "commas", "found semicolons"]),
        ("a;b\n1,5;2,5\n", ["one column found, 'a;b'", "semicolons"]),
        ("a\tb\n1\t2\n", ["one column found", "found tabs", ".tsv"]),
        ("1.5 2.5\n3 4\n", ["one column found", "spaces"]),
        ("a,b\n1,é\n".encode("latin-1"), ["not in UTF-8", "iconv"]),
        ("a,é\n1,2\n".encode("latin-1"), ["not in UTF-8", "iconv"]),
        ("a,b\n1,2\n".encode("utf-16"), ["not in UTF-8", "UTF-16"]),
        ("a,a\n1,2\n", ["columns of one name: a"]),
        ('a,b\n1,2\n3,"4\n', ["damaged"]),
    ],
)
def test_a_text_file_that_is_none(content: str | bytes, words: list[str], tmp_path: Path) -> None:
    refused(written(tmp_path / "my.csv", content), "data.path=", "my.csv", *words)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    written(tmp_path / "wines.csv", "a\n1\n")
    refused(tmp_path / "wine.csv", "no such file", "did you mean wines.csv?")
    refused(tmp_path / "else" / "x.csv", "no such file", "looked in", "else")
    refused(tmp_path, "a directory; expected a file")
    refused(tmp_path / "other", "no such file")
    refused(tmp_path / "my.csv", "no such file; looked in ")
    (tmp_path / "folder.csv").mkdir()
    refused(tmp_path / "folder.csv", "a directory; expected a file")
    refused(written(tmp_path / "my.xlsx", "x"), "unknown format", ".parquet")
    for name in ("a.parquet", "a.arrow", "a.feather", "a.npy", "a.npz"):
        refused(
            written(tmp_path / name, "no such thing " * 9), name, "damaged, or not of the format"
        )
        refused(written(tmp_path / name, ""), "an empty file")
    packed = gzip.compress(ROWS.encode() * 100)
    refused(written(tmp_path / "cut.csv.gz", packed[:-500]), "damaged")
    refused(
        written(tmp_path / "ok.csv", f"a,b\n{ROWS}"),
        "data.val_path=",
        "no such file",
        val_path="x.csv",
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(write: Write) -> None:
    path = write(a=normal())
    path.chmod(0)
    refused(path, "no permission")


def test_permission_is_told_of(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(a=normal())

    def forbidden(*args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbidden)
    refused(path, "no permission to read it")


def test_arrays_that_are_no_columns(tmp_path: Path) -> None:
    np.save(tmp_path / "cube.npy", np.zeros((2, 3, 4)))
    refused(tmp_path / "cube.npy", "(2, 3, 4)", "(rows, columns)")
    (tmp_path / "text.npy").write_text("a,b\n1,2\n")
    refused(tmp_path / "text.npy", "damaged, or not of the format", "magic string")
    np.save(tmp_path / "objects.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    refused(tmp_path / "objects.npy", "damaged, or not of the format")
    np.savez(tmp_path / "two.npz", a=normal(5), b=normal(6))
    refused(tmp_path / "two.npz", "arrays of one length", "a has 5, b has 6")
    np.save(tmp_path / "none.npy", np.zeros((0, 3)))
    refused(tmp_path / "none.npy", "no rows")


def test_text_and_dates(write: Write) -> None:
    words = [f"w{i}" for i in range(200)]
    mixed: list[Any] = [*normal(198), "n.d.", "unknown"]
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(i) for i in range(200)]
    refused(
        write(city=words), "column city holds text, 'w0', 'w1', 'w2' in rows 1, 2, 3 and 197 more"
    )
    refused(write(city=words), "data.drop=[city]")
    refused(
        write(age=[str(x) for x in mixed]),
        "column age holds text among numbers, 'n.d.', 'unknown' in rows 199, 200;",
    )
    refused(write(day=days), "column day holds dates or times, '2020-01-01'", "data.drop=[day]")
    path = write("my.parquet", city=words, day=days, lists=[[1.0]] * 200)
    refused(path, "city holds text, day holds dates or times, lists holds values of type List")
    assert table(str(write(city=words)), drop=["city"]).names == ("ok",)
    refused(write(age=[str(x) for x in mixed]), "n.d.", missing="drop")


@pytest.mark.parametrize("name", ["my.csv", "my.parquet"])
def test_missing_cells(name: str, write: Write) -> None:
    a, b = list(normal(seed=1)), list(normal(seed=2))
    a[3], a[4], a[9], a[11], a[30] = None, None, None, None, float("nan")
    b[7], b[30] = float("-inf"), float("inf")
    path = write(name, a=a, b=b)
    refused(path, "column a is empty in rows 4, 5, 10 and 1 more; a is NaN in row 31;")
    refused(path, "b is infinite in rows 8, 31;", "data.missing=drop", "6 of 200 rows")
    data = table(str(path), missing="drop")
    assert (data.facts["data/rows"], data.facts["data/dropped"]) == (194, 6)
    assert all(points.x.isfinite().all() for points in (data.train, data.val, data.test))
    assert table(str(path), columns=["ok"]).facts["data/dropped"] == 0


def test_a_column_of_nothing(write: Write) -> None:
    """Not all rows are to go for it; and the shell gets the quotes that it and Hydra need."""
    path = write("my.parquet", **{"k (x)": pl.Series([None] * 200, dtype=pl.Float64)})
    refused(path, """; 'data.drop=["k (x)"]' leaves out what has no numbers""")
    assert table(str(path), drop=["k (x)"]).names == ("ok",)


def test_words_for_nothing_are_missing_cells(tmp_path: Path) -> None:
    path = written(tmp_path / "my.csv", f"a,b\n{ROWS}\n1,NA\n2, ?\n3,\n4,null\n\n\n")
    refused(path, "b is empty in rows 51, 52, 53 and 1 more", "4 of 54 rows")


def test_constant_columns(write: Write) -> None:
    refused(write(a=[3.5] * 200), "same in all training rows: column a (3.5)", "data.drop=[a]")
    refused(write(a=[3.5] * 200), "column a (3.5); lower data.context", context=["a"])
    assert table(str(write(a=[3] * 200)), noise={"a": 1}).noise is not None


def test_columns_that_others_determine(write: Write) -> None:
    a, b = normal(seed=1), normal(seed=2)
    refused(write(a=a, b=a), "column b equals a", "data.drop=[b]")
    refused(write(a=a, b=b, c=3 * a - b / 7 + 1e3), "column c follows exactly from a and b")
    refused(write(a=a, b=np.float32(1.8) * a + 32), "column b follows exactly from a;")
    exact, nearly = write("x.parquet", a=a, b=a + b).as_posix(), a + 1e-4 * b
    assert table(exact).shape == (3,)
    assert table(str(write(a=a, b=nearly))).shape == (3,)
    # one row that is far out makes no line of the others
    far_a, far_b = (np.where(np.arange(200) == 7, 1e9, column) for column in (a, b))
    assert table(str(write(a=far_a, b=far_b))).shape == (3,)
    refused(write(a=far_a, b=far_a), "column b equals a")
    # noise makes a density of it; a context may be anything, but not decide a coordinate
    assert table(str(write(a=a, b=a)), noise={"b": 1}).shape == (3,)
    assert table(str(write(a=a, b=a)), context=["a", "b"]).shape == (1,)
    refused(write(a=a, b=2 * a), "column b follows exactly from a", context=["a"])


def test_dependence_is_told_from_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowlab.data.degenerate.CHUNK", 64)
    x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)) + 1e3
    c = x[:, :1].double() - 2 * x[:, 2:].double()
    assert dependent([x.double(), c], range(4)) == {3: [0, 2]}
    c[-1] += 1
    assert dependent([x.double(), c], range(4)) == {}


def test_dependence_in_the_rows_that_are_tried_is_not_enough(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowlab.data.degenerate.CHUNK", 64)
    a, b = normal(seed=1), normal(seed=2)
    c = a + b
    c[1] += 1  # every fourth is tried
    own = {"val_path": str(write("own.csv", a=a, b=a, c=b))}
    own["test_path"] = own["val_path"]
    assert table(str(write(a=a, b=b, c=c)), **own).shape == (4,)  # type: ignore[arg-type]
    c[1] -= 1
    refused(write(a=a, b=b, c=c), "c follows exactly from a and b", **own)


def test_values_outside_a_support(write: Write) -> None:
    share, income = np.linspace(0.1, 0.9, 200), np.exp(normal(seed=3))
    share[[4, 5, 6, 7]], income[[0, 9]] = [0, 1, 1.5, -2], [0, -3]
    path = write(share=share, income=income)
    support = {"share": [0, 1], "income": "positive"}
    refused(path, "share is not within (0.0, 1.0): 0, 1, 1.5 in rows 5, 6, 7 and", support=support)
    refused(path, "income is not positive: 0, -3 in rows 1, 10", "data.support", support=support)
    rooms = np.arange(200) % 10
    assert table(str(write(rooms=rooms)), support={"rooms": [0, 10]}, noise={"rooms": 1})
    refused(
        write(rooms=rooms),
        "rooms with its noise of 1 is not within (0.0, 9.0): 9",
        support={"rooms": [0, 9]},
        noise={"rooms": 1},
    )


def test_what_float32_rounds_to_an_end_is_within_it(write: Write) -> None:
    share, small = np.linspace(0.1, 0.9, 200), np.exp(normal(seed=3))
    share[0], small[0] = np.nextafter(1, 0), 1e-60
    support = {"share": [0, 1], "small": "positive"}
    for column in ({"share": share}, {"small": small}):
        x = table(str(write(**column)), support={k: support[k] for k in column}).train.x
        assert x.dtype == torch.float64
    assert table(str(write(share=share))).train.x.dtype == torch.float32


def test_names_that_are_not_there(write: Write) -> None:
    path = write(income=normal(), age=normal(seed=2))
    for key in ("columns", "drop", "context"):
        refused(path, f"data.{key}", "no column incme; did you mean income?", **{key: ["incme"]})
    for key in ("support", "noise"):
        refused(path, f"data.{key}", "did you mean age?", **{key: {"aeg": 1}})
    refused(path, "no column AGE; did you mean age?", columns=["AGE"])
    refused(path, "no column zzz; columns: ok, income, age", columns=["zzz"])
    other = write("other.csv", income=normal())
    refused(path, "data.test_path=", "no column age", test_path=str(other))


def test_columns_that_are_two_things(write: Write) -> None:
    path = str(write(a=normal(seed=1), b=normal(seed=2)))
    for options, line in (
        ({"columns": ["a"], "drop": ["a"]}, "data.drop=[a]: also in data.columns"),
        ({"columns": ["a"], "context": ["a"]}, "data.context=[a]: also in data.columns"),
        ({"drop": ["a"], "context": ["a"]}, "data.context=[a]: also in data.drop"),
        ({"columns": ["a", "a"]}, "data.columns: a is there twice"),
        ({"drop": ["a", "b", "ok"]}, "no column is left"),
        ({"context": ["a"], "noise": {"a": 1}}, "data.noise={a: ...}: not a coordinate"),
        ({"drop": ["b"], "support": {"b": "positive"}}, "data.support={b: ...}: not a coord"),
    ):
        with pytest.raises(ConfigError, match=re.escape(line)):
            table(path, **options)  # type: ignore[arg-type]


def test_more_rows_than_there_are(write: Write) -> None:
    refused(write(a=normal()), "data.rows=201", "200", rows=201)


def warned(caplog: pytest.LogCaptureFixture, path: Path, **options: Any) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        table(str(path), **options)
    assert all(m.startswith("warning: data.path=") and "\n" not in m for m in caplog.messages)
    return caplog.messages


def test_few_values_and_shared_ones_are_told(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    assert not warned(caplog, write(a=normal()))
    capital = np.where(np.arange(200) % 4 == 0, 0.0, np.exp(normal(seed=5)))
    path = write(rooms=np.arange(200) % 5, capital=capital)
    (line,) = warned(caplog, path)
    assert "rooms has 5 values" in line
    assert re.search(r"capital is 0 in 2\d% of the rows", line)
    assert "'data.noise={rooms: 1}' spreads" in line
    assert "data.drop" in line
    assert not warned(caplog, path, noise={"rooms": 1}, drop=["capital"])
    assert not warned(caplog, path, context=["rooms", "capital"])


def test_a_shared_value_is_found_among_many_rows(
    write: Write, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowlab.data.degenerate.SAMPLE", 500)
    a = normal(5000)
    a[::5] = 0.25
    (line,) = warned(caplog, write("my.parquet", a=a))
    assert re.search(r"a is 0.25 in (19|20|21)% of the rows", line)


def test_whole_numbers_beyond_float32_are_told(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(id=np.arange(200) + 2**24)
    (line,) = warned(caplog, path)
    assert "id: whole numbers beyond 16777216" in line
    assert "data.drop=[id]" in line
    data = table(str(path))
    assert data.train.x.dtype == torch.float64
    assert len(set(data.train.x[:, 1].tolist())) == len(data.train.x)
    assert table(str(path), drop=["id"]).train.x.dtype == torch.float32
    small = write(id=np.arange(200) + 2**24 - 200)
    assert not warned(caplog, small)
    assert table(str(small)).train.x.dtype == torch.float32
    offset = write(a=1e6 + normal())
    assert not warned(caplog, offset)
    assert table(str(offset)).train.x.dtype == torch.float64


def test_training_rows_in_the_test_split_are_told(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(a=normal(seed=1))
    rows = pl.read_csv(path)
    other = path.with_name("other.csv")
    fresh = pl.DataFrame({"ok": normal(30, 3), "a": normal(30, 4)})
    pl.concat([fresh, rows[5:12]]).write_csv(other)
    (line,) = warned(caplog, path, test_path=str(other), val_path=str(path))
    assert "7 of 200 training rows are also in the test split" in line
    assert not warned(caplog, path)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "data.path=???: expected the path of a file with columns, as data.path=my.csv"),
        (["data.columns=[]"], "data.columns=[]: expected names of columns, as [a,b], or null"),
        (["data.columns=a"], "data.columns=a: expected names of columns, as [a,b], or null"),
        (["data.split=[0.8,0.2]"], "expected three positive shares whose sum is 1"),
        (["data.split=[0.8,0.1,0.2]"], "expected three positive shares whose sum is 1"),
        (["data.header=yes"], "data.header=yes: expected auto or True or False"),
        (["data.rows=0"], "data.rows=0: expected a whole number from 1 to 2^53 or null"),
        (["data.missing=skip"], "data.missing=skip: expected error or drop"),
        (["data.support={a: negative}"], "data.support.a=negative: expected positive or [low"),
        (["data.support={a.b: [1,0]}"], "data.support.a.b=[1, 0]: expected positive or [low"),
        (["data.support=positive"], "data.support=positive: expected supports of columns"),
        (["data.noise={a: 0}"], "data.noise.a=0: expected a positive number"),
        (["data.noise=1"], "data.noise=1: expected widths for columns, as {rooms: 1}"),
    ],
)
def test_a_key_with_a_wrong_value(words: list[str], line: str, compose_config: Compose) -> None:
    path = ["data.path=my.csv"] * bool(words)
    with pytest.raises(ConfigError, match=re.escape(line)):
        validate(compose_config("data=table", *path, *words))


def test_keys_that_make_sense(compose_config: Compose) -> None:
    validate(
        compose_config(
            *("data=table", "data.path=my.csv", "data.columns=[a,b c,1]", "data.drop=[id]"),
            *("data.support={a.b: positive, c: [0,1.5], 1: [-1,1]}", "data.noise={a.b: 0.5}"),
            *(
                "data.split=[0.5,0.25,0.25]",
                "data.header=false",
                "data.rows=10",
                "data.seed=${seed}",
            ),
        )
    )
    own = compose_config("data=table", "data.path=my.csv", "data._target_=my.load", "data.split=a")
    validate(own)  # data of one's own may mean something else


def test_a_fault_is_the_last_line_of_a_run(
    train_command: list[str], tmp_path: Path, write: Write
) -> None:
    path = write(a=[1.0] * 200)
    words = [*train_command, "data=table", f"data.path={path}"]
    run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert run.returncode == DataError.exit_code
    assert run.stderr.startswith(f"error: data.path={path}: the same in all training rows")
    assert run.stderr.count("\n") == 1

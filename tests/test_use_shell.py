"""python -m flowlab sample and score: what they refuse, how they end, what they need."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from flowlab import __main__ as program
from flowlab import signals
from flowlab.commands import sample, score
from flowlab.export import save
from flowlab.flows import FLOWS, build_flow
from flowlab.flows.units import Standardize
from flowlab.schema import Schema

FLOW = [sys.executable, "-m", "flowlab"]
MEASURE = """
import json, resource, subprocess, sys
subprocess.run([sys.executable, "-m", "flowlab", *sys.argv[1:]], check=True)
print(json.dumps(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a run of columns a, b given c, one without contexts, and rows."""
    monkeypatch.chdir(tmp_path)
    quantiles = (*map(float, range(1001)),)
    for run, context in (("run", ("c",)), ("free", ())):
        (tmp_path / run).mkdir()
        schema = replace(Schema.plain(2, len(context)), names=("a", "b"), context_names=context)
        schema = replace(schema, quantiles=quantiles)
        flow = build_flow("coupling", 2, context=len(context))
        save(flow, tmp_path / run / "flow.safetensors", schema)
    (tmp_path / "new.csv").write_text("c,a,b,id\n1,2,3,x\n4,5,6,y\n")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n,3\n4,inf\nNA,5\n,6\n,7\n")
    (tmp_path / "text.csv").write_text("a,b\n1,2\n1,hello\n")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n1,2,3\n1\n")
    (tmp_path / "misspelt.csv").write_text("A,b,Cc\n1,2,3\n")
    (tmp_path / "taken.csv").write_text("a,b,rank\n1,2,3\n")
    pl.DataFrame({"a": ["1"], "b": [1]}).write_parquet(tmp_path / "text.parquet")
    nested = {"a": [1.0], "b": [2], "more": [[1, 2]], "note": ["x"]}
    pl.DataFrame(nested).write_parquet(tmp_path / "nested.parquet")
    null = pl.Series([None, 1], dtype=pl.Int64)
    pl.DataFrame({"a": [1.0, 2.0], "b": [2, 3], "n": null}).write_parquet(tmp_path / "null.parquet")
    (tmp_path / "folder.csv").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("sample run", 2, "the following arguments are required: -n; see python -m flowlab sample"),
        ("sample run -n 0", 2, "argument -n: '0'; expected a whole number of at least 1"),
        ("sample run -n 1e3", 2, "expected a whole number"),
        ("sample run -n 5 --seed -1", 2, "argument --seed: '-1'; expected a whole number"),
        ("sample run -n 5 --temp 2", 2, "unrecognized arguments: --temp"),
        ("sample run -n 5 --temperature 0", 2, "expected a number above 0"),
        ("sample run -n 5 --temperature nan", 2, "expected a number above 0"),
        ("sample run -n 5", 2, "--given: the flow of run needs c; expected a number for each"),
        ("sample run -n 5 --given C=1", 2, "--given: no context C; did you mean c?"),
        ("sample run -n 5 --given cc=1", 2, "--given: no context cc; did you mean c?"),
        ("sample run -n 5 --given c=1,c=2", 2, "c is there twice"),
        ("sample run -n 5 --given c", 2, "'c' is not name=number"),
        ("sample run -n 5 --given c=x", 2, "argument --given: 'x'; expected a number for c"),
        ("sample run -n 5 --given c=inf", 2, "expected a number for c"),
        ("sample free -n 5 --given c=1", 2, "the flow of free has no contexts; leave it out"),
        ("sample nosuch -n 5", 2, "nosuch: no such file; expected a run directory, a flow"),
        (
            "sample latest -n 5",
            2,
            "latest: no run with a flow.safetensors in outputs/*/*",
        ),
        ("sample new.csv -n 5", 4, "new.csv: not a flow that flowlab can load"),
        ("sample free -n 5 -o x.txt", 2, "-o x.txt: unknown format; expected a name that ends in "),
        ("sample free -n 5 -o x.csv.gz", 2, "ends in .csv, .tsv, .parquet or .npy"),
        ("sample free -n 5 -o no/x.csv", 6, "-o no/x.csv: no such folder, no; make it first"),
        ("sample free -n 5 -o folder.csv", 6, "-o folder.csv: a directory; expected a file"),
        ("score free nosuch.csv", 3, "nosuch.csv: no such file"),
        ("score free misspelt.csv", 3, "misspelt.csv: no column a, which the flow has; "),
        ("score run new.csv -o new.csv", 2, "-o new.csv: the file that is scored; choose another"),
        ("score run new.csv --missing drop", 2, "invalid choice: 'drop'"),
        ("score free taken.csv", 3, "taken.csv: has a column rank already; rename it"),
        ("score free text.csv", 3, "column b holds text among numbers, 'hello' in row 2; the flow"),
        ("score free text.parquet", 3, "text.parquet: column a holds text; the flow has numbers"),
        ("score free ragged.csv", 3, "rows of 2 cells expected, as the first has: row 2 has 3"),
        (
            "score free bad.csv",
            3,
            "column a is empty in rows 2, 4, 5 and 1 more; b is infinite in row 3; --missing keep",
        ),
        ("score run new.csv -o s.npy", 2, "column id holds String, which .npy cannot; expected a "),
        ("score free nested.parquet", 2, "column more holds List(Int64), which .csv cannot"),
    ],
)
def test_a_mistake_is_one_line(
    words: str, code: int, message: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path.name for path in folder.iterdir()}
    with pytest.raises(SystemExit) as end:
        {"sample": sample, "score": score}[words.split()[0]].main(words.split()[1:])
    printed, said = capfd.readouterr()
    assert end.value.code == code
    assert message in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert printed == ""
    assert {path.name for path in folder.iterdir()} == before


def test_a_row_without_all_numbers_keeps_its_place(folder: Path) -> None:
    score.main(["free", "bad.csv", "--missing", "keep", "-o", "s.csv"])
    scores = pl.read_csv("s.csv", infer_schema=False)
    assert scores["a"].to_list() == ["1", None, "4", "NA", None, None]
    for name in ("log_prob", "rank"):
        assert scores[name].is_null().to_list() == [False, *[True] * 5]
    score.main(["free", "bad.csv", "--missing", "keep", "-o", "s.npy"])
    with pytest.raises(SystemExit, match="3"):
        score.main(["free", "null.parquet", "-o", "t.npy"])


def test_latest_is_the_run_that_ended_last(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = ("outputs/2026-01-02/03-04-05", "multirun/2026-01-01/00-00-00/x=1", "outputs/9/9")
    for age, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        if name != "outputs/9/9":  # which has not ended
            path = folder / name / "flow.safetensors"
            path.write_bytes((folder / "free" / "flow.safetensors").read_bytes())
            os.utime(path, (1e9 + age, 1e9 + age))
    sample.main(["latest", "-n", "2"])
    printed, said = capfd.readouterr()
    assert said == f"run {names[1]}\n"
    assert printed.startswith("a,b\n")


def test_a_flow_of_images_is_refused(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FLOWS, "still", lambda shape, context: [Standardize([4])])
    save(build_flow("still", [2, 2]), folder / "flow.safetensors")
    columns = Schema.plain(2, 0)
    with pytest.raises(ValueError, match="columns for points that are not rows of numbers"):
        save(build_flow("still", [2, 2]), folder / "other.safetensors", columns)
    with pytest.raises(SystemExit, match="2"):
        sample.main(["flow.safetensors", "-n", "2"])
    assert "points of shape (2, 2); expected rows" in capfd.readouterr().err


def test_the_words_of_the_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signals, "leave_at_once", lambda: None)
    for words in ([], ["smaple"]):
        with pytest.raises(SystemExit) as end:
            program.main(words)
        assert end.value.code == 2
        said = capsys.readouterr().err
        assert all(f"flowlab {name}" in said for name in ("report", "sample", "score"))
    program.main(["--help"])
    assert "flowlab score RUN new.csv" in capsys.readouterr().out


def shell(words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = f"{' '.join(FLOW)} {words}"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=folder, capture_output=True, text=True
    )


def test_a_pipe_that_ends_early_is_no_error(folder: Path) -> None:
    done = shell("sample free -n 1000000 | head -n 2", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("a,b\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without it")
def test_a_full_disk_is_one_line(folder: Path) -> None:
    done = shell("sample free -n 100000 > /dev/full", folder)
    assert done.returncode == 6
    assert done.stderr == "error: standard output: cannot be written to (No space left on device)\n"


def test_help_and_mistakes_need_no_torch(folder: Path) -> None:
    for words in ("sample --help", "sample free -n 0", "sample free -n 1 -o x.txt"):
        code = f"import sys; sys.modules['torch'] = None; sys.argv[1:] = {words.split()}\n"
        code += "import runpy; runpy.run_module('flowlab', run_name='__main__')"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == (0 if "help" in words else 2), done.stderr


@pytest.mark.parametrize(
    ("end", "signum"),
    [
        ("csv", signal.SIGHUP),
        ("npy", signal.SIGTERM),
        ("parquet", signal.SIGINT),
        ("parquet", signal.SIGHUP),
    ],
)
def test_a_signal_leaves_nothing_behind(end: str, signum: signal.Signals, folder: Path) -> None:
    path = folder / f"x.{end}"
    path.write_bytes(b"old")
    words = ["sample", "free", "-n", str(10**9), "-o", path.name]
    process = subprocess.Popen([*FLOW, *words], cwd=folder, stderr=subprocess.PIPE, text=True)
    while not (parts := list(folder.glob(".x.*.part"))) or parts[0].stat().st_size < 10**6:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signum)
    assert process.communicate(timeout=20)[1] == ""
    assert process.returncode == 128 + signum
    assert path.read_bytes() == b"old"
    assert not list(folder.glob(".*"))


def memory(folder: Path, *words: str) -> float:
    """The peak memory of a command in MiB."""
    command = [sys.executable, "-c", MEASURE, *words]
    return float(json.loads(subprocess.run(command, cwd=folder, capture_output=True).stdout))


@pytest.mark.long
@pytest.mark.parametrize("end", ["csv", "parquet", "npy"])
def test_memory_does_not_grow_with_the_rows(end: str, folder: Path) -> None:
    few, many = (
        [
            memory(folder, "sample", "free", "-n", str(n), "-o", f"{n}.{end}"),
            memory(folder, "score", "free", f"{n}.{end}", "-o", f"s{n}.{end}"),
        ]
        for n in (300_000, 3_000_000)
    )
    print(end, few, many)
    for small, large in zip(few, many, strict=True):
        assert large < small + 40

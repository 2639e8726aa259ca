"""Reports on folders of strangers: nothing hangs, nothing is written elsewhere, and all is said."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fabricated import fabricate

from flowlab import export
from flowlab.commands import report as report_module
from flowlab.commands.report import main, report
from flowlab.flows import build_flow
from flowlab.runs.reading import collect


def edit(name: str, right: str, wrong: str) -> Callable[[Path], None]:
    def apply(run: Path) -> None:
        text = (run / name).read_text()
        assert right in text
        (run / name).write_text(text.replace(right, wrong, 1))

    return apply


def pipe(name: str) -> Callable[[Path], None]:
    def apply(run: Path) -> None:
        (run / name).unlink()
        os.mkfifo(run / name)

    return apply


def device(name: str) -> Callable[[Path], None]:
    def apply(run: Path) -> None:
        (run / name).unlink()
        (run / name).symlink_to("/dev/zero")

    return apply


def bomb(run: Path) -> None:
    lines = ["x0: &x0 [0,0,0,0,0,0,0,0,0]"]
    lines += [f"x{i}: &x{i} [{','.join([f'*x{i - 1}'] * 9)}]" for i in range(1, 20)]
    with (run / CONFIG).open("a") as file:
        file.write("\n".join(lines) + "\n")


def deep(run: Path) -> None:
    with (run / CONFIG).open("a") as file:
        file.write("deep: " + "[" * 100 + "]" * 100)


def large(run: Path) -> None:
    with (run / METRICS).open("a") as file:
        file.truncate(2**35)  # a hole


def layers(run: Path) -> None:
    file = run / "flow.safetensors"
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].replace(rb"num_flows\": 2", rb"num_flows\": 100000")
    file.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + size :])


CONFIG, METRICS = ".hydra/config.yaml", "metrics.json"
TRICKS = {
    "seed of letters": (edit(CONFIG, "seed: 0", "seed: abc"), "seed=abc: expected a whole number"),
    "seed of 400 digits": (
        edit(CONFIG, "seed: 0", f"seed: {'9' * 400}"),
        "expected a whole number",
    ),
    "100,000 layers": (layers, "num_flows=100000: more layers than flowlab builds"),
    "aliases": (bomb, "aliases, or deeper than a configuration is"),
    "depth": (deep, "aliases, or deeper than a configuration is"),
    "pipe for a configuration": (pipe(CONFIG), "config.yaml: not a file of bytes"),
    "pipe for metrics": (pipe(METRICS), "metrics.json: not a file of bytes"),
    "pipe for a flow": (pipe("flow.safetensors"), "no such file"),
    "device for metrics": (device(METRICS), "metrics.json: not a file of bytes"),
    "device for a flow": (device("flow.safetensors"), "no such file"),
    "metrics of 32 GiB": (large, "more than the 16777216 that are read"),
    "a list": (lambda run: (run / METRICS).write_text("[1]"), "expected a table with a status"),
    "deep metrics": (lambda run: (run / METRICS).write_text("[" * 10**5), "recursion"),
    "a configuration that is none": (lambda run: (run / CONFIG).write_text("[1]"), "expected"),
    "bytes": (lambda run: (run / CONFIG).write_bytes(b"\xff\xfe\x00"), "decode"),
    "NUL": (lambda run: (run / CONFIG).write_bytes(b"seed: 0\0"), "characters are not allowed"),
    "a KL beyond all": (edit(METRICS, '"test/kl": 0.1', '"test/kl": 1.7e308'), "test/kl is not a"),
    "a KL in words": (edit(METRICS, '"test/kl": 0.1', '"test/kl": "0.1"'), "test/kl is not a"),
    "no parameters": (edit(METRICS, '"params": 10', '"params": null'), "params is not a"),
    "replicates": (edit(METRICS, "{", '{"replicates": [1], '), "replicates: expected"),
    "best": (edit(METRICS, "{", '{"best_replicate": 7, '), "best_replicate: expected"),
    "many keys": (
        lambda run: (run / CONFIG).write_text("".join(f"k{i}: 1\n" for i in range(2000))),
        "more or longer keys",
    ),
}


@pytest.mark.parametrize("name", TRICKS)
def test_a_folder_that_is_no_runs_is_left_out_in_one_line(name: str, tmp_path: Path) -> None:
    apply, said = TRICKS[name]
    apply(fabricate(tmp_path / "b\x1b[2J"))
    fabricate(tmp_path / "good")
    (run,), (line,) = collect([tmp_path])
    assert run.folder.name == "good"
    assert said in line
    assert len(line) < 300 + len(str(tmp_path))
    assert line.isprintable()


def test_whatever_is_left_in_a_table_is_written_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Words with escapes and surrogates, numbers of any size, flows of another dimension."""
    lines = [r'odd: "\e[31mred\0\n|"', "even: 1e300", r'"a\e[2J": 3', f"long: {'x' * 5000}"]
    for i, line in enumerate(lines):
        run = fabricate(tmp_path / f"{i}\x1b]0;t\x07", val_nll=1e29 * i, test_kl=-1e29, params=-1)
        with (run / CONFIG).open("a") as file:
            file.write(f"{line}\n")
    fabricate(tmp_path / "other", "data.target=funnel", status="failed", error="\x1b[2J\ud800")
    export.save(build_flow("coupling", 3), run / "flow.safetensors")
    for flow in ("coupling", "planar"):  # the target has ten dimensions by itself
        fabricate(tmp_path / f"funnel-{flow}", "data.target=funnel", f"flow.name={flow}")
    assert report([tmp_path], tmp_path) == 1
    said = capsys.readouterr().out
    assert "left out" not in said
    assert said.replace("\n", "").isprintable()
    text = (tmp_path / "results.md").read_text() + (tmp_path / "table.tex").read_text()
    assert "\x1b" not in text
    assert (tmp_path / "plots").is_dir()


def test_nothing_is_written_or_removed_elsewhere(tmp_path: Path) -> None:
    fabricate(tmp_path / "runs" / "a")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "curve.png").write_text("precious")
    (tmp_path / "runs" / "plots").symlink_to(tmp_path / "mine")
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path / "runs")])
    assert caught.value.code == 6
    assert (tmp_path / "mine" / "curve.png").read_text() == "precious"
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["a", "plots"]


def test_a_folder_of_others_is_read_and_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = fabricate(tmp_path / "runs" / "a").parent
    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(report_module.os, "access", lambda path, mode: path != folder)
    main([str(folder)])
    said = capsys.readouterr().out
    assert "| best | 1" in said
    assert f"nothing was written: {folder} is not yours to write to; -o FOLDER says where" in said
    main([str(folder), "-o", str(tmp_path / "new" / "here")])
    assert sorted(folder.rglob("*")) == before
    written = {path.name for path in (tmp_path / "new" / "here").iterdir()}
    assert {"results.csv", "results.md", "table.csv", "table.tex", "plots"} <= written


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "the following arguments are required: FOLDER"),
        (["nowhere"], "nowhere: no such folder; expected folders that hold runs"),
        (["--into", "x"], "--into"),
        (["."], "no runs there"),
    ],
)
def test_a_mistake_in_the_words_is_one_line(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_a_key_that_follows_another_is_read_as_that_key(tmp_path: Path) -> None:
    from flowlab.runs.results import rank

    fabricate(tmp_path / "a", "num_flows=2", "flow.num_flows=${num_flows}", "data.seed=${seed}")
    fabricate(tmp_path / "b", "num_flows=3", "flow.num_flows=${num_flows}", "data.seed=4", "seed=1")
    (ranking,) = rank(collect([tmp_path])[0])
    assert ranking.axes == ["num_flows", "data.seed"]
    values = sorted(cell.values for cell in ranking.cells)
    assert values == [("2", "as seed"), ("3", "4")]


def test_metrics_are_plain(tmp_path: Path) -> None:
    """A run's words come from the file as one printable line each."""
    run = fabricate(tmp_path / "a", status="failed", error="first\nsecond\x1b[2J")
    assert json.loads((run / METRICS).read_text())["error"].count("\n") == 1
    ((found,), _) = collect([tmp_path])
    assert found.metrics["error"] == "first second [2J"

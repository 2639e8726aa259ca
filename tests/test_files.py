"""Files that are whole, and run directories that are one run's alone."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import NO_PICTURES, SHORT, Compose, Run
from omegaconf import OmegaConf

from flowlab.errors import ConfigError, DataError, NonFiniteError, OutputError
from flowlab.experiment import train
from flowlab.files import run_at, write_whole
from flowlab.runs.directory import claim, release, shown
from flowlab.runs.life import open_run

OURS = (
    ".metrics.json.123.part",
    ".flow.safetensors.7.part",
    "checkpoints/.best.ckpt.123.part",
    "checkpoints/.last.ckpt.123.part",
    "plots/.density.png.123.part",
)
THEIRS = (
    ".thesis.part",
    ".thesis.123.part",
    ".metrics.json.part",
    "metrics.json.123.part",
    "checkpoints/.other.ckpt.123.part",
    "plots/.density.pdf.123.part",
    "plots/sub/.density.png.123.part",
    "sub/.film.mkv.part",
    "run/.metrics.json.123.part",
    "run/checkpoints/.last.ckpt.123.part",
)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("ckpt_path", [".", "checkpoints/last.ckpt"])
def test_only_what_the_run_itself_half_wrote_is_cleared_away(
    ckpt_path: str, tmp_path: Path
) -> None:
    touch(tmp_path, ".hydra/config.yaml", "checkpoints/last.ckpt", *OURS, *THEIRS)
    before = contents(tmp_path)
    claim(tmp_path, str(tmp_path / ckpt_path))
    release(tmp_path)
    assert before - contents(tmp_path) == set(OURS)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ((".thesis.part",), "holds .thesis.part; a run needs an absent or an empty folder: "),
        (("a/.hydra/x", "b/x", "c/x", "d/x", "e/x"), "holds a, b, c and 2 more; "),
        ((".hydra/x", "train.log", "notes.txt"), "holds notes.txt; "),
        ((".hydra/x", "metrics.json"), "holds a run already; to go on with it add ckpt_path="),
        (("checkpoints/x",), "holds a run already; "),
        (("events.out.tfevents.1",), "holds a run already; "),
    ],
)
@pytest.mark.parametrize("ckpt_path", [None, "a", "a/checkpoints/last.ckpt", "x.ckpt"])
def test_a_folder_that_is_not_the_runs_is_refused_and_left_alone(
    names: tuple[str, ...], reason: str, ckpt_path: str | None, tmp_path: Path
) -> None:
    touch(tmp_path, *names)
    before = contents(tmp_path)
    with pytest.raises(OutputError) as error:
        claim(tmp_path, ckpt_path and str(tmp_path / ckpt_path))
    assert str(error.value).startswith(f"{tmp_path}: {reason}")
    assert str(error.value).endswith("choose another hydra.run.dir")
    assert contents(tmp_path) == before
    claim(tmp_path / "new", None)  # nothing is left locked
    release(tmp_path / "new")


@pytest.mark.parametrize("names", [(), (".hydra/config.yaml", "train.log")])
def test_an_empty_folder_may_become_a_run(names: tuple[str, ...], tmp_path: Path) -> None:
    touch(tmp_path, *names)
    claim(tmp_path, None)
    release(tmp_path)


def test_the_root_of_all_files_is_refused() -> None:
    with pytest.raises(OutputError, match=r"^/: holds "):
        claim(Path("/"), None)


def test_a_run_that_goes_on_elsewhere_needs_an_empty_folder_too(
    short_run: Run, compose_config: Compose, tmp_path: Path
) -> None:
    touch(tmp_path, ".thesis.part")
    words = (f"run_dir={tmp_path}", f"ckpt_path={short_run.folder}", "trainer.max_epochs=6")
    with pytest.raises(OutputError, match=r"holds \.thesis\.part"):
        train(compose_config(*SHORT, *NO_PICTURES, *words))
    assert contents(tmp_path) == {".thesis.part"}


def test_a_file_is_on_the_disk_before_it_is_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        happened.append(f"fsync of {size} bytes")
        fsync(descriptor)

    def note_replace(self: Path, target: Any) -> Path:
        happened.append("replace")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    write_whole(tmp_path / "file", b"content")
    assert happened == ["fsync of 7 bytes", "replace"]
    assert contents(tmp_path) == {"file"}


def fail(error: Exception, run_dir: Path, ckpt_path: Path | None = None, **metrics: Any) -> None:
    """A run that ends by an error, after Hydra has begun its directory."""
    cfg = OmegaConf.create({"run_dir": str(run_dir), "ckpt_path": ckpt_path, "seed": 0})
    with suppress(type(error)), open_run(cfg) as run:
        touch(run_dir, ".hydra/config.yaml", "train.log")
        run.metrics.update(metrics)
        raise error


def test_a_mistake_that_is_found_before_the_training_leaves_nothing(tmp_path: Path) -> None:
    fail(DataError("row 7"), tmp_path / "outputs" / "today" / "run")
    assert contents(tmp_path) == set()


@pytest.mark.parametrize("name", ["mine.log", "train.log", ".hydra/mine"])
def test_a_folder_that_was_there_before_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    fail(DataError("row 7"), tmp_path / "empty")
    assert contents(tmp_path) == {"empty"}
    touch(tmp_path / "run", name)
    (tmp_path / "run" / name).write_text("mine")
    fail(DataError("row 7"), tmp_path / "run")
    assert (tmp_path / "run" / name).read_text() == "mine"


def test_what_may_be_needed_stays(tmp_path: Path) -> None:
    fail(RuntimeError("a bug"), tmp_path / "bug")
    fail(NonFiniteError("step 7"), tmp_path / "trained", epochs=3)
    touch(tmp_path, "cut/.hydra/config.yaml")
    fail(DataError("row 7"), tmp_path / "cut", ckpt_path=tmp_path / "cut")
    for name, error in {"bug": "a bug", "trained": "step 7"}.items():
        assert json.loads((tmp_path / name / "metrics.json").read_text())["error"] == error
    assert (tmp_path / "cut" / ".hydra" / "config.yaml").exists()


def test_a_run_ends_well_without_a_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    assert shown(tmp_path / "run") == "../run"
    gone.rmdir()
    assert shown(tmp_path / "run") == str(tmp_path / "run")
    with pytest.raises(ConfigError, match="of the working directory"):
        run_at("latest")

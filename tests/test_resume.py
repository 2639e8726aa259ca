"""Going on with a run: to the bit, or refused with a reason."""

import copy
import gc
import io
import json
import os
import random
import shutil
import signal
import warnings
import weakref
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from conftest import NO_PICTURES, SHORT, Compose, Run, events
from omegaconf import DictConfig
from tensorboard.plugins.hparams import metadata
from tensorboard.summary.writer import event_file_writer

from flowlab.callbacks.picture import Picture
from flowlab.errors import ConfigError, Finished, ModelFileError
from flowlab.experiment import train
from flowlab.logger import RunLogger
from flowlab.runs.checkpoints import FORMAT, read_checkpoint, seal, to_bytes
from flowlab.training.objectives import Likelihood

SCHEDULES = ["onecycle", *(pytest.param(s, marks=pytest.mark.long) for s in ("constant", "cosine"))]
FILES = ("flow.safetensors", "plots/loss.png")


class Halt(pl.Callback):
    """A run that ends after a step of the training, as abruptly as a process can its own."""

    def __init__(self, step: int, error: str):
        self.step, self.error = step, error

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        if module.step >= self.step:
            raise {"KeyboardInterrupt": KeyboardInterrupt, "MemoryError": MemoryError}[self.error]


class At(pl.Callback):
    """Something that happens in a hook of the training: an error, a signal."""

    def __init__(self, hook: str, what: str):
        setattr(self, hook, {"error": self.error, "signal": self.signal, "draw": self.draw}[what])

    def error(self, *args: Any) -> None:
        raise KeyboardInterrupt

    def signal(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    def draw(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        DRAWN.append((module.step, torch.rand(1).item()))


class HaltedPicture(Picture):
    """Is interrupted when it draws what a run ends with."""

    def draw(self, *args: Any) -> Any:
        if self.training.current_epoch == 2:
            raise KeyboardInterrupt
        return ()


DRAWN: list[tuple[int, float]] = []


def same_run(first: dict[str, Any], second: dict[str, Any]) -> bool:
    aside = {"seconds": 0, "resumed_from": "", "environment": {}}  # the commit may change
    return first | aside == second | aside


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several in an epoch of these few points."""
    monkeypatch.setattr("flowlab.training.data.CHUNK_SIZE", 64)


@pytest.fixture(params=SCHEDULES)
def configuration(
    request: pytest.FixtureRequest, compose_config: Compose, tmp_path: Path
) -> Compose:
    """configuration("name", ...): six epochs of seven steps, with the loss curve drawn."""
    pictures = [word for word in NO_PICTURES if "loss" not in word]

    def make(name: str, *overrides: str) -> DictConfig:
        common = (*SHORT, *pictures, f"schedule={request.param}", "trainer.max_epochs=6")
        return compose_config(
            *common, "data.batch_size=32", f"run_dir={tmp_path / name}", *overrides
        )

    return make


@pytest.mark.parametrize("step", [3, 7, 20, 41])
def test_a_cut_run_goes_on_to_the_same_end(
    step: int, configuration: Compose, tmp_path: Path
) -> None:
    """Cut in the middle of an epoch or at its end; gone on with in its place and elsewhere."""
    halt = f"+callbacks.halt={{_target_: test_resume.Halt, step: {step}, error: MemoryError}}"
    every = "callbacks.checkpoint.every_n_train_steps=2"
    with pytest.raises(MemoryError):
        train(configuration("cut", every, halt))
    assert json.loads((tmp_path / "cut" / "metrics.json").read_text())["status"] == "failed"
    whole = train(configuration("whole"))
    (tmp_path / "elsewhere").mkdir()
    for name in ("elsewhere", "cut"):
        resumed = train(configuration(name, every, f"ckpt_path={tmp_path / 'cut'}"))
        assert same_run(whole, resumed)
        for file in FILES:
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
        for tag in ("train/nll", "val/nll", "training/gradient_norm", "test/kl"):
            curve = [(e.step, e.value) for e in events(tmp_path / name).Scalars(tag)]
            assert curve == [(e.step, e.value) for e in events(tmp_path / "whole").Scalars(tag)]
        steps = [image.step for image in events(tmp_path / name).Images("loss")]
        assert steps == [0, 2, 4, 6]


@pytest.fixture
def quick(compose_config: Compose, tmp_path: Path) -> Compose:
    """quick("name", ...): two epochs of four steps, without pictures but for the loss curve."""
    pictures = [word for word in NO_PICTURES if "loss" not in word]

    def make(name: str, *overrides: str) -> DictConfig:
        words = (*SHORT, *pictures, "trainer.max_epochs=2", f"run_dir={tmp_path / name}")
        return compose_config(*words, "callbacks.loss.every_n_epochs=1", *overrides)

    return make


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """All points of all scalars, and the steps of all pictures, in their order."""
    read = events(folder)
    points = {tag: [(e.step, e.value) for e in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    points.pop("training/points_per_second", None)  # by the clock
    pictures = {tag: [(e.step, 0.0) for e in read.Images(tag)] for tag in read.Tags()["images"]}
    return points | pictures


def lose(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).unlink()


@pytest.mark.parametrize("words", [(), pytest.param(("replicates=2",), marks=pytest.mark.long)])
def test_a_run_cut_between_its_last_epoch_and_its_end_ends_the_same(
    words: tuple[str, ...], quick: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By Ctrl-C, before and in the test and its pictures, or by SIGKILL, which leaves less."""
    whole = train(quick("whole", *words))
    files = {path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.*")}
    files = {path for path in files if "tfevents" not in path.name}
    places = {"test": "test"}
    halts = {
        "fit": "+callbacks.halt={_target_: test_resume.At, hook: on_train_end, what: error}",
        "end": "+callbacks.halt={_target_: test_resume.HaltedPicture, every_n_epochs: 9}",
    }
    for name, halt in halts.items():
        with pytest.raises(SystemExit):
            train(quick(name, *words, halt))
        places[name] = name
    with monkeypatch.context() as patch:
        patch.setattr(Likelihood, "test", At.error)
        with pytest.raises(SystemExit):
            train(quick("test", *words))
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    lose(tmp_path / "killed", "metrics.json", "flow.safetensors")
    for name, before in ({"elsewhere": "end", "killed": "killed"} | places).items():
        resumed = train(quick(name, *words, f"ckpt_path={tmp_path / before}"))
        assert same_run(whole, resumed)
        assert json.loads((tmp_path / name / "metrics.json").read_text()) == resumed
        for file in FILES:
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
        assert all((tmp_path / name / file).exists() for file in files)
        assert curves(tmp_path / name) == curves(tmp_path / "whole")


def test_ctrl_c_is_remembered_as_such(configuration: Compose, tmp_path: Path) -> None:
    halt = "{_target_: test_resume.Halt, step: 10, error: KeyboardInterrupt}"
    with pytest.raises(SystemExit) as stop:
        train(configuration("cut", f"+callbacks.halt={halt}"))
    assert stop.value.code == 130
    metrics = json.loads((tmp_path / "cut" / "metrics.json").read_text())
    assert metrics["status"] == "interrupted"


def test_a_bare_last_checkpoint_is_enough(configuration: Compose, tmp_path: Path) -> None:
    whole = train(configuration("whole"))
    halt = "+callbacks.halt={_target_: test_resume.Halt, step: 30, error: MemoryError}"
    with pytest.raises(MemoryError):
        train(configuration("cut", halt))
    alone = (tmp_path / "cut" / "checkpoints" / "last.ckpt").rename(tmp_path / "alone.ckpt")
    assert same_run(whole, train(configuration("resumed", f"ckpt_path={alone}")))


def test_a_loss_curve_that_comes_after_the_last_epoch_has_those_before(
    quick: Compose, tmp_path: Path
) -> None:
    train(quick("run", "~callbacks.loss"))
    lose(tmp_path / "run", "metrics.json")
    assert train(quick("run", f"ckpt_path={tmp_path / 'run'}"))["epochs"] == 2
    assert (tmp_path / "run" / "plots" / "loss.png").exists()


def test_a_signal_within_an_epoch_saves_the_epoch_so_far(quick: Compose, tmp_path: Path) -> None:
    """The first chunk of the second epoch, two of the four batches of 32 points, ends it."""
    act = "+callbacks.act={_target_: test_resume.At, hook: on_train_batch_start, what: signal}"
    words = ("data.batch_size=32", "data.num_train=128")
    with pytest.raises(SystemExit) as stop:
        train(quick("cut", *words, act))
    assert stop.value.code == 130
    checkpoint = read_checkpoint(tmp_path / "cut" / "checkpoints" / "last.ckpt")
    assert checkpoint["flowlab"]["step"] == 4 + 2
    resumed = train(quick("cut", *words, f"ckpt_path={tmp_path / 'cut'}"))
    assert same_run(train(quick("whole", *words)), resumed)


def test_what_draws_from_the_global_generator_goes_on_too(quick: Compose, tmp_path: Path) -> None:
    """A callback of one's own."""
    act = "+callbacks.act={_target_: test_resume.At, hook: on_train_batch_end, what: draw}"
    halt = "+callbacks.halt={_target_: test_resume.Halt, step: 6, error: MemoryError}"
    DRAWN.clear()
    train(quick("whole", act))
    whole = dict(DRAWN)
    DRAWN.clear()
    with pytest.raises(MemoryError):
        train(quick("cut", act, halt, "callbacks.checkpoint.every_n_train_steps=1"))
    torch.manual_seed(1)
    train(quick("cut", act, f"ckpt_path={tmp_path / 'cut'}"))
    assert dict(DRAWN) == whole
    assert len(set(whole.values())) == len(whole) > 4


def test_a_resume_that_fails_before_its_first_step_costs_a_finished_run_nothing(
    quick: Compose, tmp_path: Path
) -> None:
    train(quick("run"))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")}
    words = ("trainer.max_epochs=3", "+optimizer.betas=[2.0,3.0]", "~callbacks.loss")
    with pytest.raises(ConfigError, match="Invalid beta"):
        train(quick("run", f"ckpt_path={tmp_path / 'run'}", *words))
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.*")} == before


def test_a_checkpoint_is_read_once_and_kept_no_longer_than_needed(
    quick: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the check, the log and the trainer."""
    train(quick("run"))
    read, load = [], torch.load

    def counted(*args: Any, **kwargs: Any) -> Any:
        read.append(weakref.ref(checkpoint := Dictionary(load(*args, **kwargs))))
        return checkpoint

    monkeypatch.setattr(torch, "load", counted)
    train(quick("run", f"ckpt_path={tmp_path / 'run'}", "trainer.max_epochs=3"))
    gc.collect()
    assert [reference() for reference in read] == [None]


class Dictionary(dict[str, Any]):
    """One that can be referred to weakly."""


def test_seconds_are_those_of_all_parts(quick: Compose, tmp_path: Path) -> None:
    train(quick("first"))
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(last)
    checkpoint["flowlab"]["seconds"] = 1000.0
    last.write_bytes(to_bytes(checkpoint))
    resumed = train(quick("first", f"ckpt_path={tmp_path / 'first'}", "trainer.max_epochs=3"))
    assert 1000 < resumed["seconds"] < 1100


@pytest.mark.parametrize("number", [7, 8, 9])
def test_history_has_each_point_once_and_none_from_after_the_resume(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a file's number, which its name ends with, comes to 10: a text before 9."""
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(number))
    folders = {name: tmp_path / name for name in ("first", "second")}
    for folder in folders.values():
        folder.mkdir()
    first = RunLogger(folders["first"], "a: 1", None, 0)
    for epoch in range(5):
        first.log_metrics({"val/nll": 10.0 + epoch, "epoch": epoch})
    first.log_result("trial", {"a": 1}, {"test/nll": 1.0}, 5)
    first.close()
    for folder in reversed(folders.values()):  # elsewhere and in place
        logger = RunLogger(folder, "a: 2", folders["first"], next_epoch=4)
        logger.log_metrics({"val/nll": 20.0, "epoch": 3})
        logger.log_result("trial", {"a": 2}, {"test/nll": 2.0}, 5)
        logger.close()
        read = events(folder)
        points = [(event.step, event.value) for event in read.Scalars("val/nll")]
        assert points == [(1, 10.0), (2, 11.0), (3, 12.0), (4, 20.0)]
        assert [(e.step, e.value) for e in read.Scalars("test/nll")] == [(0, 2.0), (5, 2.0)]
        content = read.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
        start = metadata.parse_session_start_info_plugin_data(content)
        assert start.hparams["a"].number_value == 2


def test_a_run_without_a_checkpoint_yet_starts_anew_and_says_so(
    quick: Compose, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cut" / ".hydra").mkdir(parents=True)
    (tmp_path / "cut" / "events.out.tfevents.1").touch()
    with caplog.at_level("INFO"):
        assert train(quick("cut", f"ckpt_path={tmp_path / 'cut'}"))["epochs"] == 2
    line = f"ckpt_path={tmp_path / 'cut'}: cut before its first checkpoint; starting anew"
    assert line in caplog.text


def optimizer_of(run: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(run / "checkpoints" / "last.ckpt")
    group: dict[str, Any] = checkpoint["optimizer_states"][0]["param_groups"][0]
    return group


def weights_of(run: Path) -> list[float]:
    checkpoint = read_checkpoint(run / "checkpoints" / "last.ckpt")
    return [x for tensor in checkpoint["state_dict"].values() for x in tensor.flatten().tolist()]


@pytest.mark.parametrize(
    ("word", "key", "expected", "inside"),
    [
        ("+optimizer.weight_decay=10", "weight_decay", 10, False),
        ("+optimizer.betas=[0.5,0.9]", "betas", (0.5, 0.9), False),
        ("optimizer.lr=0.1", "lr", 0.1, False),
        ("optimizer.lr=0.1", "lr", 0.1, True),
        ("schedule=cosine", "lr", pytest.approx(5e-4, abs=0), True),
        ("trainer.gradient_clip_val=1e-5", None, None, False),
    ],
)
def test_other_options_are_taken_over(
    word: str, key: str | None, expected: Any, inside: bool, quick: Compose, tmp_path: Path
) -> None:
    """As said: from the next step on, `inside` an epoch, the second of two, or at its end."""
    words = ("callbacks.checkpoint.every_n_train_steps=1", "data.batch_size=32")
    halt = "+callbacks.halt={_target_: test_resume.Halt, step: %d, error: MemoryError}"
    with pytest.raises(MemoryError):
        train(quick("cut", *words, halt % (9 if inside else 7)))
    shutil.copytree(tmp_path / "cut", tmp_path / "other")
    before = optimizer_of(tmp_path / "cut")
    for name, others in {"cut": (), "other": (word,)}.items():
        train(quick(name, *words, f"ckpt_path={tmp_path / name}", *others))
    after = optimizer_of(tmp_path / "other")
    if key is not None:
        assert (after[key], before[key]) != (before[key], expected)
        assert after[key] == expected
    assert weights_of(tmp_path / "cut") != weights_of(tmp_path / "other")
    assert optimizer_of(tmp_path / "cut") == before


@pytest.mark.parametrize(
    "word",
    ["+optimizer.amsgrad=true", "optimizer._target_=torch.optim.AdamW", "optimizer.fused=false"],
)
def test_what_the_state_of_an_optimizer_hangs_on_is_refused(
    word: str, short_run: Run, compose_config: Compose, tmp_path: Path
) -> None:
    words = (*SHORT, "trainer.max_epochs=9", f"ckpt_path={short_run.folder}", word)
    message = refused(ConfigError, compose_config(*words, f"run_dir={tmp_path / 'new'}"))
    key, value = word.lstrip("+").split("=")
    assert f"not the same flow, data and optimizer: {key}=" in message
    assert f"there, {value.capitalize() if value.islower() else value} here" in message


def test_options_that_a_foreign_callback_keeps_are_refused(quick: Compose, tmp_path: Path) -> None:
    """It may take them from the checkpoint. Without the callback a run may go on."""
    mine = f"{Halt.__module__}.Halt"
    words = [f"+callbacks.s={{_target_: {mine}, step: {v}, error: none}}" for v in (98, 99)]
    train(quick("first", words[0]))
    common = ("trainer.max_epochs=3", f"ckpt_path={tmp_path / 'first'}")
    message = refused(ConfigError, quick("second", words[1], *common))
    assert "callbacks.s.step=98 there, 99 here" in message
    assert train(quick("third", *common))["epochs"] == 3


@pytest.mark.parametrize("word", ["optimizer.lr=0.1", "trainer.gradient_clip_val=1"])
def test_a_finished_run_with_other_settings_is_not_this_one(
    word: str, short_run: Run, compose_config: Compose, tmp_path: Path
) -> None:
    """Nor one that is trained to its end, and has but its test to go."""
    shutil.copytree(short_run.folder, tmp_path / "cut")
    lose(tmp_path / "cut", "metrics.json")
    for folder in (short_run.folder, tmp_path / "cut"):
        words = (*SHORT, word, f"run_dir={tmp_path / 'new'}", f"ckpt_path={folder}")
        message = refused(ConfigError, compose_config(*words))
        assert "trained to its end with other settings: " + word.split("=")[0] in message


@pytest.mark.parametrize("name", ["metrics.json", "flow.safetensors"])
@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"{}")])
def test_a_finished_run_that_lost_a_result_makes_it_anew(
    name: str,
    spoil: Callable[[Path], object],
    short_run: Run,
    compose_config: Compose,
    tmp_path: Path,
) -> None:
    shutil.copytree(short_run.folder, tmp_path / "run")
    spoil(tmp_path / "run" / name)
    words = (*SHORT, *NO_PICTURES, f"run_dir={tmp_path / 'run'}", f"ckpt_path={tmp_path / 'run'}")
    assert same_run(train(compose_config(*words)), short_run.metrics)
    path = tmp_path / "run" / "flow.safetensors"
    assert path.read_bytes() == (short_run.folder / "flow.safetensors").read_bytes()


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("events.out.tfevents.1",),  # a stranger's
        ("events.out.tfevents.1.sweep", "multirun.yaml", "b/.hydra/x", "a/checkpoints/x"),
        (".hydra/config.yaml", "multirun.yaml", "b/.hydra/x", "a/checkpoints/x"),
        ("metrics.json", "model.pt"),
        (".hydra/config.yaml", "checkpoints/best.ckpt"),  # which is a checkpoint
    ],
)
def test_a_folder_that_is_not_a_run_is_refused(
    names: tuple[str, ...], quick: Compose, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    touch(folder, *names)
    message = refused(ConfigError, quick("new", f"ckpt_path={folder}"))
    assert message.startswith(f"ckpt_path={folder}: not the directory of one run")
    assert "\n" not in message
    if "multirun.yaml" in names:
        assert message.endswith(f"; runs in it: {folder}/a, {folder}/b")
    assert sorted(names) == sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_finished_run_takes_more_epochs_and_another_rate(
    schedule: str,
    compose_config: Compose,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    common = (*SHORT, *NO_PICTURES, f"schedule={schedule}")
    first = train(compose_config(*common, f"run_dir={tmp_path / 'first'}"))
    more = {}
    for rate in (1e-3, 1e-2):
        words = (f"run_dir={tmp_path / f'lr{rate}'}", f"ckpt_path={tmp_path / 'first'}")
        words += ("trainer.max_epochs=7", f"optimizer.lr={rate}")
        with caplog.at_level("INFO"):
            more[rate] = train(compose_config(*common, *words))
    assert [metrics["epochs"] for metrics in more.values()] == [7, 7]
    assert more[1e-2]["train/nll"] < more[1e-3]["train/nll"] < first["train/nll"]
    assert "optimizer.lr=0.001 there, 0.01 here, trainer.max_epochs=4 there, 7 here" in caplog.text


def refused(kind: type[Exception], cfg: DictConfig) -> str:
    with pytest.raises(kind) as error:
        train(cfg)
    assert not Path(cfg.run_dir).exists()
    return str(error.value)


def test_another_flow_or_other_data_are_refused_and_listed(
    short_run: Run, compose_config: Compose, tmp_path: Path
) -> None:
    common = (*SHORT, f"run_dir={tmp_path / 'new'}", f"ckpt_path={short_run.folder}")
    message = refused(ConfigError, compose_config(*common, "num_flows=6", "data.seed=1"))
    assert (
        "the same flow, data and optimizer: data.seed=None there, 1 here, num_flows=4 there"
        in message
    )
    assert "seed=0 there, 1 here" in refused(ConfigError, compose_config(*common, "seed=1"))


def test_values_from_elsewhere_are_compared_too(compose_config: Compose, tmp_path: Path) -> None:
    common = (*SHORT, *NO_PICTURES, "data.seed=${elsewhere}")
    train(compose_config(*common, "+elsewhere=1", f"run_dir={tmp_path / 'first'}"))
    words = ("+elsewhere=2", f"ckpt_path={tmp_path / 'first'}", "trainer.max_epochs=6")
    cfg = compose_config(*common, *words, f"run_dir={tmp_path / 'second'}")
    assert "a key that they take their values from" in refused(ConfigError, cfg)


def test_a_finished_run_says_so_and_is_left_alone(
    short_run: Run, compose_config: Compose, tmp_path: Path
) -> None:
    def state() -> dict[Path, tuple[int, bytes]]:
        files = [path for path in short_run.folder.rglob("*") if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    before = state()
    cfg = compose_config(*SHORT, f"run_dir={tmp_path / 'new'}", f"ckpt_path={short_run.folder}")
    assert "finished, 4 epochs; nothing to do" in refused(Finished, cfg)
    assert state() == before


def test_damage_is_noticed_wherever_it_is(short_run: Run, tmp_path: Path) -> None:
    """Any length that is cut off, and any bit of the file that is flipped."""
    whole = (short_run.folder / "checkpoints" / "last.ckpt").read_bytes()
    cut = tmp_path / "cut.ckpt"
    dice = random.Random(0)
    for length in (0, 1, 64, 100, len(whole) - 1, *dice.sample(range(len(whole)), 20)):
        cut.write_bytes(whole[:length])
        assert f"{cut}: damaged, or no checkpoint" in unreadable(cut)
    for position in dice.sample(range(8 * len(whole)), 2500):
        cut.write_bytes(flip(whole, position))
        assert "damaged, or no checkpoint" in unreadable(cut)
    cut.write_bytes(whole)
    read_checkpoint(cut)
    cut.write_bytes(b"")
    (tmp_path / "best.ckpt").write_bytes(whole)
    assert f"{tmp_path / 'best.ckpt'} is whole" in unreadable(cut)


def test_damage_to_the_table_of_contents_is_noticed(tmp_path: Path) -> None:
    """Each bit of it, in a checkpoint that is as small as they can be."""
    path = tmp_path / "small.ckpt"
    content = {"state_dict": {"weight": torch.ones(3)}, "optimizer_states": [], "callbacks": {}}
    content |= {"loops": {"fit_loop": {"epoch_progress": {"current": {"processed": 1}}}}}
    content |= {"flowlab": {"format": FORMAT, "config": {}, "identity": "x"}}
    whole = to_bytes(content)
    path.write_bytes(whole)
    assert torch.equal(read_checkpoint(path)["state_dict"]["weight"], torch.ones(3))
    for position in range(8 * whole.index(b"PK\x01\x02"), 8 * len(whole)):
        path.write_bytes(flip(whole, position))
        assert "damaged, or no checkpoint" in unreadable(path)


def test_archives_that_torch_would_misread_are_refused(short_run: Run, tmp_path: Path) -> None:
    """Though their SHA-256 is right: no checkpoint of flowlab's looks like them."""
    path = tmp_path / "odd.ckpt"
    whole = (short_run.folder / "checkpoints" / "last.ckpt").read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    twice = [*entries.items(), ("archive/data/0", entries["archive/data/0"])]

    def zipped(items: list[tuple[str, bytes]], kind: int, attributes: int) -> bytes:
        with zipfile.ZipFile(path, "w", kind) as archive, warnings.catch_warnings(action="ignore"):
            for name, data in items:
                archive.writestr(name, data)
            for entry in archive.infolist():
                entry.external_attr = attributes * (entry.filename == "archive/data/0")
        return seal(path.read_bytes())

    path.write_bytes(zipped(list(entries.items()), zipfile.ZIP_STORED, 0))
    read_checkpoint(path)
    for content, message in (
        (zipped(list(entries.items()), zipfile.ZIP_STORED, 16), "attributes"),
        (zipped(list(entries.items()), zipfile.ZIP_DEFLATED, 0), "compressed"),
        (zipped(twice, zipfile.ZIP_STORED, 0), "two entries of one name"),
    ):
        path.write_bytes(content)
        assert message in unreadable(path)


def test_contents_that_no_training_can_go_on_with_are_refused(
    short_run: Run, compose_config: Compose, tmp_path: Path
) -> None:
    path = tmp_path / "odd.ckpt"
    cfg = compose_config(
        *SHORT, "trainer.max_epochs=9", f"run_dir={tmp_path / 'new'}", f"ckpt_path={path}"
    )

    def expected() -> dict[str, Any]:
        return copy.deepcopy(read_checkpoint(short_run.folder / "checkpoints" / "last.ckpt"))

    for content in ({"state_dict": {}}, [1], expected() | {"flowlab": {"config": []}}):
        path.write_bytes(to_bytes(content))  # type: ignore[arg-type]
        assert "damaged, or no checkpoint" in refused(ModelFileError, cfg)
    for key in ("loops", "optimizer_states", "callbacks"):
        path.write_bytes(to_bytes({k: v for k, v in expected().items() if k != key}))
        assert key in refused(ModelFileError, cfg)
    path.write_bytes(to_bytes(expected() | {"flowlab": expected()["flowlab"] | {"format": 2}}))
    assert f"format 2; this version reads {FORMAT}" in refused(ModelFileError, cfg)
    weight = "replicates.only.flow.chain.0.weights.0.0"
    for keys in (
        ("state_dict", weight),
        ("callbacks", "Checkpoint", "best_weights", weight),
        ("optimizer_states", 0, "state", 0, "exp_avg"),
        ("optimizer_states", 0, "param_groups", 0, "lr"),
    ):
        checkpoint = holder = expected()
        for key in keys[:-1]:
            holder = holder[key]  # type: ignore[index]
        if keys[-1] == "lr":
            holder["lr"] = float("nan")
        else:
            holder[str(keys[-1])][0, 0, 0] = torch.nan
        path.write_bytes(to_bytes(checkpoint))
        message = refused(ModelFileError, cfg)
        place = "".join(f"[{key!r}]" for key in keys if key != "best_weights")
        assert f"not finite: {place}" in message
    path.write_bytes(to_bytes(expected() | {"state_dict": {}}))
    with pytest.raises(ModelFileError, match="not a checkpoint of this run"):
        train(cfg)


def unreadable(path: Path) -> str:
    with pytest.raises(ModelFileError) as error:
        read_checkpoint(path)
    return str(error.value)


def flip(content: bytes, bit: int) -> bytes:
    flipped = bytearray(content)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def test_an_environment_that_lets_checkpoints_run_code_is_refused(
    short_run: Run, compose_config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    cfg = compose_config(*SHORT, f"run_dir={tmp_path / 'new'}", f"ckpt_path={short_run.folder}")
    assert "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD is set" in refused(ConfigError, cfg)


def test_checkpoints_hold_plain_containers_only(short_run: Run) -> None:
    for name in ("best", "last"):
        path = short_run.folder / "checkpoints" / f"{name}.ckpt"
        checkpoint = torch.load(path, weights_only=True)
        assert checkpoint["flowlab"]["config"]["num_flows"] == 4

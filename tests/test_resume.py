"""Going on with a run: to the bit, or refused with a reason."""

import json
import random
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from conftest import NO_PICTURES, SHORT, Compose, Run, events
from omegaconf import DictConfig
from torch.utils._pytree import tree_leaves

from flowlab.errors import ConfigError, Finished, ModelFileError
from flowlab.experiment import train
from flowlab.resume import read_checkpoint

SCHEDULES = ["constant", "cosine", "onecycle"]
FILES = ("flow.safetensors", "plots/loss.png")


class Halt(pl.Callback):
    """A run that ends after a step of the training, as abruptly as a process can its own."""

    def __init__(self, step: int, error: str):
        self.step, self.error = step, error

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        if module.step >= self.step:
            raise {"KeyboardInterrupt": KeyboardInterrupt, "MemoryError": MemoryError}[self.error]


def same_run(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first | {"seconds": 0} == second | {"seconds": 0}


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several in an epoch of these few points."""
    monkeypatch.setattr("flowlab.data.CHUNK_SIZE", 64)


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
        for tag in ("train/nll", "val/nll", "test/kl"):
            curve = [(e.step, e.value) for e in events(tmp_path / name).Scalars(tag)]
            assert curve == [(e.step, e.value) for e in events(tmp_path / "whole").Scalars(tag)]
        steps = [image.step for image in events(tmp_path / name).Images("loss")]
        assert steps == [0, 2, 4, 6]


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


def test_a_run_without_a_checkpoint_yet_starts_anew(configuration: Compose, tmp_path: Path) -> None:
    (tmp_path / "cut" / ".hydra").mkdir(parents=True)
    assert train(configuration("cut", f"ckpt_path={tmp_path / 'cut'}"))["epochs"] == 6


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
    assert "not the same flow and data: data.seed=0 there, 1 here, num_flows=4 there" in message
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


def test_damage_is_noticed_wherever_it_is(
    short_run: Run, compose_config: Compose, tmp_path: Path
) -> None:
    whole = (short_run.folder / "checkpoints" / "last.ckpt").read_bytes()
    cut = tmp_path / "cut.ckpt"
    cfg = compose_config(
        *SHORT, "trainer.max_epochs=9", f"run_dir={tmp_path / 'new'}", f"ckpt_path={cut}"
    )
    dice = random.Random(0)
    for length in (0, 1, 100, len(whole) - 1, *dice.sample(range(len(whole)), 20)):
        cut.write_bytes(whole[:length])
        assert f"{cut}: damaged, or no checkpoint" in refused(ModelFileError, cfg)
    cut.write_bytes(whole)
    expected = read_checkpoint(cut)
    for position in dice.sample(range(len(whole)), 100):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << dice.randrange(8)
        cut.write_bytes(flipped)
        try:
            found = read_checkpoint(cut)
        except ModelFileError:
            continue
        # the archive's padding and dates hold nothing
        for a, b in zip(tree_leaves(found), tree_leaves(expected), strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    for content in ({"state_dict": {}}, [1], expected | {"flowlab": {"config": []}}):
        torch.save(content, cut)
        assert "damaged, or no checkpoint" in refused(ModelFileError, cfg)
    for key in ("loops", "optimizer_states", "callbacks"):
        torch.save({k: v for k, v in expected.items() if k != key}, cut)
        assert key in refused(ModelFileError, cfg)
    torch.save(expected | {"flowlab": expected["flowlab"] | {"format": 0}}, cut)
    assert "format 0; this version reads 2" in refused(ModelFileError, cfg)
    moments = expected["optimizer_states"][0]["state"][0]["exp_avg"]
    for tensor in (moments, expected["state_dict"]["flow.transforms.0.nets.0.weights.0"]):
        tensor[0, 0, 0] = torch.nan
        torch.save(expected, cut)
        assert "it holds numbers that are not finite" in refused(ModelFileError, cfg)
        tensor[0, 0, 0] = 0
    torch.save(expected | {"state_dict": {}}, cut)
    with pytest.raises(ModelFileError, match="not a checkpoint of this run"):
        train(cfg)
    cfg.run_dir = str(tmp_path / "newer")
    cut.write_bytes(b"")
    (tmp_path / "best.ckpt").write_bytes(whole)
    assert f"{tmp_path / 'best.ckpt'} is whole" in refused(ModelFileError, cfg)


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

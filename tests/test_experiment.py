"""Whole runs in process: what they write, what they resume, and what the figures mean."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import NO_PICTURES, SHORT, Compose, Run
from lightning.pytorch import Callback
from omegaconf import DictConfig
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from flowlab import load
from flowlab.config import ConfigError
from flowlab.data import ToyData
from flowlab.experiment import train

PICTURES = ("density", "surface", "samples", "grid", "loss", "latents")


def data_of(run: Run) -> ToyData:
    options = {key: value for key, value in run.cfg.data.items() if key != "_target_"}
    return ToyData(**options)


def test_metrics_are_those_of_the_exported_flow(short_run: Run) -> None:
    metrics, data, flow = short_run.metrics, data_of(short_run), load(short_run.folder)
    assert json.loads((short_run.folder / "metrics.json").read_text()) == metrics
    for split in ("train", "val", "test"):
        nll = -flow.log_prob(getattr(data, split)).double().mean().item()
        assert metrics[f"{split}/nll"] == pytest.approx(nll, abs=1e-5)
    entropy = -data.target.log_prob(data.test).double().mean().item()
    assert metrics["test/entropy"] == pytest.approx(entropy, abs=1e-5)
    assert metrics["test/kl"] == pytest.approx(metrics["test/nll"] - entropy, abs=1e-5)
    assert metrics["params"] == sum(p.numel() for p in flow.parameters())
    assert (metrics["status"], metrics["epochs"], metrics["seed"]) == ("completed", 4, 0)
    assert metrics["seconds"] > 0


def test_the_best_epoch_is_kept(compose_config: Compose, tmp_path: Path) -> None:
    """With a rate that is too high the last epoch is not the best."""
    cfg = compose_config(*SHORT, *NO_PICTURES, f"run_dir={tmp_path}", "optimizer.lr=0.1")
    cfg.trainer.max_epochs = 12
    metrics = train(cfg)
    scalars = events(tmp_path)
    curve = {event.step: event.value for event in scalars.Scalars("val/nll")}
    assert metrics["best_epoch"] == min(curve, key=lambda epoch: curve[epoch]) < 12
    assert metrics["val/nll"] == pytest.approx(min(curve.values()), abs=1e-5)


def test_the_run_directory_holds_what_is_promised(short_run: Run) -> None:
    files = {str(path.relative_to(short_run.folder)) for path in short_run.folder.rglob("*.*")}
    (event_file,) = [name for name in files if name.startswith("events.out.tfevents.")]
    assert files - {event_file} == {
        "metrics.json",
        "flow.safetensors",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        *(f"plots/{name}.png" for name in PICTURES),
    }
    for name in PICTURES:
        with Image.open(short_run.folder / "plots" / f"{name}.png") as image:
            assert image.size == (1000, 500)


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()


def test_tensorboard_gets_scalars_pictures_and_the_configuration(short_run: Run) -> None:
    read = events(short_run.folder)
    for tag in ("train/nll", "val/nll"):
        assert [event.step for event in read.Scalars(tag)] == [1, 2, 3, 4]
    for tag in ("test/nll", "test/kl", "train/nll_best", "val/nll_best"):
        (event,) = read.Scalars(tag)
        assert event.value == pytest.approx(short_run.metrics[tag.removesuffix("_best")], abs=1e-6)
    assert set(read.Tags()["images"]) == set(PICTURES)
    for name in PICTURES:
        images = read.Images(name)
        assert [image.step for image in images] == [0, 2, 4]
        png = (short_run.folder / "plots" / f"{name}.png").read_bytes()
        assert images[-1].encoded_image_string == png
    (text,) = read.Tensors("config/text_summary")
    assert "num_hidden: 8" in text.tensor_proto.string_val[0].decode()


def test_hparams_hold_real_values(short_run: Run) -> None:
    content = events(short_run.folder).summary_metadata
    start = metadata.parse_session_start_info_plugin_data(
        content[metadata.SESSION_START_INFO_TAG].plugin_data.content
    )
    assert start.hparams["num_flows"].number_value == 4
    assert start.hparams["optimizer.lr"].number_value == 1e-3
    assert start.hparams["flow.name"].string_value == "coupling"
    assert start.hparams["optimizer.fused"].bool_value is True
    assert "flow.num_flows" not in start.hparams  # follows num_flows
    assert '"seed"' not in start.group_name
    assert metadata.EXPERIMENT_TAG not in content


class Interrupt(Callback):
    """Ctrl-C at the end of an epoch."""

    def __init__(self, epoch: int):
        self.epoch = epoch

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        if trainer.current_epoch + 1 == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle"])
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(
    schedule: str, compose_config: Compose, tmp_path: Path
) -> None:
    def configuration(name: str, *overrides: str) -> DictConfig:
        common = (*SHORT, *NO_PICTURES, f"schedule={schedule}", "trainer.max_epochs=6")
        return compose_config(*common, f"run_dir={tmp_path / name}", *overrides)

    interrupt = "{_target_: test_experiment.Interrupt, epoch: 3}"
    with pytest.raises(SystemExit) as stop:
        train(configuration("cut", f"+callbacks.interrupt={interrupt}"))
    assert stop.value.code == 130
    cut = json.loads((tmp_path / "cut" / "metrics.json").read_text())
    assert cut["status"] == "interrupted"
    last = tmp_path / "cut" / "checkpoints" / "last.ckpt"
    whole = train(configuration("whole"))
    resumed = train(configuration("resumed", f"ckpt_path={tmp_path / 'cut'}"))
    again = train(configuration("again", f"ckpt_path={last}"))
    for metrics in (whole, resumed, again):
        del metrics["seconds"]
    assert whole == resumed == again
    flows = {
        (tmp_path / name / "flow.safetensors").read_bytes()
        for name in ("whole", "resumed", "again")
    }
    assert len(flows) == 1


@pytest.mark.parametrize("schedule", ["constant", "cosine", "onecycle"])
def test_a_finished_run_takes_more_epochs_and_another_rate(
    schedule: str, compose_config: Compose, tmp_path: Path
) -> None:
    common = (*SHORT, *NO_PICTURES, f"schedule={schedule}")
    first = train(compose_config(*common, f"run_dir={tmp_path / 'first'}"))
    assert first["epochs"] == 4
    more = {
        rate: train(
            compose_config(
                *common,
                f"run_dir={tmp_path / f'lr{rate}'}",
                f"ckpt_path={tmp_path / 'first'}",
                "trainer.max_epochs=7",
                f"optimizer.lr={rate}",
            )
        )
        for rate in (1e-3, 1e-2)
    }
    assert [metrics["epochs"] for metrics in more.values()] == [7, 7]
    assert more[1e-2]["train/nll"] < more[1e-3]["train/nll"] < first["train/nll"]


def test_pictures_change_nothing(short_run: Run, compose_config: Compose, tmp_path: Path) -> None:
    train(compose_config(*SHORT, *NO_PICTURES, "~callbacks.progress", f"run_dir={tmp_path}"))
    name = "flow.safetensors"
    assert (tmp_path / name).read_bytes() == (short_run.folder / name).read_bytes()
    assert not (tmp_path / "plots").exists()


def test_seeds_make_the_difference(short_run: Run, compose_config: Compose, tmp_path: Path) -> None:
    other = train(compose_config(*SHORT, *NO_PICTURES, "seed=1", f"run_dir={tmp_path}"))
    assert other["test/nll"] != short_run.metrics["test/nll"]
    assert other["test/entropy"] == short_run.metrics["test/entropy"]


def test_a_trained_flow_is_good_and_never_better_than_the_truth(
    compose_config: Compose, tmp_path: Path
) -> None:
    """The KL is above -4 standard errors (fails by chance 3 times in 10^5) and below 0.06 nats."""
    cfg = compose_config("experiment=fast", *NO_PICTURES, f"run_dir={tmp_path}")
    run = Run(cfg, train(cfg), tmp_path)
    data, flow = data_of(run), load(tmp_path)
    gap = (data.target.log_prob(data.test) - flow.log_prob(data.test)).double()
    assert -4 * gap.std() / math.sqrt(len(gap)) < gap.mean() < 0.06
    nll = -flow.log_prob(data.test).double()
    assert nll.mean() > data.target.entropy - 4 * nll.std() / math.sqrt(len(nll))


def test_a_checkpoint_of_another_flow_or_a_damaged_one_is_refused(
    short_run: Run, compose_config: Compose, tmp_path: Path
) -> None:
    def refused(*overrides: str) -> str:
        with pytest.raises(ConfigError) as error:
            train(compose_config(*SHORT, f"run_dir={tmp_path / 'new'}", *overrides))
        assert not (tmp_path / "new").exists()
        return str(error.value)

    message = refused(f"ckpt_path={short_run.folder}", "num_flows=6")
    assert "num_flows=4 there, 6 here" in message
    assert "already has 4 epochs" in refused(f"ckpt_path={short_run.folder}")
    whole = (short_run.folder / "checkpoints" / "last.ckpt").read_bytes()
    cut = tmp_path / "cut.ckpt"
    for length in (0, 100, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:length])
        assert "is damaged or no checkpoint" in refused(f"ckpt_path={cut}")
    torch.save({"state_dict": {}}, cut)
    assert "is damaged or no checkpoint" in refused(f"ckpt_path={cut}")


def test_checkpoints_hold_plain_containers_only(short_run: Run) -> None:
    for name in ("best", "last"):
        path = short_run.folder / "checkpoints" / f"{name}.ckpt"
        assert torch.load(path, weights_only=True)["flow"]["num_flows"] == 4

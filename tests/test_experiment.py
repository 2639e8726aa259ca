"""Whole runs in process: what they write, what they resume, and what the figures mean."""

import json
import os
from pathlib import Path

import pytest
import torch
from conftest import NO_PICTURES, SHORT, Compose, Run, events
from PIL import Image
from scipy import stats
from tensorboard.plugins.hparams import metadata

from flowlab import load
from flowlab.data import Data, Points, toy
from flowlab.experiment import take_threads, train
from flowlab.targets import Bimodal

PICTURES = ("density", "surface", "samples", "grid", "loss", "latents")


def data(seed: int = 0) -> Data:
    return toy("bimodal", 200, 100, 500, seed)


def test_metrics_are_those_of_the_exported_flow(short_run: Run) -> None:
    metrics, points, flow = short_run.metrics, data(), load(short_run.folder)
    assert json.loads((short_run.folder / "metrics.json").read_text()) == metrics
    for split in ("train", "val", "test"):
        nll = -flow.log_prob(getattr(points, split).x).double().mean().item()
        assert metrics[f"{split}/nll"] == pytest.approx(nll, abs=1e-5)
    nll = -flow.log_prob(points.test.x).detach().double().numpy()
    assert metrics["test/nll_stderr"] == pytest.approx(stats.sem(nll), rel=1e-5)
    assert metrics["test/entropy"] == pytest.approx(1.9216, abs=1e-4)
    assert metrics["params"] == sum(p.numel() for p in flow.parameters())
    assert (metrics["status"], metrics["epochs"], metrics["seed"]) == ("completed", 4, 0)
    assert metrics["seconds"] > 0


def test_the_kl_is_that_of_a_million_other_points(short_run: Run) -> None:
    """Within 4 standard errors of their mean: fails by chance 6 times in 10^5."""
    metrics, flow, target = short_run.metrics, load(short_run.folder), Bimodal()
    x = target.sample(1_000_000, torch.Generator().manual_seed(0))
    ratio = (target.log_prob(x) - flow.log_prob(x).detach()).double()
    stderr = float(ratio.std()) / 1000
    assert metrics["test/kl_error"] < 1e-4
    assert metrics["test/kl"] == pytest.approx(float(ratio.mean()), abs=4 * stderr + 1e-4)


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
    curves, result = sorted(name for name in files if name.startswith("events.out.tfevents."))
    assert result.endswith(".result")
    assert files - {curves, result} == {
        "metrics.json",
        "flow.safetensors",
        "test_log_prob.npy",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "plots/density.gif",
        *(f"plots/{name}.png" for name in PICTURES),
    }
    for name in PICTURES:
        with Image.open(short_run.folder / "plots" / f"{name}.png") as image:
            assert image.width == 1000


def test_tensorboard_gets_scalars_pictures_and_the_configuration(short_run: Run) -> None:
    read = events(short_run.folder)
    for tag in ("train/nll", "val/nll"):
        assert [event.step for event in read.Scalars(tag)] == [1, 2, 3, 4]
    for tag in ("test/nll", "test/kl", "train/nll_best", "val/nll_best"):
        assert [event.step for event in read.Scalars(tag)] == [0, 4]  # a level, and no single dot
        value = short_run.metrics[tag.removesuffix("_best")]
        assert [e.value for e in read.Scalars(tag)] == pytest.approx([value] * 2, abs=1e-6)
    assert set(read.Tags()["images"]) == {"density.gif", *PICTURES}
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
    assert start.hparams["flow"].string_value == "coupling"
    assert start.hparams["optimizer.fused"].bool_value is True
    assert "flow.num_flows" not in start.hparams  # follows num_flows
    assert metadata.EXPERIMENT_TAG not in content


def test_pictures_change_nothing(short_run: Run, compose_config: Compose, tmp_path: Path) -> None:
    train(compose_config(*SHORT, *NO_PICTURES, "~callbacks.progress", f"run_dir={tmp_path}"))
    name = "flow.safetensors"
    assert (tmp_path / name).read_bytes() == (short_run.folder / name).read_bytes()
    assert not (tmp_path / "plots").exists()


def test_seeds_make_the_difference(short_run: Run, compose_config: Compose, tmp_path: Path) -> None:
    other = train(compose_config(*SHORT, *NO_PICTURES, "seed=1", f"run_dir={tmp_path}"))
    assert other["test/nll"] != short_run.metrics["test/nll"]
    assert other["test/entropy"] == short_run.metrics["test/entropy"]


@pytest.mark.parametrize(("words", "seed"), [(("seed=1",), 1), (("seed=1", "data.seed=7"), 7)])
def test_the_points_follow_the_seed_unless_they_have_their_own(
    words: tuple[str, ...], seed: int, compose_config: Compose, tmp_path: Path
) -> None:
    metrics = train(compose_config(*SHORT, *NO_PICTURES, *words, f"run_dir={tmp_path}"))
    nll = -load(tmp_path).log_prob(data(seed).val.x).detach().mean()
    assert metrics["val/nll"] == pytest.approx(float(nll), abs=1e-5)


def test_a_trained_flow_is_good_and_never_better_than_the_truth(
    compose_config: Compose, tmp_path: Path
) -> None:
    metrics = train(compose_config("experiment=fast", *NO_PICTURES, f"run_dir={tmp_path}"))
    assert 0 < metrics["test/kl"] < 0.06
    gap = metrics["test/nll"] - metrics["test/entropy"] - metrics["test/kl"]
    assert abs(gap) < 4 * metrics["test/nll_stderr"]  # fails by chance 6 times in 10^5


def columns(num: int, seed: int, context: bool = False) -> Data:
    """Three columns, of which nothing is known, and a fourth perhaps that they depend on."""
    mixing = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -0.5], [0.0, 0.0, 2.0]])
    splits = []
    for split in range(3):
        g = torch.Generator().manual_seed(10 * seed + split)
        c = torch.randn(num, 1, generator=g)
        x = torch.randn(num, 3, generator=g) @ mixing + 3 * context * c
        splits.append(Points(x, c if context else None))
    return Data(splits[0], splits[1], splits[2], ("a", "b", "c"))


@pytest.mark.parametrize(("context", "replicates"), [(False, 1), (True, 2)])
def test_columns_without_a_known_truth_run_to_the_end(
    context: bool, replicates: int, compose_config: Compose, tmp_path: Path
) -> None:
    """With all callbacks; those that suit the plane alone are silent, and there is no KL."""
    cfg = compose_config(
        *SHORT, f"run_dir={tmp_path}", f"replicates={replicates}", "optimizer.lr=1e-2"
    )
    keys = {"_target_": "test_experiment.columns", "num": 300, "context": context}
    cfg.data = keys | {"batch_size": 32, "seed": None}
    cfg.trainer.max_epochs = 30
    metrics, flow = train(cfg), load(tmp_path)
    assert not [name for name in metrics if "kl" in name or "entropy" in name]
    best = metrics.get("best_replicate", 0)
    points = columns(300, best, context)
    nll = -flow.log_prob(*points.test).detach()
    expected = metrics["replicates"]["test/nll"][best] if replicates > 1 else metrics["test/nll"]
    assert expected == pytest.approx(float(nll.mean()), abs=1e-5)
    if context:
        other = -flow.log_prob(points.test.x, points.test.context.flip(0)).mean()  # type: ignore[union-attr]
        assert other > nll.mean() + 1
    pictures = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert pictures == {"pairs", "quantiles", "loss", "latents"}
    scalars = events(tmp_path).Tags()["scalars"]
    assert "test/nll" in scalars
    assert "test/kl" not in scalars


def test_a_conditional_target_is_learned_given_its_context(
    compose_config: Compose, tmp_path: Path
) -> None:
    """A flow that knew nothing of the context would be at 1.2 nats."""
    words = ("experiment=fast", "data.target=turning", "data.num_train=4000", "num_flows=4")
    cfg = compose_config(*words, "pictures.every_n_epochs=99", f"run_dir={tmp_path}")
    metrics, flow = train(cfg), load(tmp_path)
    assert 0 < metrics["test/kl"] < 0.6
    assert flow.sample(3, context=torch.zeros(5, 1)).shape == (3, 5, 2)
    pictures = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert pictures == {"samples", "loss", "latents"}


def test_more_threads_than_cores_are_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    before = torch.get_num_threads()
    take_threads(3)
    assert torch.get_num_threads() == 3
    take_threads(2)
    torch.set_num_threads(before)
    (record,) = caplog.records
    assert record.getMessage() == "warning: num_threads=3: slow, for this machine has 2 cores"

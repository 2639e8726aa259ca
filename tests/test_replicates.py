"""Replicates are the single runs of their seeds, and one run in everything else."""

import functools
import json
import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from conftest import NO_PICTURES, SHORT, Compose
from scipy import stats
from test_command_line import run
from test_sweep import results

from flowlab import load
from flowlab.data import Points, toy
from flowlab.errors import ConfigError, DataError, NonFiniteError
from flowlab.experiment import train
from flowlab.flows import build_flow
from flowlab.training.data import DataModule
from flowlab.training.module import Training
from flowlab.training.objectives import Likelihood

QUICK = (*SHORT, *NO_PICTURES, "data.batch_size=32", "optimizer.lr=1e-2")
METRICS = ("train/nll", "val/nll", "test/nll", "test/kl")


@pytest.mark.parametrize("words", [(), ("trainer.gradient_clip_val=0.5",), ("schedule=cosine",)])
def test_each_replicate_is_the_run_of_its_seed(
    words: tuple[str, ...], compose_config: Compose, tmp_path: Path
) -> None:
    def folder(name: object) -> str:
        return f"run_dir={tmp_path / str(name)}"

    together = train(compose_config(*QUICK, *words, "replicates=3", "seed=5", folder("all")))
    alone = [train(compose_config(*QUICK, *words, f"seed={s}", folder(s))) for s in (5, 6, 7)]
    for name in METRICS:
        values = [metrics[name] for metrics in alone]
        assert together["replicates"][name] == pytest.approx(values, abs=1e-4)
        assert together[name] == pytest.approx(np.mean(values), abs=1e-4)
        assert together[f"{name}_stderr"] == pytest.approx(stats.sem(values), abs=1e-4)
    best = min(range(3), key=lambda i: alone[i]["val/nll"])
    assert together["best_replicate"] == best
    assert together["replicates"]["test/kl"][best] == pytest.approx(
        alone[best]["test/kl"], abs=1e-4
    )
    weights = [load(tmp_path / name).state_dict() for name in ("all", str(5 + best))]
    torch.testing.assert_close(*weights, atol=1e-4, rtol=1e-3)
    points = [np.load(tmp_path / name / "test_log_prob.npy") for name in ("all", str(5 + best))]
    np.testing.assert_allclose(*points, atol=1e-3)
    assert together["test/sha256"] == alone[best]["test/sha256"]
    assert together["params"] == alone[0]["params"]


class Halt(pl.Callback):
    """Within the second epoch of four steps."""

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, *args: Any) -> None:
        if module.step == 6:
            raise MemoryError


def test_cut_replicates_go_on_to_the_same_end(
    compose_config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowlab.training.data.CHUNK_SIZE", 64)
    words = (
        *SHORT,
        "replicates=3",
        "~callbacks.grid",
        "callbacks.checkpoint.every_n_train_steps=1",
    )
    whole = train(compose_config(*words, f"run_dir={tmp_path / 'whole'}"))
    cut = (*words, f"run_dir={tmp_path / 'cut'}")
    with pytest.raises(MemoryError):
        train(compose_config(*cut, "+callbacks.halt={_target_: test_replicates.Halt}"))
    resumed = train(compose_config(*cut, f"ckpt_path={tmp_path / 'cut'}"))
    assert resumed | {"seconds": 0} == whole | {"seconds": 0}
    names = {path.name for path in (tmp_path / "cut" / "plots").iterdir()}
    pictures = {f"{n}.png" for n in ("density", "surface", "samples", "loss", "latents")}
    assert names == pictures | {"density.gif"}
    with pytest.raises(ConfigError, match="replicates=3 there, 2 here"):
        train(compose_config(*cut, "replicates=2", f"ckpt_path={tmp_path / 'cut'}"))


def test_one_replicate_that_runs_away_is_named(compose_config: Compose, tmp_path: Path) -> None:
    words = (*QUICK, "replicates=3", "optimizer.lr=1e15", "flow.bound=100")
    with pytest.raises(NonFiniteError, match=r"replicate \d \(seed=\d\): step .* is not finite"):
        train(compose_config(*words, f"run_dir={tmp_path / 'run'}"))


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("what", ["a point", "a weight", "a gradient", "an overflow", "two"])
def test_the_replicate_that_went_wrong_is_named(what: str, index: int) -> None:
    flows = [build_flow("coupling", 2, bound=200.0) for _ in range(3)]
    data = DataModule([toy("bimodal", 1, 1, 1, seed) for seed in range(3)], 1, range(3))
    rest: Any = {"optimizer": None, "schedule": None, "clip": None, "patience": None}
    module = Training(
        flows, Likelihood(), data, seed=5, config={}, identity="", compile=False, **rest
    )
    stacked = module.replicates.stacked
    batch = torch.randn(3, 10, 2, generator=torch.Generator().manual_seed(0))
    last_biases = stacked[-1].data
    assert last_biases.shape[:2] == (3, 4)
    expected = "is not finite, and first the parameter chain.0.weights.0.5"
    if what == "a point":
        batch[index, 4] = torch.tensor([7.5, math.inf])
        expected = "step 9: the point [7.5, inf] of the training data is not finite"
    elif what == "a weight":
        last_biases[index, 1] = math.nan
    elif what == "a gradient":
        stacked[-1].grad = torch.zeros_like(last_biases)
        stacked[-1].grad[index, 1] = math.nan
        expected = "first the gradient of chain.0.weights.0.5"
    elif what == "an overflow":
        last_biases[index, 2, 0] = 1000.0
        point = [round(value, 4) for value in batch[index, 0].tolist()]
        expected = f"first the output of layer 3 of 4, at the point {point}"
    else:  # the first of several
        last_biases[index:, 1] = math.nan
    error = module.diagnose("the loss", Points(batch), 9)
    assert isinstance(error, DataError if what == "a point" else NonFiniteError)
    assert str(error).startswith(f"replicate {index} (seed={5 + index}): step 9: ")
    assert expected in str(error)


def test_the_exported_flow_is_the_best_on_the_validation_points(
    compose_config: Compose, tmp_path: Path
) -> None:
    cfg = compose_config(*QUICK, "replicates=4", f"run_dir={tmp_path}")
    metrics = train(cfg)
    flow, data = load(tmp_path), toy("bimodal", 200, 100, 500, metrics["best_replicate"])
    with torch.no_grad():
        nll = float(-flow.log_prob(data.val.x).mean())
    assert nll == pytest.approx(min(metrics["replicates"]["val/nll"]), abs=1e-5)


@pytest.mark.long
def test_a_sweep_takes_its_error_bars_from_replicates(
    train_command: list[str], tmp_path: Path
) -> None:
    words = ("-m", "num_flows=2,3", "replicates=3", *QUICK, "hydra.sweep.dir=s")
    result = run(train_command, *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = (tmp_path / "s" / "results.md").read_text().splitlines()
    names, _, *rows = ([word.strip() for word in line.split("|")] for line in lines[:4])
    cells = {row[names.index("num_flows")]: dict(zip(names, row, strict=True)) for row in rows}
    for row in results(tmp_path / "s"):
        metrics = json.loads((tmp_path / row["directory"] / "metrics.json").read_text())
        kls = metrics["replicates"]["test/kl"]
        cell = cells[row["num_flows"]]
        assert int(cell["seeds"]) == len(kls) == 3
        assert cell["test/kl"] == f"{np.mean(kls):.4f} ± {stats.sem(kls):.4f}"


def test_a_compiled_training_gives_the_same_numbers(
    compose_config: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the fast backend: whether inductor's code is right is for torch to test."""
    compiled = []

    def compile(*args: Any) -> Any:
        compiled.append(args)
        return functools.partial(torch_compile, backend="aot_eager")(*args)

    torch_compile = torch.compile
    monkeypatch.setattr(torch, "compile", compile)
    plain = train(compose_config(*QUICK, f"run_dir={tmp_path / 'plain'}"))
    assert not compiled
    other = train(compose_config(*QUICK, "compile=true", f"run_dir={tmp_path / 'compiled'}"))
    assert compiled
    assert other["test/kl"] == pytest.approx(plain["test/kl"], abs=1e-4)


class NoSynchronisation(pl.Callback):
    """Makes CUDA raise where the host would wait for the device."""

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        if trainer.current_epoch > 0:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_end(self, *args: Any) -> None:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("replicates", [1, 3])
def test_a_gpu_runs_the_same_experiment_and_waits_for_no_step(
    replicates: int, compose_config: Compose, tmp_path: Path
) -> None:
    words = (*SHORT, "data.batch_size=32", f"replicates={replicates}")
    words += ("trainer.gradient_clip_val=5",)
    watch = "+callbacks.watch={_target_: test_replicates.NoSynchronisation}"
    gpu = train(compose_config(*words, watch, "trainer=gpu", f"run_dir={tmp_path / 'gpu'}"))
    cpu = train(compose_config(*words, f"run_dir={tmp_path / 'cpu'}"))
    assert gpu["test/kl"] == pytest.approx(cpu["test/kl"], abs=1e-3)

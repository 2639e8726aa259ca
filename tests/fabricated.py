"""Folders of runs that were never run, so that what a report must say is known beforehand."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from flowlab import export
from flowlab.flows import Flow, build_flow

CONFIG: dict[str, Any] = {
    "num_flows": 2,
    "num_hidden": 3,
    "seed": 0,
    "replicates": 1,
    "num_threads": 1,
    "ckpt_path": None,
    "run_dir": "${hydra:runtime.output_dir}",
    "data": {
        "_target_": "flowlab.training.data.ToyData",
        "target": "bimodal",
        "num_train": 100,
        "batch_size": 10,
        "seed": "${seed}",
    },
    "flow": {"name": "coupling", "num_flows": "${num_flows}", "num_hidden": "${num_hidden}"},
    "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-3},
    "schedule": {"_target_": "flowlab.training.schedules.constant", "_partial_": True},
    "callbacks": {
        "checkpoint": {"_target_": "flowlab.callbacks.Checkpoint", "every_n_train_steps": None},
        "density": {"_target_": "flowlab.callbacks.Density", "every_n_epochs": 25},
    },
}


def fabricate(
    folder: Path, *words: str, dim: int = 2, status: str = "completed", **figures: Any
) -> Path:
    """A run's folder, as a run with these settings and figures would have left it."""
    config = OmegaConf.merge(CONFIG, OmegaConf.from_dotlist(list(words)))
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(config, folder / ".hydra" / "config.yaml")
    metrics = {"status": status, "params": 10, "seconds": 1.0, "val/nll": 2.0, "test/nll": 2.0}
    metrics |= {"test/kl": 0.1}
    metrics |= {re.sub("^(val|test)_", r"\1/", name): value for name, value in figures.items()}
    metrics = {name: value for name, value in metrics.items() if value is not None}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    if status == "completed":
        export.save(exported(dim), folder / "flow.safetensors")
    return folder


@cache
def exported(dim: int) -> Flow:
    return build_flow("coupling", dim, num_flows=2, num_hidden=2)


def cell(root: Path, word: str, kls: list[float], first_seed: int = 0, **figures: Any) -> None:
    """One run for each KL, with the seeds from `first_seed` on."""
    for seed, kl in enumerate(kls, first_seed):
        fabricate(root / f"{word},seed={seed}", word, f"seed={seed}", test_kl=kl, **figures)


def with_points(folder: Path, log_prob: Any, digest: str = "same") -> Path:
    """A run's folder with log-densities of test points, whose NLL becomes its own."""
    values = np.asarray(log_prob, np.float32)
    np.save(folder / "test_log_prob.npy", values)
    metrics = json.loads((folder / "metrics.json").read_bytes())
    nll = -float(values.mean(dtype=np.float64))
    metrics |= {"test/sha256": digest, "test/nll": nll, "val/nll": nll}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


FAMILIES = {"coupling": (4, 1e-3), "planar": (32, 5e-3), "spline": (5, 2e-3)}
SETS = {"bimodal": (2000, 100), "checkerboard": (20000, 40)}


def family(
    root: Path, flow: str, data: str, nlls: list[float], *words: str, **figures: Any
) -> Path:
    """A run whose flow and data set bring settings of their own, with a KL a tenth of its NLL."""
    (depth, lr), (points, epochs) = FAMILIES[flow], SETS.get(data, (300, 60))
    chosen = (f"flow.name={flow}", f"num_flows={depth}", f"optimizer.lr={lr}", f"flow.of_{flow}=1")
    drawn = (f"data.target={data}", f"data.num_train={points}", f"trainer.max_epochs={epochs}")
    kls = [nll / 10 for nll in nlls]
    replicates = {"val/nll": nlls, "test/nll": nlls} | (
        {} if "test_kl" in figures else {"test/kl": kls}
    )
    name = f"{flow}-{data}{len(words)}"
    return fabricate(root / name, *chosen, *drawn, *words, replicates=replicates, **figures)

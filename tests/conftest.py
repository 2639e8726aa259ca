"""What the tests share: composing configurations, and one short run to look at from all sides."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from flowlab.commands.sweep import _cells

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run side by side, one on each core

ROOT = Path(__file__).resolve().parent.parent

Compose = Callable[..., DictConfig]


@pytest.fixture(scope="session")
def compose_config() -> Iterator[Compose]:
    """compose_config("num_flows=8", ...): the configuration that the command line would give."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield lambda *overrides: compose("train", list(overrides))


def cells_of(words: Sequence[str]) -> Iterator[tuple[list[str], Callable[[], DictConfig]]]:
    """What the command line makes of these words: the cells of a sweep, or the one run, to compose.

    Within `compose_config`, whose configurations they are of.
    """
    loader, flags = GlobalHydra.instance().config_loader(), [w for w in words if w[0] == "-"]
    words = [word for word in words if word not in flags]
    load = partial(loader.load_configuration, "train", words)
    config = load(RunMode.MULTIRUN, validate_sweep_overrides=False)
    if "-m" in flags or config.hydra.mode == RunMode.MULTIRUN:
        yield from (
            (cell, partial(loader.load_sweep_config, config, cell)) for cell in _cells(config)
        )
    else:
        yield words, partial(load, RunMode.RUN)


SHORT = (
    "trainer.max_epochs=4",
    "data.num_train=200",
    "data.num_val=100",
    "data.num_test=500",
    "pictures.every_n_epochs=2",
)
NO_PICTURES = tuple(
    f"~callbacks.{name}"
    for name in (
        *("density", "film", "samples", "pairs", "quantiles", "grid", "images", "loss", "latents"),
    )
)


class Run(NamedTuple):
    cfg: DictConfig
    metrics: dict[str, Any]
    folder: Path


@pytest.fixture(scope="session")
def short_run(compose_config: Compose, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of four epochs, with all its callbacks."""
    from flowlab.experiment import train

    folder = tmp_path_factory.mktemp("run")
    cfg = compose_config(*SHORT, f"run_dir={folder}")
    return Run(cfg, train(cfg), folder)


@pytest.fixture(scope="session")
def train_command() -> list[str]:
    return [sys.executable, str(ROOT / "train.py")]


def events(folder: Path) -> EventAccumulator:
    """A run's event files, read by TensorBoard's own reader."""
    return EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()

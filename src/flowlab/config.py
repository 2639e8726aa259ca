"""What a configuration may say, checked before anything is made, and mostly without torch."""

import fnmatch
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf


class ConfigError(ValueError):
    """A user's mistake: one line that names the key, what was got and what is allowed."""


Rule = tuple[Callable[[Any], bool], str]


def _whole(least: int) -> Rule:
    return lambda v: type(v) is int and v >= least, f"a whole number of at least {least}"


def _one_of(*choices: str | int, why: str = "") -> Rule:
    return lambda v: v in choices, " or ".join(map(str, choices)) + why


_positive: Rule = (
    lambda v: type(v) in (int, float) and 0 < v < math.inf,
    "a positive number",
)

RULES: dict[str, Rule] = {
    "num_flows": _whole(1),
    "num_hidden": _whole(1),
    "num_threads": _whole(1),
    "seed": _whole(0),
    "data.num_*": _whole(1),
    "data.batch_size": _whole(1),
    "data.*seed": _whole(0),
    "flow.bound": _positive,
    "optimizer.lr": _positive,
    "trainer.accelerator": _one_of("cpu", "gpu"),
    "trainer.devices": _one_of(1, why=" (a run is one process)"),
    "trainer.max_epochs": _whole(1),
    "trainer.check_val_every_n_epoch": _one_of(1, why=" (the best epoch is kept)"),
    "trainer.limit_val_batches": _positive,
    "callbacks.*.every_n_epochs": _whole(1),
    "callbacks.*.num_*": _whole(1),
    "callbacks.*.resolution": _whole(2),
}


def flatten(container: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dictionaries under dotted keys.

    >>> dict(flatten({"a": 1, "b": {"c": 2}}))
    {'a': 1, 'b.c': 2}
    """
    for key, value in container.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def validate(cfg: DictConfig) -> None:
    """Check a composed configuration against `RULES`, the machine and its checkpoint.

    Raises ConfigError at the first mistake.
    """
    if missing := {"data", "flow", "optimizer", "schedule", "trainer"} - cfg.keys():
        raise ConfigError(f"{', '.join(sorted(missing))}: missing; a run needs one")
    keys = [key for key, _ in flatten(OmegaConf.to_container(cfg))]
    for pattern, (allows, allowed) in RULES.items():
        for key in fnmatch.filter(keys, pattern):
            value = OmegaConf.select(cfg, key)
            if not allows(value):
                got = "null" if value is None else value
                raise ConfigError(f"{key}={got}: expected {allowed}")
    if cfg.trainer.accelerator == "gpu":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError("trainer.accelerator=gpu: this machine has no usable GPU; use cpu")
    if cfg.ckpt_path is not None:
        _check_resume(cfg, checkpoint_file(cfg.ckpt_path))


def checkpoint_file(ckpt_path: Any) -> Path:
    """The file that `ckpt_path`, a run directory or a .ckpt, stands for."""
    path = Path(str(ckpt_path))
    if path.is_dir():
        path = path / "checkpoints" / "last.ckpt"
    if not path.is_file():
        raise ConfigError(
            f"ckpt_path={ckpt_path}: no such file; expected a run directory or a .ckpt file"
        )
    return path


def _check_resume(cfg: DictConfig, path: Path) -> None:
    import torch

    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        before, epochs = checkpoint["flow"], checkpoint["epoch"] + 1
    except Exception as error:  # torch.load raises whatever the damage happens to trip over
        raise ConfigError(
            f"ckpt_path={cfg.ckpt_path}: {path} is damaged or no checkpoint of flowlab"
        ) from error
    flow = {str(key): value for key, value in cfg.flow.items()}
    different = [
        f"{k}={before.get(k)} there, {v} here" for k, v in flow.items() if before.get(k) != v
    ]
    if different:
        raise ConfigError(f"ckpt_path={cfg.ckpt_path}: not the same flow: {'; '.join(different)}")
    if epochs >= cfg.trainer.max_epochs:
        raise ConfigError(
            f"trainer.max_epochs={cfg.trainer.max_epochs}: {path} already has {epochs} epochs"
        )

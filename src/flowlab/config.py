"""What a configuration may say, checked before anything is made, and mostly without torch."""

import fnmatch
import math
from collections.abc import Callable, Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from flowlab.errors import ConfigError

Rule = tuple[Callable[[Any], bool], str]


def _whole(least: int) -> Rule:
    return lambda v: type(v) is int and v >= least, f"a whole number of at least {least}"


def _one_of(*choices: str | int, why: str = "") -> Rule:
    return lambda v: v in choices, " or ".join(map(str, choices)) + why


_positive: Rule = (
    lambda v: type(v) in (int, float) and 0 < v < math.inf,
    "a positive number",
)

_share: Rule = (
    lambda v: type(v) in (int, float) and 0 < v < 1,
    "a number between 0 and 1",
)


def _optional(rule: Rule) -> Rule:
    allows, allowed = rule
    return lambda v: v is None or allows(v), f"{allowed} or null"


RULES: dict[str, Rule] = {
    "num_flows": _whole(1),
    "num_hidden": _whole(1),
    "num_threads": (lambda v: type(v) is int and 0 < v <= 1024, "a whole number from 1 to 1024"),
    "seed": _whole(0),
    "replicates": _whole(1),
    "compile": _one_of(True, False),
    "data.num_*": _whole(1),
    "data.batch_size": _whole(1),
    "data.seed": _optional(_whole(0)),
    "data.order_seed": _whole(0),
    "flow.bound": _positive,
    "optimizer.lr": _positive,
    "optimizer.fused": _one_of(True, False),
    "schedule.warmup": _share,
    "schedule.start": _share,
    "trainer.accelerator": _one_of("cpu", "gpu"),
    "trainer.precision": _one_of(32, "32-true", why=" (the data's)"),
    "trainer.devices": _whole(1),
    "trainer.num_nodes": _one_of(1, why=" (a run is on one machine)"),
    "trainer.strategy": _one_of("auto", "ddp"),
    "trainer.max_epochs": _whole(1),
    "trainer.max_steps": _one_of(-1, why=" (a run counts epochs: trainer.max_epochs)"),
    "trainer.check_val_every_n_epoch": _one_of(1, why=" (the best epoch is kept)"),
    "trainer.val_check_interval": _one_of(1, why=" (the best epoch is kept)"),
    "trainer.limit_train_batches": _one_of(1, why=" (fewer points: data.num_train)"),
    "trainer.limit_val_batches": _one_of(0, 1, why=" (fewer points: data.num_val)"),
    "trainer.limit_test_batches": _one_of(1, why=" (fewer points: data.num_test)"),
    "trainer.accumulate_grad_batches": _one_of(1, why=" (raise data.batch_size)"),
    "trainer.gradient_clip_algorithm": _one_of("norm"),
    "trainer.gradient_clip_val": _optional(_positive),
    "callbacks.*.every_n_epochs": _whole(1),
    "callbacks.*.every_n_train_steps": _optional(_whole(1)),
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

    Raises ConfigError at the first mistake, and what `flowlab.resume.check_resume` raises.
    """
    if missing := {"data", "flow", "optimizer", "schedule", "trainer"} - cfg.keys():
        raise ConfigError(f"{', '.join(sorted(missing))}: missing; a run needs one")
    if "max_epochs" not in cfg.trainer:
        raise ConfigError("trainer.max_epochs: missing; a run needs one")
    keys = [key for key, _ in flatten(OmegaConf.to_container(cfg))]
    for pattern, (allows, allowed) in RULES.items():
        for key in fnmatch.filter(keys, pattern):
            value = OmegaConf.select(cfg, key)
            if not allows(value):
                got = "null" if value is None else value
                raise ConfigError(f"{key}={got}: expected {allowed}")
    if cfg.trainer.devices > 1 and cfg.trainer.get("strategy") != "ddp":
        raise ConfigError(f"trainer.devices={cfg.trainer.devices}: add trainer=ddp")
    if cfg.trainer.devices > 1 and cfg.replicates > 1:
        raise ConfigError(f"replicates={cfg.replicates}: expected 1 with trainer.devices > 1")
    if cfg.trainer.accelerator == "gpu":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError("trainer.accelerator=gpu: this machine has no usable GPU; use cpu")
        if (devices := cfg.trainer.devices) > (found := torch.cuda.device_count()):
            raise ConfigError(f"trainer.devices={devices}: this machine has {found} GPUs")
    if cfg.ckpt_path is not None:
        from flowlab.resume import check_resume

        check_resume(cfg)

"""What a configuration may say, checked before anything is made, and mostly without torch."""

import difflib
import fnmatch
import re
from collections.abc import Iterator
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from flowlab import processes
from flowlab.errors import ConfigError
from flowlab.rules import DATA_RULES, RULES

# where a run is, and where its parts are found, not what it is
INCIDENTAL = ("name", "ckpt_path", "run_dir", "hydra.", "extensions")
ROOT = {key.partition(".")[0] for key in RULES} | {"objective", "ckpt_path", "run_dir"}
OPTIONAL = {"name", "callbacks", "extensions", "num_flows", "num_hidden"}


def run_or_cell(run: Any, cell: Any) -> Any:
    """A value for a run by itself, and another for the cells of a sweep."""
    return cell if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN else run


OmegaConf.register_new_resolver("run_or_cell", run_or_cell, replace=True)


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
    """Check a composed configuration against `RULES` and the machine.

    Raises ConfigError at the first mistake.
    """
    check_keys(cfg)
    _check_words(cfg)
    values = dict(flatten(OmegaConf.to_container(cfg)))
    own = DATA_RULES.get(str(values.get("data._target_")), {})
    for pattern, (allows, allowed) in (RULES | own).items():
        for key in fnmatch.filter(values, pattern):
            value = values[key]  # of a column too, whose name may be no key of OmegaConf's
            if "${" in str(value):
                value = OmegaConf.select(cfg, key)
                value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            if not allows(value):
                got = "null" if value is None else value
                raise ConfigError(f"{key}={got}: expected {allowed}")
    if (several := processes.count(cfg) > 1) and cfg.trainer.get("strategy") != "ddp":
        counts = f"trainer.devices={cfg.trainer.devices} trainer.num_nodes={cfg.trainer.num_nodes}"
        raise ConfigError(f"{counts}: for several processes add trainer=ddp")
    if several and cfg.replicates > 1:
        raise ConfigError(f"replicates={cfg.replicates}: expected 1 with trainer.devices > 1")
    if cfg.trainer.accelerator == "gpu":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError("trainer.accelerator=gpu: this machine has no usable GPU; use cpu")
        if (devices := cfg.trainer.devices) > (found := torch.cuda.device_count()):
            raise ConfigError(f"trainer.devices={devices}: this machine has {found} GPUs")


def _check_words(cfg: DictConfig) -> None:
    """Check that a run from the command line, whose configuration has Hydra's, is in its folder.

    And that its flow is chosen, with its options: a name alone would have those of another.
    """
    if "hydra" not in cfg:
        return
    for word in cfg.hydra.overrides.task:
        if word.lstrip("+").startswith("flow.name="):
            hint = f"has the options of another; choose flow={cfg.flow.name}, which brings its own"
            raise ConfigError(f"{word}: {hint}")
    run_dir = dict(flatten(OmegaConf.to_container(cfg)))["run_dir"]
    if run_dir != "${hydra:runtime.output_dir}":
        key = "hydra.sweep.dir" if cfg.hydra.get("mode") == RunMode.MULTIRUN else "hydra.run.dir"
        raise ConfigError(f"run_dir={run_dir}: is what Hydra makes it; set {key} instead")


def check_keys(cfg: DictConfig) -> None:
    """Check which keys there are at the root and under `trainer`, both of which are closed.

    A key of one's own is welcome at the root if another value is taken from it.
    """
    if missing := ROOT - OPTIONAL - cfg.keys():
        raise ConfigError(f"{', '.join(sorted(missing))}: missing; a run needs one")
    for group in {pattern.partition(".")[0] for pattern in RULES if "." in pattern} & cfg.keys():
        if not isinstance(cfg[group], DictConfig):
            raise ConfigError(f"{group}={cfg[group]}: expected a group; see python train.py --help")
    container = OmegaConf.to_container(cfg)
    for key in map(str, cfg):
        if key in ("experiment", "sweep"):
            hint = f"the first line of a file in conf/{key} must be # @package _global_"
            raise ConfigError(f"{key}: no such key; {hint}")
        if key not in ROOT | {"hydra"} and not _is_used(key, container):
            hint = near(key, container) or "no value is taken from it; see python train.py --help"
            raise ConfigError(f"{key}: no such key; {hint}")
    known = [pattern for pattern in RULES if pattern.startswith("trainer.")]
    for name in cfg.trainer:
        if (key := f"trainer.{name}") not in known:
            available = near(key, container) or f"available: {', '.join(known[1:])}"
            raise ConfigError(f"{key}: no such key; {available}")
    if missing := {"accelerator", "devices", "max_epochs"} - cfg.trainer.keys():
        raise ConfigError(f"trainer.{min(missing)}: missing; a run needs one")


def _is_used(name: str, container: Any) -> bool:
    """Whether a value of the configuration, or of Hydra's own, is interpolated from a root key."""
    values = [value for _, value in flatten(container)]
    if HydraConfig.initialized():
        values += [value for _, value in flatten(OmegaConf.to_container(HydraConfig.get()))]
    pattern = re.compile(r"\$\{\s*\.*" + re.escape(name) + r"\s*[}.\[]")
    return any(pattern.search(str(value)) for value in values)


def near(key: str, container: Any) -> str:
    """A question that names keys that look like this one, as a whole or in their last part."""
    named: dict[str, list[str]] = {}
    for leaf, value in flatten(container):
        ours = leaf != key and not leaf.startswith((f"{key}.", "hydra."))
        if ours and not leaf.endswith("_") and not str(value).startswith("${"):
            parent = leaf.rpartition(".")[0]
            for name, full in ((leaf, leaf), (leaf.rpartition(".")[2], leaf), (parent, parent)):
                named.setdefault(name, []).append(full)
    found = difflib.get_close_matches(key, named, n=2, cutoff=0.75)
    keys = list(dict.fromkeys(full for name in found for full in named[name]))[:3]
    return f"did you mean {' or '.join(keys)}?" if keys else ""

"""What a configuration may say, checked before anything is made, and mostly without torch."""

import difflib
import fnmatch
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from flowlab import processes
from flowlab.errors import ConfigError

Rule = tuple[Callable[[Any], bool], str]


def _whole(least: int) -> Rule:
    return lambda v: type(v) is int and v >= least, f"a whole number of at least {least}"


def _one_of(*choices: str | int, why: str = "") -> Rule:
    return lambda v: v in choices, " or ".join(map(str, choices)) + why


_positive: Rule = lambda v: type(v) in (int, float) and 0 < v < math.inf, "a positive number"
_share: Rule = lambda v: type(v) in (int, float) and 0 < v < 1, "a number between 0 and 1"
_names: Rule = (
    lambda v: isinstance(v, list) and 0 < len(v) <= 8 and len(set(map(str, v))) == len(v),
    "one to eight names of columns, as in [a,b],",
)


def _are_modules(value: Any) -> bool:
    names = value if isinstance(value, list) else [None]
    return all(isinstance(n, str) and all(map(str.isidentifier, n.split("."))) for n in names)


def _optional(rule: Rule) -> Rule:
    return lambda v: v is None or rule[0](v), f"{rule[1]} or null"


NAME = re.compile(r"\w[\w.+-]{0,99}")  # that a folder can end in
RULES: dict[str, Rule] = {
    "name": _optional((lambda v: bool(NAME.fullmatch(str(v))), "letters, digits, ., _, + or -")),
    "num_flows": _whole(1),
    "num_hidden": _whole(1),
    "num_threads": (lambda v: type(v) is int and 0 < v <= 1024, "a whole number from 1 to 1024"),
    "seed": _whole(0),
    "replicates": _whole(1),
    "compile": _one_of(True, False),
    "extensions": (_are_modules, "a list of modules, as [my_flow]"),
    "data.num_*": _whole(1),
    "data.batch_size": _whole(1),
    "data.dim": _optional(_whole(1)),
    "data.seed": _optional(_whole(0)),
    "flow.bound": _positive,
    "objective.num_*": _whole(1),
    "objective.annealing": (lambda v: type(v) in (int, float) and 0 <= v <= 1, "0 to 1"),
    "optimizer.lr": _positive,
    "optimizer.fused": _one_of(True, False),
    "schedule.warmup": _share,
    "schedule.start": _share,
    "trainer._target_": _one_of("lightning.pytorch.Trainer"),
    "trainer.accelerator": _one_of("cpu", "gpu"),
    "trainer.devices": _whole(1),
    "trainer.num_nodes": _whole(1),
    "trainer.strategy": _one_of("auto", "ddp"),
    "trainer.max_epochs": _whole(1),
    "trainer.gradient_clip_val": _optional(_positive),
    "trainer.patience": _optional(_whole(1)),
    "pictures.every_n_epochs": _optional(_whole(1)),
    "callbacks.*.every_n_epochs": _optional(_whole(1)),
    "callbacks.*.every_n_train_steps": _optional(_whole(1)),
    "callbacks.*.num_*": _whole(1),
    "callbacks.*.resolution": _whole(2),
    "callbacks.*.columns": _optional(_names),
    "callbacks.*.logging_interval": _optional(_one_of("step", why=" (written once an epoch)")),
}
_columns: Rule = (
    lambda v: v is None or (isinstance(v, list) and all(type(n) in (str, int) for n in v)),
    "names of columns, as [a,b], or null",
)


def _is_interval(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 2):
        return False
    return all(type(end) in (int, float) and abs(end) < math.inf for end in value) and (
        value[0] < value[1]
    )


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and value not in ("", "???")


_logit: Rule = (
    lambda v: v is None or (type(v) is float and 0 < v < 0.5),
    "a number between 0 and 0.5, as 0.05, or null",
)
TABLE_RULES: dict[str, Rule] = {
    "data.path": (_is_path, "the path of a file with columns, as data.path=my.csv"),
    "data.columns": _columns,
    "data.drop": _columns,
    "data.context": _columns,
    "data.split": (
        lambda v: (
            isinstance(v, list)
            and len(v) == 3
            and all(type(share) in (int, float) and share > 0 for share in v)
            and math.isclose(sum(v), 1, abs_tol=1e-6)
        ),
        "three positive shares whose sum is 1, as [0.8,0.1,0.1]",
    ),
    "data.val_path": _optional((_is_path, "the path of a file")),
    "data.test_path": _optional((_is_path, "the path of a file")),
    "data.header": _one_of("auto", True, False),
    "data.rows": _optional(_whole(1)),
    "data.missing": _one_of("error", "drop"),
    "data.support": (
        lambda v: v is None or v == {},
        "supports of columns, as {income: positive, share: [0, 1]}",
    ),
    "data.support.*": (
        lambda v: v == "positive" or _is_interval(v),
        "positive or [low, high], two numbers",
    ),
    "data.noise": (lambda v: v is None or v == {}, "widths for columns, as {rooms: 1}"),
    "data.noise.*": _positive,
}
IMAGE_RULES: dict[str, Rule] = {"data.logit": _logit, "data.binary": _one_of(True, False)}
IMAGE_PATH = "the path of a folder or of an .npz, as data.path=mnist"
MAF = ("power", "gas", "hepmass", "miniboone", "bsds300")
MAF_RULES: dict[str, Rule] = {"data.path": (_is_path, "the path of a folder, as data.path=data")}
# of these `data._target_` alone; data of one's own may have keys of these names
DATA_RULES = {
    "flowlab.data.table": TABLE_RULES,
    "flowlab.data.digits": IMAGE_RULES,
    "flowlab.data.images": IMAGE_RULES | {"data.path": (_is_path, IMAGE_PATH)},
    **{f"flowlab.data.maf_{name}": MAF_RULES for name in MAF},
}
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

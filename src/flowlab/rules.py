"""What the values of a configuration may be, by key; the rules of single keys, without torch."""

import math
import re
from collections.abc import Callable
from typing import Any

Rule = tuple[Callable[[Any], bool], str]


def _whole(least: int, most: int = 2**53) -> Rule:
    """Up to what floats hold exactly, in which JSON and TensorBoard keep it, if not less."""
    end = "2^53" if most == 2**53 else most
    return lambda v: type(v) is int and least <= v <= most, f"a whole number from {least} to {end}"


def _one_of(*choices: str | int) -> Rule:
    return lambda v: v in choices, " or ".join(map(str, choices))


_positive: Rule = lambda v: type(v) in (int, float) and 0 < v < math.inf, "a positive number"
_share: Rule = lambda v: type(v) in (int, float) and 0 < v < 1, "a number between 0 and 1"
_names: Rule = (
    lambda v: isinstance(v, list) and 0 < len(v) <= 8 and len(set(map(str, v))) == len(v),
    "one to eight names of columns, as in [a,b],",
)


def _is_module(name: Any) -> bool:
    return isinstance(name, str) and all(part.isidentifier() for part in name.split("."))


def _optional(rule: Rule) -> Rule:
    return lambda v: v is None or rule[0](v), f"{rule[1]} or null"


IN_TURN = 10_000  # layers, of which a step takes one after the other

NAME = re.compile(r"\w[\w.+-]{0,99}")  # that a folder can end in
RULES: dict[str, Rule] = {
    "name": _optional(
        (lambda v: bool(NAME.fullmatch(str(v))), "letters, digits, after the first also ._+-,")
    ),
    "num_flows": _whole(1, IN_TURN),
    "num_hidden": _whole(1),
    "num_threads": _whole(1, 1024),
    "seed": _whole(0),
    "replicates": _whole(1),
    "compile": _one_of(True, False),
    "extensions": (
        lambda v: isinstance(v, list) and all(map(_is_module, v)),
        "a list of modules, as [my_flow]",
    ),
    "data.num_*": _whole(1),
    "data.batch_size": _whole(1),
    "data.dim": _optional(_whole(1, 10**6)),
    "data.seed": _optional(_whole(0)),
    "flow.bound": _positive,
    **{f"flow.num_{name}": _whole(1, 1000) for name in ("hidden_layers", "reflections", "steps")},
    "flow.num_levels": _whole(1, 16),
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
    "callbacks.*.num_samples": _whole(1, 10**6),
    "callbacks.*.num_lines": _whole(1, 1000),
    "callbacks.*.num_images": _whole(1, 1000),
    "callbacks.*.resolution": _whole(2, 1000),
    "callbacks.*.columns": _optional(_names),
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
    "data.columns": (lambda v: v != [] and _columns[0](v), _columns[1]),
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

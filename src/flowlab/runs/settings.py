"""What of a saved configuration may change a result, and how to call it when runs are compared."""

import hashlib
import json
import re
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from flowlab.config import INCIDENTAL, flatten

# `INCIDENTAL` is where a run is; threads change no result, and over seeds results are averaged
NO_SETTING = (*INCIDENTAL, "seed", "replicates", "num_threads", "pictures.", "sweep")
LONG = 200  # signs of a value


def settings_of(config: dict[str, Any]) -> dict[str, Any]:
    """What in a configuration may change a result; interpolations stay as they are written.

    Of the callbacks these are strangers, and the one that keeps the best weights. A key that is
    null is as good as none.
    """
    found = {}
    for key, value in flatten(config):
        last = key.rpartition(".")[2]
        if value is None:
            continue
        if key.startswith("callbacks."):
            callback = config["callbacks"][key.split(".")[1]] or {}
            target = str(callback.get("_target_", ""))
            ours = target.startswith("flowlab.callbacks.")
            if not target or (ours and not (target.endswith(".Checkpoint") and last == "_target_")):
                continue
        if not key.startswith(NO_SETTING) and (last == "_target_" or not last.startswith("_")):
            found[key] = value
    return found


def follows(value: Any) -> str | None:
    """The key that a value is an interpolation of, if it is one.

    >>> follows("${num_flows}"), follows("128")
    ('num_flows', None)
    """
    match = re.fullmatch(r"\$\{([\w.]+)\}", str(value))
    return match and match[1]


def resolved(settings: dict[str, Any], key: str) -> Any:
    """The value of a key, of one that follows what is no setting, the seed, in these words.

    >>> resolved({"a": "${b}", "b": 2}, "a"), resolved({"data.seed": "${seed}"}, "data.seed")
    (2, 'as seed')
    """
    value, passed = settings[key], {key}
    while (other := follows(value)) in settings.keys() - passed:
        passed.add(str(other))
        value = settings[str(other)]
    return f"as {other}" if other else value


def trial_id(settings: dict[str, Any]) -> str:
    """A name for settings, and for what TensorBoard calls a trial: equal where they are."""
    exact = json.dumps({key: text(resolved(settings, key)) for key in sorted(settings)})
    return hashlib.sha256(exact.encode()).hexdigest()[:8]


def title(key: str) -> str:
    """What to call a key: a part of a run by its group.

    >>> title("schedule._target_"), title("flow.name"), title("optimizer.lr")
    ('schedule', 'flow', 'optimizer.lr')
    """
    return "flow" if key == "flow.name" else key.removesuffix("._target_")


def short(key: str, value: str) -> str:
    """What to call a value: a part of a run by the last of its names, a long one by its digest.

    >>> short("schedule._target_", "flowlab.training.schedules.cosine")
    'cosine'
    """
    if len(value) > LONG:
        return f"{value[: LONG - 20]}… {hashlib.sha256(value.encode()).hexdigest()[:8]}"
    return value.rpartition(".")[2] if key.endswith("_target_") else value


def text(value: Any) -> str:
    """A value as text, the same for equal numbers.

    >>> text(True), text(1.0), text(1), text(1e-3)
    ('true', '1', '1', '0.001')
    """
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def rounded(value: str) -> str:
    """A value with at most four digits, for reading.

    >>> rounded("0.01605191133358762"), rounded("128"), rounded("cosine")
    ('0.01605', '128', 'cosine')
    """
    try:
        return value if len(value) < 6 else f"{float(value):.4g}"
    except ValueError:
        return value


def hparams(cfg: DictConfig) -> tuple[str, dict[str, bool | float | str]]:
    """The name of a run's settings, as in the table of a report, and those that follow no other."""
    found = settings_of(cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=False)))
    return trial_id(found), {
        title(key): value if isinstance(value, int | float) else short(key, str(value))
        for key, value in found.items()
        if not follows(value)
    }

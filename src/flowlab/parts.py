"""The check of what only the parts of a run know: their keys, the targets, the flow's options."""

import importlib
import inspect
import math
import re
from collections.abc import Iterable
from typing import Any, cast

import lightning.pytorch as pl
import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig
from omegaconf.errors import InterpolationKeyError
from torch import Tensor

from flowlab.config import near
from flowlab.errors import ConfigError
from flowlab.flows.transform import ShapeError
from flowlab.sizes import SIDE, Shape, check_size
from flowlab.targets import Unnormalized, build_target
from flowlab.training.objectives import Objective

OWN = {"data": ["batch_size"], "trainer": ["patience"]}  # the loop's
PARTIAL = ("optimizer", "schedule")
BINARY = "objective=elbo is for images of zeros and ones; choose data=digits or data=images"


def import_extensions(modules: Iterable[str]) -> None:
    """Import modules of the user's own, for what they add to `FLOWS`, `TARGETS` or `CONDITIONAL`.

    Raises ConfigError for one that is not there, and with what goes wrong in it.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever the module does
            reason = f"{type(error).__name__}: {error}"
            if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
                reason = "no such module, neither installed nor in the working directory"
            raise ConfigError(f"extensions=[{name}]: {reason}") from error


def check_parts(cfg: DictConfig) -> None:
    """Check the classes and functions that a configuration names, and the size of what they make.

    Raises ConfigError.
    """
    for group in ("data", "objective", "optimizer", "schedule", "trainer"):
        _check_part(group, cfg[group])
    _check_optimizer(cfg.optimizer, cfg.trainer.accelerator)
    _check_schedule(cfg.schedule)
    for name, values in cfg.get("callbacks", {}).items():
        if values is not None:
            _check_callback(f"callbacks.{name}", values)
    if "name" not in cfg.flow:
        raise ConfigError("flow.name: missing; choose a flow, as flow=coupling")
    for key in ("shape", "context", "support"):
        if key in cfg.flow:
            raise ConfigError(f"flow.{key}: no such key; a flow has that of its data")
    shapes: list[Shape] = [(2,), (SIDE, SIDE)]  # of data that are not known before
    context, target = 0, None
    if "target" in cfg.data:
        try:
            target = build_target(cfg.data.target, cfg.data.get("dim"))
        except ValueError as error:
            raise ConfigError(f"data.{error}") from error
        shapes, context = [(target.dim,)], getattr(target, "context", 0)
    objective = _objective(cfg)
    if isinstance(target, Unnormalized):
        _check_density(target, cfg.data.target, objective)
    for shape in shapes:
        try:
            return check_size(cfg, objective, shape, context)
        except ShapeError as error:
            said = error
    hint = "choose another flow, or such data, as data=digits has images"
    raise ConfigError(f"flow={cfg.flow.name}: {said}; {hint}") from said


def _check_part(group: str, values: Any) -> Any:
    """The class or function of a group, which must take all of its keys."""
    if not isinstance(values, DictConfig) or "_target_" not in values:
        raise ConfigError(f"{group}: expected keys, and with them a _target_")
    try:
        part = get_object(values["_target_"])
        parameters = inspect.signature(part).parameters
    except Exception as error:  # whatever a name that leads nowhere runs into
        raise ConfigError(f"{group}._target_={values['_target_']}: {error}") from error
    if group == "optimizer" and _needs_closure(part):
        raise ConfigError(
            f"{group}._target_={values['_target_']}: a step of it asks for the loss several times, "
            "by a closure, and flowlab's loop has none; choose another, as torch.optim.AdamW"
        )
    known = [p.name for p in parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    needed = [key for key in known if parameters[key].default is inspect._empty]
    own = OWN.get(group, [])
    private = ["_target_", "_partial_"] if group in PARTIAL else ["_target_"]
    for key in map(str, values):
        if key not in known + own + private and len(known) == len(parameters):
            named = known[group in PARTIAL :] + own  # the loop gives those their first
            hint = near(key, dict.fromkeys(named)) or f"available: {', '.join(named)}"
            said = BINARY if (group, key) == ("data", "binary") else f"no such key; {hint}"
            raise ConfigError(f"{group}.{key}: {said}")
    needed += own if group == "data" else []
    needed = [*private, *needed[1:]] if group in PARTIAL else needed  # the loop gives the first
    for key in needed:
        if key not in values:
            raise ConfigError(f"{group}.{key}: missing")
    return part


def _needs_closure(optimizer: Any) -> bool:
    step = getattr(optimizer, "step", None)
    closure = inspect.signature(step).parameters.get("closure") if step else None
    return closure is not None and closure.default is inspect._empty


def _check_optimizer(values: DictConfig, accelerator: str) -> None:
    """Make one, of a parameter for nothing, and take a step where the training takes it."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    try:
        optimizer = instantiate(values)([parameter])
        optimizer.defaults["lr"]  # which the schedule multiplies
        if accelerator == "cpu":
            optimizer.step()
    except Exception as error:  # whatever the class does
        said = " ".join(f"{error.__cause__ or error}".split())
        own = {str(key): re.compile(rf"\b{str(key).rstrip('s')}s?\b", re.I) for key in values}
        named = [f"optimizer.{key}={values[key]}" for key in own if own[key].search(said)]
        raise ConfigError(f"{' '.join(named) or 'optimizer'}: {said}") from error


def _check_schedule(values: DictConfig) -> None:
    """Ask it for the first factor, and one on the way."""
    schedule, named = instantiate(values), f"schedule._target_={values['_target_']}"
    for progress in (0.0, 0.5):
        try:
            factor = schedule(progress)
        except Exception as error:  # whatever the function does
            raise ConfigError(f"{named}: {type(error).__name__}: {error}") from error
        if not isinstance(factor, int | float) or not 0 <= factor < math.inf:
            raise ConfigError(f"{named}: expected a factor on optimizer.lr, got {factor!r}")


def _objective(cfg: DictConfig) -> Objective[Any]:
    try:
        for key in ("target", "dim"):
            if key in cfg.objective and (own := cfg.objective[key]) != cfg.data.get(key):
                hint = f"expected that of the data; leave it, and set data.{key}"
                raise ConfigError(f"objective.{key}={own}: {hint}")
        return cast(Objective[Any], instantiate(cfg.objective))
    except InterpolationKeyError as error:
        raise ConfigError(
            "objective.target=${data.target}: there is none; this objective needs a density that "
            "can be evaluated, as data=toy data.target=u1 has one"
        ) from error
    except InstantiationException as error:
        raise ConfigError(f"objective: {error.__cause__ or error}") from error


def _check_density(target: Unnormalized, name: str, objective: Objective[Any]) -> None:
    """Check what a function of the user's own gives, and that it is enough."""
    said = f"data.target={name}"
    if not objective.generates:
        raise ConfigError(f"{said}: can be evaluated but not drawn from; add objective=reverse_kl")
    num = 3 if target.dim != 3 else 4  # to tell sums over points from those over coordinates
    x = torch.zeros(num, target.dim, requires_grad=True)
    try:
        log_density = target.log_density(x)
    except Exception as error:  # whatever the function does
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConfigError(f"{said}: of points {tuple(x.shape)}: {reason}") from error
    if not isinstance(log_density, Tensor) or log_density.shape != (num,):
        is_tensor = isinstance(log_density, Tensor)
        got = f"shape {tuple(log_density.shape)}" if is_tensor else type(log_density).__name__
        raise ConfigError(
            f"{said}: of points {tuple(x.shape)} expected log-densities ({num},), got {got}"
        )
    if not log_density.requires_grad:
        raise ConfigError(f"{said}: has no gradient; it must be computed by torch from the points")


def _check_callback(group: str, values: Any) -> None:
    callback = _check_part(group, values)
    named = f"{group}._target_={values['_target_']}"
    if not (isinstance(callback, type) and issubclass(callback, pl.Callback)):
        raise ConfigError(f"{named}: expected a Callback of Lightning")
    if callback.__module__.startswith("lightning."):
        raise ConfigError(
            f"{named}: does not work with flowlab's loop, which steps the optimizer, saves, stops "
            "early (trainer.patience) and logs rates (callbacks.rates) by itself"
        )

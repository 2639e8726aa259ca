"""How much memory a run needs, found out at small sizes, and how much there is."""

import itertools
import math
import os
import resource
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from flowlab.errors import ConfigError
from flowlab.flows import FLOWS, Flow
from flowlab.flows.transform import ShapeError
from flowlab.training.objectives import Objective

TRIED = (4, 8, 16)  # the sizes at which those are looked at that are larger
FEW = 1000  # points of a batch: a step keeps less for them than there are weights
MOST_LARGE = 3  # sizes that are larger at once: one more takes three times as long
MOST_MADE = 1024  # of each size of a flow that cannot be had at those that are tried
# of a parameter: itself, its gradient, Adam's two moments and its best value; and, while they are
# written, of what a checkpoint has, all but the gradient, a copy and four of its bytes
COPIES = 25
SIDE = 64  # of an image that any flow of images can have
DRAWN = 2  # of a point, itself and what it is drawn, split or stacked from
ONE = Fraction(1)
Shape = tuple[int, ...]
Sizes = dict[str, int]
Bytes = tuple[int, int]  # of a flow's parameters, and of what a step keeps for a point


def check_size(cfg: DictConfig, objective: Objective[Any], shape: Shape, context: int) -> None:
    """Check that a run fits into the memory, without making it, and that its flow can train.

    What is larger than the sizes of `TRIED` is not made: bytes are polynomials of the second
    degree in each size, as matrices and what is there once for each layer are, and three points
    say which. A flow that cannot be had in such sizes, as heads may have to divide a width, is made
    as it is to be, unless that is large. Raises ShapeError for a flow that is of no such points,
    and ConfigError.
    """
    sizes, batch = _sizes(cfg, shape), min(cfg.data.batch_size, cfg.data.get("num_train", 1))

    def train(tried: Sizes) -> None:
        _, loss = _model(cfg, objective, tried, shape, context)
        torch.autograd.backward(loss(2), torch.ones(2))  # two, for which a shape can be wrong

    def measure(tried: Sizes) -> Bytes:
        model, loss = _model(cfg, objective, tried, shape, context)
        step = _kept(loss, 2) - _kept(loss, 1) if batch > FEW else 0
        return sum(p.nbytes for p in model.parameters()), step

    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
            weights, step = _measured(sizes, train, measure)
    except ShapeError:
        raise
    except (ValueError, RuntimeError, OverflowError) as error:
        raise ConfigError(f"flow: {' '.join(str(error).split())[:200]}") from error
    except Exception as error:
        if FLOWS[cfg.flow.name].__module__.startswith("flowlab."):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConfigError(f"flow={cfg.flow.name}: {reason}, in a flow of your own") from error
    splits = {f"data.num_{k}": cfg.data.get(f"num_{k}", 0) for k in ("train", "val", "test")}
    sets = 1 if cfg.data.get("seed") is not None else cfg.replicates
    needs = {
        "num_hidden, num_flows or replicates": COPIES * cfg.replicates * weights,
        "data.batch_size": batch * cfg.replicates * step,
        max(splits, key=lambda key: splits[key]): (
            4 * DRAWN * sets * (math.prod(shape) + context) * sum(splits.values())
        ),
    }
    need, has = sum(needs.values()), memory()
    if need > has:
        raise ConfigError(
            f"flow and data need {need / 2**30:.3g} GiB and there are {has / 2**30:.3g}; "
            f"lower {max(needs, key=lambda key: needs[key])}"
        )


def memory() -> int:
    """The bytes that a process may take: the machine's, or those of its cgroup or its ulimit."""
    page = os.sysconf("SC_PAGE_SIZE")
    limits = [page * os.sysconf("SC_PHYS_PAGES")]
    for file in _cgroups():
        with suppress(OSError, ValueError):  # of no such file, and of "max"
            limits.append(int(file.read_text()))
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        with suppress(OSError):  # of what libraries have taken already, it tells nowhere else
            soft -= page * int(Path("/proc/self/statm").read_text().split()[0])
        limits.append(max(0, soft))
    return min(limits)


def _cgroups() -> Iterator[Path]:
    """The files in which the limits of this process's cgroups may be, of both versions."""
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds in ("", "memory"):
                root = Path("/sys/fs/cgroup", kinds)
                folder = root / path.lstrip("/")
                name = "memory.limit_in_bytes" if kinds else "memory.max"
                for part in (folder, *folder.parents):
                    if part.is_relative_to(root):
                        yield part / name


def _sizes(cfg: DictConfig, shape: Shape) -> Sizes:
    """What sets the size of a flow, by key: numbers of something, and that of a vector."""
    sizes = {"data.dim": shape[0]} if len(shape) == 1 else {}
    for group in ("flow", "objective"):
        for key, value in cfg[group].items():
            if str(key).startswith("num_") and type(value) is int:
                sizes[f"{group}.{key}"] = value
    return sizes


def _model(
    cfg: DictConfig, objective: Objective[Any], sizes: Sizes, shape: Shape, context: int
) -> tuple[Any, Callable[[int], Tensor]]:
    """What is trained, made in such sizes, and the loss of so many points, (N,), or its like."""
    shape = (sizes["data.dim"],) if len(shape) == 1 else shape
    if own := _of("objective", sizes):
        objective = instantiate(cfg.objective, **own)
    options: Mapping[str, Any] = {**cfg.flow, **_of("flow", sizes)}
    levels = {"levels": 2 if cfg.data.get("binary") else 256, "logit": None}
    model = objective.build(options, shape, context, levels if len(shape) > 1 else None)

    def loss(num: int) -> Tensor:
        x, given = torch.zeros(num, *shape), torch.zeros(num, context) if context else None
        if not isinstance(model, Flow):
            return objective.loss(model, x, given)
        if objective.generates:  # its loss may ask a function of the user's own
            return model.inverse(x.flatten(1), given)[1]
        return model.log_prob(x, given)

    return model, loss


def _of(group: str, sizes: Sizes) -> Sizes:
    return {key.partition(".")[2]: v for key, v in sizes.items() if key.startswith(f"{group}.")}


def _kept(loss: Callable[[int], Tensor], num: int) -> int:
    """The bytes of all tensors that autograd keeps for the loss of so many points."""
    kept = set()

    def keep(tensor: Tensor) -> Tensor:
        kept.add(tensor.untyped_storage())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss(num)
    return sum(storage.nbytes() for storage in kept)


def _measured(
    sizes: Sizes, train: Callable[[Sizes], None], measure: Callable[[Sizes], Bytes]
) -> tuple[float, float]:
    """What `measure` gives for such sizes, of what `train` has found to be trainable."""
    try:
        train({key: min(size, TRIED[0]) for key, size in sizes.items()})
        return _extrapolated(sizes, measure)
    except ShapeError:
        raise
    except Exception:  # whatever a flow of the user's own does
        if max(sizes.values(), default=0) > MOST_MADE:
            raise
    train(sizes)
    return measure(sizes)


def _extrapolated(sizes: Sizes, measure: Callable[[Sizes], Bytes]) -> tuple[float, float]:
    """What `measure` gives for such sizes, without being asked for any above those of `TRIED`."""
    large = sorted((key for key in sizes if sizes[key] > TRIED[-1]), key=lambda k: -sizes[k])
    weights = step = Fraction(0)
    for tried in itertools.product(TRIED, repeat=len(large[:MOST_LARGE])):
        at = dict(zip(large, tried, strict=False))
        some = measure({key: at.get(key, min(sizes[key], TRIED[-1])) for key in sizes})
        share = math.prod((_lagrange(sizes[key], size) for key, size in at.items()), start=ONE)
        weights, step = weights + share * some[0], step + share * some[1]
    return max(float(weights), some[0]), max(float(step), some[1])  # of what grows no more


def _lagrange(size: int, place: int) -> Fraction:
    """The weight, at a size, of one of three places of a parabola: exact, for weights are large."""
    factors = (Fraction(size - other, place - other) for other in TRIED if other != place)
    return math.prod(factors, start=ONE)

"""How much memory runs are said to need, and to have, against what they are made of."""

import re
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Compose
from contract import PROMISES
from torch import Tensor

from flowlab import sizes
from flowlab.errors import ConfigError
from flowlab.flows import FLOWS, Transform, build_flow
from flowlab.parts import check_parts

DRAWN = 14_000 * 2 * 4 * sizes.DRAWN  # bytes of the default points


@pytest.fixture
def need(compose_config: Compose, monkeypatch: pytest.MonkeyPatch) -> Callable[..., float]:
    """The bytes that a run is said to need."""
    monkeypatch.setattr(sizes, "memory", lambda: 0)

    def need(*words: str) -> float:
        with pytest.raises(ConfigError) as caught:
            check_parts(compose_config(*words))
        match = re.search(r"need (\S+) GiB and there are 0; lower ", str(caught.value))
        assert match is not None, caught.value
        return float(match[1]) * 2**30

    return need


@pytest.mark.parametrize("name", [name for name in PROMISES if name != "diagonal"])
def test_a_large_flow_is_as_large_as_it_is_said_to_be(
    name: str, need: Callable[..., float]
) -> None:
    words = [f"flow={name}", "num_flows=20", "num_hidden=50"]
    options = {"num_flows": 20, "num_hidden": 50}
    if name in ("planar", "radial"):
        del options["num_hidden"]
    if PROMISES[name].images:
        words += ["data=digits"]
        flow = build_flow(name, (sizes.SIDE, sizes.SIDE), **options)
        drawn = 500 * sizes.SIDE**2 * 4 * sizes.DRAWN
    else:
        flow, drawn = build_flow(name, 2, **options), DRAWN
    weights = sum(p.nbytes for p in flow.parameters())
    assert need(*words) == pytest.approx(sizes.COPIES * weights + drawn, rel=0.006)


def test_sizes_grow_together(need: Callable[..., float]) -> None:
    words = ("flow=coupling", "data.target=gaussian", "data.dim=40")
    flow = build_flow("coupling", 40, num_flows=21, num_hidden=70)
    weights = sum(p.nbytes for p in flow.parameters())
    expected = sizes.COPIES * 3 * weights + 3 * 20 * DRAWN
    found = need(*words, "num_flows=21", "num_hidden=70", "replicates=3")
    assert found == pytest.approx(expected, rel=0.006)


def test_a_batch_counts_with_what_a_step_keeps_of_it(need: Callable[..., float]) -> None:
    """By each layer at least its hidden units and both halves of the points."""
    few, many = (
        need("num_hidden=8", "data.num_train=8000000", f"data.batch_size={size}")
        for size in (64, 8_000_000)
    )
    assert 4 * (8 + 2) * 4 < (many - few) / 8_000_000 < 20 * 4 * (8 + 2) * 4
    assert need("data.batch_size=9000000000") == need("data.batch_size=2000")  # points are fewer


@pytest.mark.parametrize(
    "words",
    [
        "experiment=vae flow=maf objective.num_latents=1000000000",
        "experiment=vae flow=planar objective.num_features=1000000000",
        "experiment=posterior flow=ffjord num_hidden=1000000000 flow.num_steps=1000",
        "data=table data.path=x flow=spline_ar num_hidden=1000000000 num_flows=10000",
        "data=digits flow=glow num_hidden=1000000000",
        "flow=iaf data.target=gaussian data.dim=1000000 num_hidden=1000000000",
        "flow=maf flow.mixing=lu flow.num_hidden_layers=1000 num_hidden=1000000 num_flows=9000",
    ],
)
def test_what_fits_nowhere_is_never_made(words: str, compose_config: Compose) -> None:
    with pytest.raises(ConfigError, match=r"^flow and data need \S+ GiB and there are .*; lower "):
        check_parts(compose_config(*words.split()))


class Heads(Transform):
    """A flow whose sizes must go together: its width is that of so many heads."""

    def __init__(self, num_hidden: int, num_heads: int):
        super().__init__()
        if num_hidden % num_heads or num_heads < 5:
            raise ValueError(f"num_heads={num_heads}: expected five or more that divide the width")
        self.weights = torch.nn.Parameter(torch.zeros(num_hidden, num_heads))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x + self.weights.sum(), x.new_zeros(len(x))

    def inverse(self, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return u - self.weights.sum(), u.new_zeros(len(u))


def test_sizes_that_must_go_together_are_not_refused(
    monkeypatch: pytest.MonkeyPatch, need: Callable[..., float], compose_config: Compose
) -> None:
    def heads(
        shape: tuple[int, ...], context: int, *, num_hidden: int = 96, num_heads: int = 12
    ) -> list[Transform]:
        return [Heads(num_hidden, num_heads)]

    monkeypatch.setitem(FLOWS, "heads", heads)
    words = ("~flow", "+flow.name=heads", "+flow.num_hidden=960")
    found = need(*words, "+flow.num_heads=12")
    assert found == pytest.approx(sizes.COPIES * 960 * 12 * 4 + DRAWN, rel=0.006)
    with pytest.raises(ConfigError, match="num_heads=7: expected five or more that divide"):
        check_parts(compose_config(*words, "+flow.num_heads=7"))


class Wrong(Heads):
    """A layer whose log-determinants have the shape (N, 1)."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x + self.weights.sum(), x.new_zeros(len(x), 1)


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (lambda shape, context: 5, "flow=mine: TypeError: "),
        (lambda shape, context: [1 // 0], "flow=mine: ZeroDivisionError: "),
        (lambda shape, context: [Wrong(10, 5)], r"flow: .*shape"),
    ],
)
def test_a_flow_of_ones_own_that_fails_is_no_bug_of_ours(
    recipe: Callable[..., list[Transform]],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    compose_config: Compose,
) -> None:
    monkeypatch.setitem(FLOWS, "mine", recipe)
    with pytest.raises(ConfigError, match=said):
        check_parts(compose_config("~flow", "+flow.name=mine"))
    monkeypatch.setattr(recipe, "__module__", "flowlab.flows.mine")
    if "Error" in said:
        with pytest.raises((TypeError, ZeroDivisionError)):
            check_parts(compose_config("~flow", "+flow.name=mine"))


def test_units_that_are_no_more_cost_nothing(compose_config: Compose) -> None:
    """A Sylvester layer has no more units than coordinates."""
    check_parts(compose_config("flow=sylvester", "num_hidden=1000000000"))


def test_a_limit_of_the_shell_or_of_a_cgroup_is_the_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = [tmp_path / name for name in ("v2", "none", "v1")]
    files[0].write_text("max\n")
    monkeypatch.setattr(sizes, "_cgroups", lambda: files)
    whole = sizes.memory()
    files[2].write_text("1000000000\n")
    assert sizes.memory() == 1_000_000_000 < whole
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = (taken + 500_000_000, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    assert sizes.memory() == pytest.approx(500_000_000, abs=50_000_000)


def test_the_files_of_cgroups_are_where_the_kernel_has_them() -> None:
    for file in sizes._cgroups():
        assert file.name in ("memory.max", "memory.limit_in_bytes")
        assert file.is_relative_to("/sys/fs/cgroup")


@pytest.mark.long
def test_a_ulimit_ends_a_run_before_it_begins(train_command: list[str], tmp_path: Path) -> None:
    """Of more memory than the shell leaves it, though the machine may have that."""
    command = " ".join([*train_command, "data.num_train=1000000000"])
    result = subprocess.run(
        ["bash", "-c", f"ulimit -v 15000000; {command}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    match = re.fullmatch(
        r"error: flow and data need 14\.9 GiB and there are (\S+); lower data.num_train", line
    )
    assert match is not None, line
    assert float(match[1]) < 14.3
    assert not list(tmp_path.iterdir())

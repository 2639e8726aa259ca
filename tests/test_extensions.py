"""Data, flows and targets of one's own, from a folder that has nothing else."""

import importlib
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import NO_PICTURES, ROOT, SHORT, Compose

from flowlab import load
from flowlab.data import Data, Points
from flowlab.errors import ConfigError, DataError, ModelFileError
from flowlab.experiment import train
from flowlab.export import save
from flowlab.flows import FLOWS, Transform, build_flow
from flowlab.flows.coupling import coupling
from flowlab.parts import import_extensions
from flowlab.targets import TARGETS

FILES = {
    "my_data.py": """\
        import torch
        from flowlab.data import Data, Points


        def load(num, seed):
            steps = torch.randn(num, 3, generator=torch.Generator().manual_seed(seed))
            train, val, test = steps.cumsum(1).split([num - 2 * (num // 5), num // 5, num // 5])
            return Data(Points(train), Points(val), Points(test), names=("a", "b", "c"))
    """,
    "myconf/data/mine.yaml": """\
        _target_: my_data.load
        num: 1000
        batch_size: 64
        seed: null
    """,
    "my_flow.py": """\
        import torch
        from flowlab.flows import FLOWS, Transform


        class Scale(Transform):
            def __init__(self, dim):
                super().__init__()
                self.s = torch.nn.Parameter(torch.zeros(dim))

            def forward(self, x, context=None):
                return x * self.s.exp(), self.s.sum().expand(len(x))

            def inverse(self, u, context=None):
                return u / self.s.exp(), -self.s.sum().expand(len(u))


        FLOWS["scale"] = lambda shape, context: [Scale(*shape)]
    """,
    "myconf/flow/scale.yaml": """\
        name: scale
    """,
    "my_target.py": """\
        from torch.distributions import Laplace
        import torch
        from flowlab.targets import TARGETS

        class Cross:
            dim, law = 2, Laplace(torch.tensor(0.0).double(), 1.0)
            entropy = 2 * float(law.entropy())
            def log_prob(self, x):
                return self.law.log_prob(x.double()).sum(-1)
            def sample(self, n, generator=None):
                e = torch.empty(2, n, 2).exponential_(generator=generator)
                return e[0] - e[1]

        TARGETS["cross"] = Cross
    """,
}
EXAMPLES = "my_data.py", "myconf/data/mine.yaml", "my_flow.py"  # which the README shows
QUICK = ("trainer.max_epochs=2", "pictures.every_n_epochs=2")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_readme_shows_what_runs_here(name: str) -> None:
    assert f"\n{textwrap.dedent(FILES[name])}```\n" in (ROOT / "README.md").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with nothing but the examples."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    return tmp_path


@pytest.fixture
def shell(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """shell(word, ...): what a Python command prints in that folder, and how it ends."""

    def shell(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *words]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)

    return shell


Shell = Callable[..., subprocess.CompletedProcess[str]]
TRAIN = str(ROOT / "train.py")


@pytest.mark.long
def test_data_of_ones_own_from_an_empty_folder(folder: Path, shell: Shell) -> None:
    words = (TRAIN, "--config-dir", "myconf", "data=mine", *QUICK)
    done = shell(*words, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((folder / "run" / "metrics.json").read_bytes())
    assert metrics["status"] == "completed"
    assert "test/kl" not in metrics
    pictures = {path.stem.partition("-")[0] for path in (folder / "run" / "plots").iterdir()}
    assert pictures == {
        "pairs",
        "quantiles",
        "loss",
        "latents",
    }  # for the rest the plane, or the truth, lacks
    again = shell(*words, "hydra.run.dir=run", "ckpt_path=run")
    assert "nothing to do" in again.stdout
    more = shell(*words, "hydra.run.dir=run", "ckpt_path=run", "trainer.max_epochs=3")
    assert more.returncode == 0, more.stderr
    nosuch = shell(TRAIN, "--config-dir", "myconf", "data=nosuch")
    assert nosuch.returncode == 2
    assert "data=nosuch: no such choice; available: bimodal, checkerboard" in nosuch.stderr
    assert "mine" in nosuch.stderr
    said = shell(TRAIN, "--config-dir", "myconf", "data=mine", "--help")
    assert "|mine|" in said.stdout
    assert "_target_: my_data.load" in said.stdout


@pytest.mark.long
def test_a_flow_and_a_target_of_ones_own_from_an_empty_folder(folder: Path, shell: Shell) -> None:
    """Two cells side by side, a report on them by another command, and a resume."""
    words = ("extensions=[my_flow,my_target]", "data=toy", "data.target=cross", *QUICK)
    own = (TRAIN, "--config-dir", "myconf")
    sweep = ("flow=scale,coupling", "hydra.sweep.dir=sweep", "hydra/launcher=joblib")
    done = shell(*own, "-m", *words, *sweep, "hydra.launcher.n_jobs=2")
    assert done.returncode == 0, done.stderr
    assert "| scale " in done.stdout
    configs = (folder / "sweep").glob("*/.hydra/config.yaml")
    (run,) = (path.parent.parent for path in configs if "name: scale" in path.read_text())
    metrics = json.loads((run / "metrics.json").read_bytes())
    assert metrics["test/kl"] > 0
    assert {path.name for path in (folder / "sweep" / "plots").iterdir()} >= {"densities.png"}
    without = shell("-m", "flowlab", "report", "sweep")
    assert "| scale " not in without.stdout
    assert "is none of flowlab's but of my_flow" in without.stdout
    reported = shell("-m", "flowlab", "report", "sweep", "extensions=[my_flow]")
    assert "| scale " in reported.stdout
    nosuch = shell("-m", "flowlab", "report", "sweep", "extensions=[nosuch]")
    assert (nosuch.returncode, nosuch.stderr.count("\n")) == (2, 1)
    assert "extensions=[nosuch]: no such module" in nosuch.stderr
    again = shell(*own, *words, "flow=scale", f"hydra.run.dir='{run}'", f"ckpt_path='{run}'")
    assert "nothing to do" in again.stdout
    lines = f"import my_flow; from flowlab import load; print(load({str(run)!r}).sample(3).shape)"
    assert shell("-c", lines).stdout == "torch.Size([3, 2])\n"
    failed = shell("-c", lines.removeprefix("import my_flow; "))
    assert "if you trust that module import it first" in failed.stderr


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("nosuch_module", r"^extensions=\[nosuch_module\]: no such module, neither installed"),
        ("broken", r"^extensions=\[broken\]: ZeroDivisionError: division by zero"),
        ("needs", r"^extensions=\[needs\]: ModuleNotFoundError: No module named 'nosuch_module'"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(
    module: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("1 / 0")
    (tmp_path / "needs.py").write_text("import nosuch_module")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    with pytest.raises(ConfigError, match=message):
        import_extensions([module])


@pytest.mark.parametrize("value", ["my_flow", "[1]", "[..]", "null"])
def test_extensions_are_a_list_of_modules(value: str, compose_config: Compose) -> None:
    with pytest.raises(ConfigError, match=r"^extensions=.*: expected a list of modules, as \[my_f"):
        train(compose_config(f"extensions={value}"))


def no_data(**keys: int) -> dict[str, int]:
    return keys


def broken_data(**keys: int) -> Data:
    raise RuntimeError("boom")


def misnamed_data(**keys: int) -> Data:
    return Data(*[Points(torch.zeros(3, 2))] * 3, names=("a",))


def ragged_data(**keys: int) -> Data:
    return Data(*(Points(torch.zeros(3, dim)) for dim in (2, 1, 2)), names=("a", "b"))


def odd_contexts(**keys: int) -> Data:
    x = torch.zeros(3, 2)
    return Data(Points(x, x[:2]), Points(x, x), Points(x, x), names=("a", "b"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("odd_contexts", "expected a context for each point of a split"),
        ("no_data", "returned dict; expected flowlab.data.Data"),
        ("broken_data", "RuntimeError: boom"),
        ("misnamed_data", "1 names of 2 columns"),
        ("ragged_data", "splits of the shapes [(3, 2), (3, 1), (3, 2)]; expected some points"),
    ],
)
def test_what_is_no_data_is_said(
    name: str, message: str, compose_config: Compose, tmp_path: Path
) -> None:
    words = (*SHORT, *NO_PICTURES, f"run_dir={tmp_path}/run")
    target = f"data._target_=test_extensions.{name}"
    with pytest.raises(DataError, match=f"^{re.escape(f'{target}: {message}')}"):
        train(compose_config(*words, target))
    assert not list(tmp_path.iterdir())


def test_a_file_names_the_module_of_its_flow_and_imports_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The module is there to be imported, and would leave a mark."""
    (tmp_path / "marking.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)

    def recipe(shape: tuple[int, ...], context: int, *, num_flows: int = 4) -> list[Transform]:
        return coupling(shape, context, num_flows=num_flows)

    recipe.__module__ = "marking"
    path = tmp_path / "flow.safetensors"
    for name in ("mine", "coupling"):  # also one that takes the place of flowlab's own
        with monkeypatch.context() as patch:
            patch.setitem(FLOWS, name, recipe)
            flow = build_flow(name, 2)
            save(flow, path)
            x = torch.ones(1, 2)
            assert torch.equal(load(path).log_prob(x), flow.log_prob(x))
        message = (
            rf"its flow '{name}' is none of flowlab's but of marking; .*extensions=\[marking\]"
        )
        with pytest.raises(ModelFileError, match=message):
            load(path)
    assert "marking" not in sys.modules
    assert not (tmp_path / "mark").exists()


@pytest.mark.long
def test_the_working_directory_comes_last(folder: Path, shell: Shell) -> None:
    """A file of the user's with the name of a library's takes nothing's place."""
    for name in ("torch", "random", "hydra"):
        (folder / f"{name}.py").write_text("1 / 0")
    done = shell(TRAIN, *QUICK, "data.num_train=100", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert (folder / "run" / "flow.safetensors").exists()


def test_the_targets_of_the_examples_are_not_left_in_the_table() -> None:
    assert "cross" not in TARGETS

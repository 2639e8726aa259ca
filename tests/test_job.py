"""The way of Python, the names of runs, the last one, and where the configurations are."""

import json
import logging
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import NO_PICTURES, ROOT, SHORT, Compose
from omegaconf import OmegaConf

import flowlab
from flowlab import compose, load, save, train
from flowlab.commands.start import conf
from flowlab.commands.sweep import _check_shared, cell_name
from flowlab.config import validate
from flowlab.errors import ConfigError, OutputError
from flowlab.files import LAST, run_at
from flowlab.flows import build_flow
from flowlab.runs.directory import claim, release
from flowlab.runs.reading import collect
from flowlab.runs.resume import check_resume, run_config
from flowlab.runs.settings import settings_of

TIME = r"\d\d-\d\d-\d\d-\d{6}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compose_config: Compose) -> Path:
    """An empty working directory; another composition of Hydra's is under way."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_trains_from_python(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines, with fewer points and epochs, leave what the command would."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in a script; pytest has some
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    (block,) = [block for block in blocks if "train(" in block]
    few = ", ".join(map(repr, (*SHORT, *NO_PICTURES)))
    names: dict[str, object] = {}
    exec(block.replace("compose(", f"compose({few}, "), names)
    (folder,) = here.glob("outputs/*/*")
    assert re.fullmatch(f"{TIME}-first", folder.name)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics == names["metrics"]
    assert metrics["status"] == "completed"
    said = capsys.readouterr().out
    assert f"run           {folder.relative_to(here)}" in said
    assert said.rstrip().endswith(f"{metrics['test/kl']}")
    assert "test NLL" in (folder / "train.log").read_text()
    (run,), left_out = collect([here])
    assert left_out == []
    assert run.settings["num_flows"] == 8
    assert "name" not in run.settings
    hydra = OmegaConf.load(folder / ".hydra" / "hydra.yaml").hydra
    assert (hydra.runtime.cwd, hydra.job.name) == (str(here), "train")
    assert logging.getLogger("flowlab").handlers == []


def test_two_runs_of_one_configuration_and_one_that_goes_on(here: Path) -> None:
    cfg = compose(*SHORT, *NO_PICTURES)
    before = OmegaConf.to_yaml(cfg)
    first, second = train(cfg), train(cfg)
    assert first["sha256"] == second["sha256"]
    assert OmegaConf.to_yaml(cfg) == before
    folders = sorted(here.glob("outputs/*/*"))
    assert len(folders) == 2
    assert all(re.fullmatch(TIME, folder.name) for folder in folders)
    longer = train(compose(*SHORT, *NO_PICTURES, "trainer.max_epochs=5", "ckpt_path=latest"))
    assert longer["epochs"] == 5
    assert longer["resumed_from"].endswith(folders[1].name)
    named = OmegaConf.load(max(here.glob("outputs/*/*")) / ".hydra" / "config.yaml").ckpt_path
    assert Path(named) == folders[1].relative_to(here)


def test_mistakes_are_raised_before_anything_is_written(here: Path) -> None:
    with pytest.raises(ConfigError, match=r"num_flow: no such key; did you mean num_flows\?"):
        compose("num_flow=8")
    for words, message in (
        ("num_flows=0", "num_flows=0: expected a whole number"),
        ("name=a/b", "name=a/b: expected letters, digits"),
        ("name=-a", "name=-a: expected letters, digits, after the first also"),
        ("ckpt_path=latest", "latest: no run with a checkpoints/last.ckpt in outputs/"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(compose(words))
    (here / "mine").mkdir()
    (here / "mine" / "metrics.json").touch()
    with pytest.raises(OSError, match="holds a run already"):
        train(compose("hydra.run.dir=mine"))
    assert [path.name for path in here.rglob("*")] == ["mine", "metrics.json"]


def test_a_full_disk_is_not_the_fault_of_the_configuration(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hydra.core.utils._save_config", full)
    with pytest.raises(OutputError, match=r"mine: cannot be written to .*No space left"):
        train(compose("hydra.run.dir=mine"))


def test_a_configuration_of_another_maker_is_refused(compose_config: Compose) -> None:
    with pytest.raises(ConfigError, match=r"expected what flowlab\.compose gives"):
        train(compose_config())


def test_a_name_changes_nothing_but_the_folder(here: Path) -> None:
    cfg, named = compose(), compose("name=first")
    assert re.fullmatch(rf"outputs/\d{{4}}-\d\d-\d\d/{TIME}", cfg.hydra.run.dir)
    assert re.fullmatch(rf"outputs/\d{{4}}-\d\d-\d\d/{TIME}-first", named.hydra.run.dir)
    assert re.fullmatch(rf"multirun/\d{{4}}-\d\d-\d\d/{TIME}-first", named.hydra.sweep.dir)
    assert run_config(cfg) == run_config(named)
    assert settings_of(OmegaConf.to_container(cfg)) == settings_of(OmegaConf.to_container(named))  # type: ignore[arg-type]
    for name in ("1", "a.b", "x-1_2+3"):
        validate(compose(f"name={name}"))
    for name in ("a/b", "..", "'a b'", "-x", "''", "[a]", "x" * 101):
        with pytest.raises(ConfigError, match="name="):
            validate(compose(f"name={name}"))


def test_a_sweep_has_one_name_and_no_latest_run(here: Path) -> None:
    assert cell_name(["num_flows=2", "name=first", "sweep=search"]) == "num_flows=2"
    whole = compose("name=first")
    _check_shared(compose("name=first", "num_flows=2"), whole, ["num_flows=2"])
    with pytest.raises(ConfigError, match="name=b: expected one name"):
        _check_shared(compose("name=b"), whole, ["name=b"])
    with pytest.raises(ConfigError, match="ckpt_path=latest: in a sweep expected the path"):
        _check_shared(compose("name=first", "ckpt_path=latest"), whole, ["ckpt_path=latest"])


def test_the_latest_run_is_the_one_that_saved_last(here: Path) -> None:
    names = ["outputs/2026-01-02/03-04-05", "multirun/2026-01-01/00-00-00/x=1", "outputs/1/2"]
    for age, name in enumerate(names):
        (here / name / "checkpoints").mkdir(parents=True)
        (here / name / LAST).touch()
        os.utime(here / name / LAST, (1e9 + age, 1e9 + age))
        if name != names[-1]:
            save(build_flow("coupling", 2 + age), here / name / "flow.safetensors")
            os.utime(here / name / "flow.safetensors", (1e9 + age, 1e9 + age))
    assert run_at("latest") == Path(names[1])
    assert load("latest").dim == 3
    assert run_at("latest", LAST) == Path(names[2])
    assert run_at("outputs/x") == Path("outputs/x")
    cfg = compose("ckpt_path=latest")
    with pytest.raises(ValueError, match=r"outputs/1/2/checkpoints/last\.ckpt: damaged"):
        check_resume(cfg)
    assert cfg.ckpt_path == names[2]
    claim(here / "new", None)
    release(here / "new")
    with pytest.raises(FileNotFoundError, match="expected a run directory"):
        load("outputs/x")


def test_what_flowlab_offers() -> None:
    assert conf() == ROOT / "conf"
    assert re.fullmatch(r"\d+\.\d+\.\d+", flowlab.__version__)
    assert all(callable(getattr(flowlab, name)) for name in flowlab.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nosuch'"):
        flowlab.nosuch  # noqa: B018


@pytest.mark.long
def test_what_is_installed_trains_anywhere(tmp_path: Path) -> None:
    wheel = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), "."]
    subprocess.run(wheel, cwd=ROOT, check=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        archive.extractall(tmp_path / "site")
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "flowlab = flowlab.__main__:main" in archive.read(entry).decode()
    env = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    words = [sys.executable, "-m", "flowlab", "train", *SHORT, *NO_PICTURES, "num_flows=3"]
    subprocess.run(words, cwd=tmp_path, env=env, check=True)
    words[4:] = ["num_flow=3"]
    failed = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert failed.returncode == 2
    (run,), _ = collect([tmp_path])
    assert (run.settings["num_flows"], run.completed) == (3, True)

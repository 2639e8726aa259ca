"""`python train.py` as a person types it."""

import inspect
import json
import logging
import math
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as pl
import pytest
from conftest import NO_PICTURES, ROOT, SHORT, Compose, Run
from contract import PROMISES
from hydra._internal.callbacks import Callbacks
from hydra.types import RunMode
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf

from flowlab.commands import arguments, terminal
from flowlab.commands import train as command_line
from flowlab.commands.explain import is_theirs, quoted
from flowlab.commands.output import here, output_errors
from flowlab.commands.sweep import run_cell
from flowlab.commands.terminal import one_line_errors
from flowlab.commands.train import Validate, in_our_words, quietly
from flowlab.config import validate
from flowlab.errors import ConfigError, DataError, FlowlabError, OutputError
from flowlab.experiment import train
from flowlab.flows import FLOWS, build_flow
from flowlab.parts import check_parts
from flowlab.rules import MAF
from flowlab.runs.resume import check_resume
from flowlab.targets import TARGETS

THEIRS = "lightning.pytorch.callbacks"

CHOICES = [
    f"{folder.name}={path.stem}"
    for folder in sorted((ROOT / "conf").iterdir())
    if folder.is_dir()
    for path in sorted(folder.glob("*.yaml"))
]


def run(command: list[str], *words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *words],
        cwd=cwd,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=300,
    )


def complaint(compose: Callable[[], DictConfig], *words: str, own: Path | None = None) -> str:
    """What the command line would say of a configuration of such words, or nothing."""
    try:
        with in_our_words([ROOT / "conf", *([own] if own else [])], words):
            cfg = compose()
            validate(cfg)
            check_resume(cfg)
            check_parts(cfg)
    except FlowlabError as error:
        return " ".join(str(error).split())
    return ""


@pytest.fixture(autouse=True)
def one_hydra(compose_config: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """There can be but one at a time."""
    compose = "flowlab.commands.suggest.compose"
    monkeypatch.setattr(compose, lambda folders, words=(): (compose_config(*words), {}))


@pytest.fixture(scope="module")
def defaults(compose_config: Compose) -> DictConfig:
    cfg = compose_config()
    OmegaConf.set_struct(cfg, False)
    return cfg


NEEDED = {
    "data=table": "data.path=my.csv",
    "data=images": "data.path=mnist",
    **{f"data=maf_{name}": "data.path=data" for name in MAF},
    "flow=realnvp": "data=digits",
    "flow=glow": "data=digits",
    "objective=elbo": "experiment=vae",
    "sweep=benchmark": "data=funnel",
}


@pytest.mark.parametrize("choice", CHOICES)
def test_every_yaml_composes_and_makes_sense(choice: str, compose_config: Compose) -> None:
    needed = [NEEDED[choice]] if choice in NEEDED else []
    said = complaint(lambda: compose_config(choice, *needed))
    assert said == "" or (choice == "trainer=gpu" and "no usable GPU" in said)


WHOLE = "expected a whole number from"

# whether they come from the command line, a preset or a saved configuration
MISTAKES = {
    "num_flows=0": f"num_flows=0: {WHOLE} 1",
    "num_flows=-1": f"num_flows=-1: {WHOLE} 1",
    "num_flows=abc": f"num_flows=abc: {WHOLE} 1",
    "num_flows=2.5": f"num_flows=2.5: {WHOLE} 1",
    "num_flows=true": f"num_flows=True: {WHOLE} 1",
    "num_flows=null": f"num_flows=null: {WHOLE} 1",
    "num_flow=8": "num_flow: no such key; did you mean num_flows?",
    "optimzer.lr=0.3": "optimzer: no such key; did you mean optimizer or optimizer.lr?",
    "note=1": "note: no such key; no value is taken from it",
    "experiment.num_flows=2": "experiment: no such key; the first line of a file in conf/experim",
    "lr=0.1": "lr: no such key; did you mean optimizer.lr?",
    "trainer=3": "trainer=3: expected a group",
    "optimizer.lrr=0.3": "optimizer.lrr: no such key; did you mean lr?",
    "data.num_trian=3": "data.num_trian: no such key; did you mean num_train?",
    "num_hidden=0": f"num_hidden=0: {WHOLE} 1",
    "num_hidden=1000000": "; lower num_hidden, num_flows or replicates",
    "num_hidden=1000000000000000": " GiB and there are ",
    "num_flows=1000000000": "num_flows=1000000000: expected a whole number from 1 to 10000",
    "flow.num_steps=1000000": "flow.num_steps=1000000: expected a whole number from 1 to 1000",
    "data.batch_size=100000000000000000000": f"{WHOLE} 1 to 2^53",
    "trainer.max_epochs=100000000000000000000": f"{WHOLE} 1 to 2^53",
    "data.num_val=1000000000000000": "; lower data.num_val",
    "data.batch_size=0": f"data.batch_size=0: {WHOLE} 1",
    "data.num_train=0": f"data.num_train=0: {WHOLE} 1",
    "data.num_train=1000000000000": "flow and data need 1.49e+04 GiB",
    "data.seed=-1": f"data.seed=-1: {WHOLE} 0",
    "data.seed=1.5": f"data.seed=1.5: {WHOLE} 0",
    "data.order_seed=5": "data.order_seed: no such key; available: target, num_train",
    "optimizer.lr=-1": "optimizer.lr=-1: expected a positive number",
    "optimizer.lr=nan": "optimizer.lr=nan: expected a positive number",
    "trainer.max_epochs=-5": f"trainer.max_epochs=-5: {WHOLE} 1",
    "trainer.devices=2": "trainer.num_nodes=1: for several processes add trainer=ddp",
    "trainer.num_nodes=2": "trainer.num_nodes=2: for several processes add trainer=ddp",
    "trainer.strategy=fsdp": "trainer.strategy=fsdp: expected auto or ddp",
    "trainer._target_=torch.optim.Adam": "expected lightning.pytorch.Trainer",
    "trainer.max_epoch=2": "trainer.max_epoch: no such key; did you mean trainer.max_epochs?",
    **{
        f"trainer.{option}": f"trainer.{option.partition('=')[0]}: no such key; "
        for option in (
            *("accumulate_grad_batches=2", "check_val_every_n_epoch=2", "max_steps=10"),
            *("fast_dev_run=true", "overfit_batches=1", "limit_train_batches=2", "logger=false"),
            *("precision=64-true", "profiler=simple", "callbacks=[]", "max_time=00:00:01:00"),
            *("enable_checkpointing=false", "foo=1", "_partial_=true"),
        )
    },
    "seed=-1": f"seed=-1: {WHOLE} 0",
    "ckpt_path=nosuch": "ckpt_path=nosuch: no such file; expected a run directory or a .ckpt",
    "ckpt_path=https://x.org/last.ckpt": "ckpt_path=https://x.org/last.ckpt: no such file",
    "callbacks.density.every_n_epochs=0": f"every_n_epochs=0: {WHOLE} 1",
    "callbacks.pairs.columns=[a,a]": "columns=['a', 'a']: expected one to eight names of columns",
    "callbacks.pairs.columns=a": "callbacks.pairs.columns=a: expected one to eight names",
    "callbacks.density.resolution=1": f"callbacks.density.resolution=1: {WHOLE} 2",
    "callbacks.density.resolution=100000": "resolution=100000: expected a whole number from 2 to",
    "callbacks.density.resolutoin=9": "resolutoin: no such key; did you mean resolution?",
    "callbacks.densty.resolution=9": "callbacks.densty: expected keys, and with them a _target_",
    "callbacks.x=1": "callbacks.x: expected keys, and with them a _target_",
    "callbacks.x._target_=builtins.dict": "callbacks.x._target_=builtins.dict: ",
    "callbacks.x._target_=torch.optim.Optimizer": "callbacks.x.params: missing",
    "callbacks.x._target_=builtins.print": "expected a Callback of Lightning",
    f"callbacks.x={{_target_: {THEIRS}.StochasticWeightAveraging, swa_lrs: 1}}": (
        "does not work with flowlab's loop, which steps the optimizer, saves, stops early "
        "(trainer.patience) and logs rates (callbacks.rates) by itself"
    ),
    f"callbacks.x._target_={THEIRS}.ModelCheckpoint": "does not work with flowlab's loop",
    f"callbacks.x={{_target_: {THEIRS}.EarlyStopping, monitor: val/nll}}": "(trainer.patience)",
    "trainer.patience=0": f"trainer.patience=0: {WHOLE} 1 to 2^53 or null",
    f"callbacks.x._target_={THEIRS}.LearningRateMonitor": "(callbacks.rates)",
    "data.replicates=2": "data.replicates: no such key; available: target, num_train",
    "num_threads=99999": "num_threads=99999: expected a whole number from 1 to 1024",
    "optimizer.weight_decay=-1": "optimizer.weight_decay=-1: Invalid weight_decay value: -1",
    "optimizer.foreach=true": "optimizer.foreach=True: `fused` and `foreach` cannot be `True`",
    "schedule._target_=flowlab.training.schedules.onecycle": "schedule.warmup: missing",
    "schedule._target_=math.log2": "schedule._target_=math.log2: ValueError: math domain error",
    "optimizer.foo=1": "optimizer.foo: no such key; available: lr, betas",
    "data.foo=1": "data.foo: no such key; available: target, num_train",
    "data._partial_=true": "data._partial_: no such key; ",
    "flow.support=[null,null]": "flow.support: no such key; a flow has that of its data",
    "flow.shape=3": "flow.shape: no such key; a flow has that of its data",
    "flow.foo=1": "flow: flow 'coupling' has no option foo; available: num_flows",
    "callbacks.density._target_=nosuch": "callbacks.density._target_=nosuch: ",
    "data.target=nosuch": "data.target=nosuch: no such; available: bimodal",
    "data.num_train=${nosuch}": "Interpolation key 'nosuch' not found",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_explained(mistake: str, defaults: DictConfig) -> None:
    said = complaint(lambda: OmegaConf.merge(defaults, OmegaConf.from_dotlist([mistake])))
    assert MISTAKES[mistake] in said
    assert len(said.splitlines()) == 1


WORDS = {
    "num_flow=8": "num_flow: no such key; did you mean num_flows?",
    "lr=0.1": "lr: no such key; did you mean optimizer.lr?",
    "flow=naf flow.num_sigmoid=2": "flow.num_sigmoid: no such key; did you mean flow.num_sigmoids",
    "flow=planar flow.bound=2": "flow.bound: no such key; flow=coupling or flow=glow or flow=iaf",
    "data.path=my.csv": "or data=maf_power or data=table have it",  # of whose YAML it is ???
    "schedule.warmup=0.2": "schedule.warmup: no such key; schedule=onecycle has it",
    "data.logit=0.2": "data.logit: no such key; data=digits or data=images have it",
    "optimizer.weight_decay=0.1": (
        "optimizer.weight_decay: no such key; add a plus: +optimizer.weight_decay=0.1, "
        "as torch.optim.Adam takes it"
    ),
    "~optimizer.weight_decay": "optimizer.weight_decay: no such key; see python train.py --help",
    "data=nosuch": "data=nosuch: no such choice; available: bimodal",
    "data=../my.csv": "data=../my.csv: no such choice; available: bimodal",
    "data=my.csv": "table, toy; a file is data=table data.path=my.csv",
    "+optimizer.momentum=1": "optimizer.momentum: no such key; available: lr, betas",
    "+optimizer.amsgrad=maybe": "optimizer.amsgrad=maybe: ",
    "callbacks.density.resolutoin=9": "callbacks.density.resolutoin: no such key; did you mean cal",
    "~callbacks.density.resolution": "callbacks.density.resolution: missing",
    "~optimizer": "optimizer: missing",
    "~num_threads": "num_threads: missing",
    "~trainer.max_epochs": "trainer.max_epochs: missing",
    "~flow.name": "flow.name: missing; choose a flow",
    "schedule=onecycle ~schedule.warmup": "schedule.warmup: missing",
    "~optimizer._partial_": "optimizer._partial_: missing",
    "~callbacks.sample": "callbacks.sample: no such key; did you mean callbacks.samples",
    "hydra/launcher=nosuch": 'hydra/launcher=nosuch: not installed; try pip install -e ".[sweep]"',
    "fast": "fast: expected key=value or group=choice, without spaces around the =",
    "experimnt=fast": "experimnt: no such key; did you mean experiment?",
    "experiment=": "experiment=: no such choice; available: fast, posterior, vae",
    "num_flows=2,4": "num_flows=2,4: several values; add -m for a run with each",
    "ckpt_path=a,b": "a list is ckpt_path=[a,b], text 'ckpt_path=\"a,b\"'",
    "callbacks=null": "callbacks=null: expected one of default; ~callbacks leaves it out",
    "schedule=null": "schedule=null: expected one of constant, cosine, onecycle",
    "+num_flows=3": "+num_flows: there is such a key; leave the plus out",
    "+experiment=fast": "experiment: chosen already; choose another as experiment=NAME, ",
    "hydra.nosuch=3": "hydra.nosuch: no such key; see python train.py --help",
    "data.num_train=${nosuch}": "data.num_train: Interpolation key 'nosuch' not found",
    "schedule._target_=flowlab.schedules.onecycle": "flowlab.schedules.onecycle: ",
    "optimizer._target_=torch.optim.LBFGS": "a step of it asks for the loss several times",
}


@pytest.mark.parametrize("word", WORDS)
def test_a_mistake_on_the_command_line_is_explained(word: str, compose_config: Compose) -> None:
    said = complaint(lambda: compose_config(*word.split()), "flow=maf", *word.split())
    assert WORDS[word] in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "value", ["a=b", "a b=", "a'b", 'a"b', "a'b\"c$HOME\\", "[a", "{a", "a^b\\"]
)
def test_how_to_quote_a_value_works_in_a_shell(value: str, compose_config: Compose) -> None:
    said = complaint(lambda: compose_config(f"ckpt_path={value}"))
    assert said.startswith(f"ckpt_path={value}: cannot be read; ")
    words = said.partition(" is quoted twice, as ")[2]
    typed = subprocess.run(["bash", "-c", f"printf %s {words}"], capture_output=True, text=True)
    assert compose_config(typed.stdout).ckpt_path == value
    assert quoted("no pair") is None


MINE = {
    "a: [1\nb: 2\n": "mine.yaml, line 2: expected ',' or ']', but got ':'",
    "a: 1\nb: 2\na: 3\n": "mine.yaml, line 3: found duplicate key a",
    "\tnum_flows: 3\n": "mine.yaml, line 1: found character '\\t' that cannot start any token",
    "num_flows: ${": "a value of a YAML cannot be read (",
    "defaults: fast\n": "Invalid defaults list in 'experiment/mine', defaults must be a list",
    "defaults:\n- flow: maf\n": "experiment/flow: no such group; of those at the root a YAML ",
    "# @package _global_\ndefaults:\n- override /flow: nosuch\n": "flow=nosuch: no such choice",
    "a: \0": "special characters are not allowed in",
    "a: \xb1".encode("latin1"): "'utf-8' codec can't decode byte 0xb1",
}


@pytest.mark.parametrize("text", MINE)
def test_a_mistake_in_a_yaml_of_ones_own_is_explained(
    text: str | bytes, compose_config: Compose, tmp_path: Path
) -> None:
    (tmp_path / "experiment").mkdir()
    preset = tmp_path / "experiment" / "mine.yaml"
    preset.write_bytes(text.encode() if isinstance(text, str) else text)
    words = ("experiment=mine", f"hydra.searchpath=[file://{tmp_path}]")
    said = complaint(lambda: compose_config(*words), own=tmp_path)
    assert MINE[text] in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--info foo", "argument --info/-i: invalid choice: 'foo' (choose from 'all', "),
        ("num_flows=2 --foo", "unrecognized arguments: --foo; see python train.py --hydra-help"),
        ("--num_flows=2", "--num_flows=2: keys have no dashes; write num_flows=2"),
        ("--config-dir", "argument --config-dir/-cd: expected one argument"),
        ("--config-dir nosuch", "--config-dir nosuch: no such folder"),
        ("-cp nosuch", "--config-path nosuch: no such folder"),
        ("--experimental-rerun x", "--experimental-rerun x: of no use here; to repeat a run: "),
    ],
)
def test_a_mistake_in_a_flag_is_explained(words: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        arguments.read(words.split())
    assert message in str(caught.value)


def test_flags_may_stand_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    args = arguments.read(["a=1", "-cd", "mine", "b=2", "-m", "c=3", "-i"])
    assert (args.overrides, args.multirun, args.info) == (["a=1", "b=2", "c=3"], True, "all")
    assert args.config_dir == str(tmp_path / "mine")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("num_flow=8", WORDS["num_flow=8"]),
        ("+optimizer.foo=1", MISTAKES["optimizer.foo=1"]),
        ("--resolve", "The --resolve flag can only be used in conjunction with --cfg or --help"),
    ],
)
def test_a_mistake_gets_one_line_and_leaves_nothing(
    word: str, message: str, train_command: list[str], tmp_path: Path
) -> None:
    result = run(train_command, *word.split(), cwd=tmp_path)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "right",
    [
        *("data.seed=7", "callbacks.density.resolution=2", "data.seed=0"),
        *("trainer.strategy=ddp", "trainer.strategy=auto", "trainer.gradient_clip_val=2"),
        *(
            "trainer.patience=1",
            "optimizer.weight_decay=0.1",
            "optimizer._target_=torch.optim.AdamW",
        ),
    ],
)
def test_what_makes_sense_is_let_through(right: str, defaults: DictConfig) -> None:
    assert complaint(lambda: OmegaConf.merge(defaults, OmegaConf.from_dotlist([right]))) == ""


@pytest.mark.parametrize("value", ["${mine}", "${ mine }", "${..mine}", "${mine.a}", "${mine[a]}"])
def test_a_key_that_others_take_their_values_from_is_welcome(
    value: str, defaults: DictConfig
) -> None:
    mine = {"mine": {"a": 3} if "a" in value else 3}
    assert complaint(lambda: OmegaConf.merge(defaults, mine, {"data": {"num_val": value}})) == ""
    said = complaint(lambda: OmegaConf.merge(defaults, mine, {"data": {"num_val": "${seed}"}}))
    assert said.startswith("mine: no such key; no value is taken from it")


@pytest.mark.parametrize(
    ("mode", "key"), [("RUN", "hydra.run.dir"), ("MULTIRUN", "hydra.sweep.dir")]
)
def test_a_run_from_the_command_line_has_one_folder(
    mode: str, key: str, defaults: DictConfig
) -> None:
    hydras = {"hydra": {"mode": RunMode[mode], "overrides": {"task": []}}}
    validate(OmegaConf.merge(defaults, hydras))
    validate(OmegaConf.merge(defaults, {"run_dir": "mine"}))  # from Python
    with pytest.raises(ConfigError, match=f"^run_dir=mine: is what Hydra makes it; set {key} inst"):
        validate(OmegaConf.merge(defaults, hydras, {"run_dir": "mine"}))


def test_a_flow_is_chosen_with_its_options(defaults: DictConfig) -> None:
    word = "flow.name=spline"
    hydras = {"hydra": {"mode": RunMode.RUN, "overrides": {"task": [word]}}}
    with pytest.raises(ConfigError, match=r"^flow\.name=spline: .*; choose flow=spline, which"):
        validate(OmegaConf.merge(defaults, OmegaConf.from_dotlist([word]), hydras))


def test_a_mistake_in_a_preset_is_explained(compose_config: Compose, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    preset = tmp_path / "experiment" / "mine.yaml"
    words = ("experiment=mine", f"hydra.searchpath=[file://{tmp_path}]")
    preset.write_text("# @package _global_\nnum_flow: 16\n")
    said = complaint(lambda: compose_config(*words))
    assert said == "num_flow: no such key; did you mean num_flows?"
    preset.write_text("num_flows: 16\n")
    said = complaint(lambda: compose_config(*words))
    hint = "the first line of a file in conf/experiment must be # @package _global_"
    assert said == f"experiment: no such key; {hint}"


@pytest.mark.parametrize(
    ("hook", "check"),
    [
        ("on_run_start", "validate"),
        ("on_multirun_start", "check_sweep"),
        ("on_multirun_end", "finish_sweep"),
    ],
)
@pytest.mark.parametrize("error", [RuntimeError("ours"), ConfigError("a user's")])
def test_whatever_a_check_runs_into_ends_the_program(
    hook: str,
    check: str,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def trip(config: DictConfig) -> None:
        raise error

    monkeypatch.setattr(command_line, check, trip)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    hydras = Callbacks()
    hydras.callbacks.append(Validate())
    with ending(monkeypatch) as end, in_our_words([ROOT / "conf"], []):
        getattr(hydras, hook)(config=OmegaConf.create({"hydra": {"sweep": {"dir": "x"}}}))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    if isinstance(error, ConfigError):
        assert (end.value.code, said) == (2, "error: a user's\n")
    else:
        assert end.value.code == 1
        assert said.startswith("error: RuntimeError: ours; a bug: please report it, ")
        assert said.endswith("with the traceback that HYDRA_FULL_ERROR=1 shows\n")


@contextmanager
def ending(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.ExceptionInfo[SystemExit]]:
    """How the program ends, without what it does to this process's signals to the world."""
    monkeypatch.setattr(logging, "raiseExceptions", True)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(Validate, "made", ())
    monkeypatch.setattr(logging.getLogger("hydra.utils"), "filters", [])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    monkeypatch.setattr(terminal, "FULL_ERROR", "0")
    with pytest.raises(SystemExit) as end, one_line_errors(), quietly():
        yield end


def test_an_error_that_nobody_thought_of_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = logging.FileHandler(tmp_path / "train.log")
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    monkeypatch.chdir(tmp_path)
    with ending(monkeypatch) as end:
        logging.getLogger("hydra.utils").error("what Hydra raises, too")
        try:
            raise KeyError("within")
        except KeyError as error:
            raise IndexError("a\nb") from error
    handler.close()
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("error: IndexError: a b; a bug: please report it, with the t")
    assert said.endswith(" in train.log\n")
    log = (tmp_path / "train.log").read_text()
    assert "KeyError: 'within'" in log
    assert "IndexError: a\nb" in log
    assert "Hydra" not in log


def test_folders_that_stay_empty_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = tmp_path / "outputs" / "day" / "time"
    for name, left in (("", ["outputs"]), ("train.log", ["day", "outputs", "time", "train.log"])):
        with ending(monkeypatch):
            (tmp_path / "outputs").mkdir(exist_ok=True)  # the user's own
            Validate.made = command_line._missing(str(run_dir))
            run_dir.mkdir(parents=True)
            if name:
                (run_dir / name).touch()
            raise DataError("wrong")
        assert sorted(path.name for path in tmp_path.rglob("*")) == left


def test_whose_an_error_is(compose_config: Compose) -> None:
    """Hydra's own ValueErrors are about words; ours, within a call of Hydra's, are ours."""
    with pytest.raises(ValueError, match="must be") as hydras:
        compose_config("data=null")
    assert is_theirs(hydras.value)
    with pytest.raises(ValueError, match="option") as ours:
        build_flow("spline", 2, nosuch=0)
    assert not is_theirs(ours.value)
    assert not is_theirs(BrokenPipeError())


FULL = OSError(28, "No space left on device")


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "logging's"])
def test_a_disk_that_takes_nothing_of_hydras_is_one_line(
    wrapped: bool,
) -> None:
    error = ValueError("Unable to configure handler 'file'") if wrapped else FULL
    error.__cause__ = FULL if wrapped else None
    with pytest.raises(OutputError) as caught, output_errors(lambda: "run"):
        raise error
    assert str(caught.value) == f"run: cannot be written to ({FULL})"


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (ConfigError("theirs"), "run"),
        (OutputError("x"), "run"),
        (ValueError("ours"), "run"),
        (FULL, ""),
    ],
)
def test_other_errors_than_hydras_of_the_disk_stay_as_they_are(
    error: Exception, place: str
) -> None:
    with pytest.raises(type(error)) as caught, output_errors(lambda: place):
        raise error
    assert caught.value is error


def test_a_working_directory_that_was_deleted_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(OutputError, match="the working directory was deleted"):
        here()


class Fail(Callback):
    """Trips over its own feet after the training."""

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        raise RuntimeError("tripped")


def test_a_cell_that_fails_at_its_very_end_has_failed(
    compose_config: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    fail = "+callbacks.fail={_target_: test_command_line.Fail}"
    cfg = compose_config(*SHORT, *NO_PICTURES, f"run_dir={tmp_path}", fail)
    assert run_cell(train, cfg) == math.inf
    assert json.loads((tmp_path / "metrics.json").read_bytes())["status"] == "failed"
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "Traceback (most recent call last):"  # for there is no log
    assert said[-1].startswith("error: RuntimeError: tripped; a bug: please report it")
    assert said[-1].endswith(", with the traceback above")


def test_a_cell_that_fails_after_its_metrics_has_failed_too(
    defaults: DictConfig, tmp_path: Path
) -> None:
    metrics = tmp_path / "metrics.json"

    def task(cfg: DictConfig) -> None:
        metrics.write_text('{"status": "completed"}')
        raise RuntimeError("tripped")

    assert run_cell(task, OmegaConf.merge(defaults, {"run_dir": str(tmp_path)})) == math.inf
    assert json.loads(metrics.read_bytes()) == {"status": "failed", "error": "tripped"}


def test_a_damaged_checkpoint_gets_one_line(train_command: list[str], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(b"PK\x03\x04 nothing")
    result = run(train_command, f"ckpt_path={damaged}", cwd=tmp_path)
    assert result.returncode == 4
    assert "damaged, or no checkpoint of flowlab" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [damaged]


def test_a_missing_gpu_gets_one_line(train_command: list[str], tmp_path: Path) -> None:
    result = run(train_command, "trainer.accelerator=gpu", cwd=tmp_path, CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 2
    assert "this machine has no usable GPU; use cpu" in result.stderr
    assert not list(tmp_path.iterdir())


def test_hydra_full_error_gives_the_traceback(train_command: list[str], tmp_path: Path) -> None:
    result = run(train_command, "num_flows=0", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert result.returncode == 2
    assert "Traceback (most recent call last)" in result.stderr
    assert "ConfigError: num_flows=0" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("error: num_flows=0")


@pytest.mark.parametrize("flag", [["--help"], ["--cfg", "job"]])
def test_looking_costs_no_heavy_imports(
    flag: list[str], train_command: list[str], tmp_path: Path
) -> None:
    command = [sys.executable, "-X", "importtime", *train_command[1:]]
    result = run(command, *flag, cwd=tmp_path)
    assert result.returncode == 0
    assert "num_flows: 4" in result.stdout
    imported = {line.rsplit("|", 1)[-1].strip() for line in result.stderr.splitlines()}
    assert "hydra" in imported
    assert not imported & {"torch", "lightning", "matplotlib"}
    assert not list(tmp_path.iterdir())


SMALL = {
    "--info": "Installed Hydra Plugins",
    "--help | head -n 1": "Train a normalizing flow",
    "--hydra-help | head -n 1": "Hydra (1.",
    "num_flows=3 --cfg job seed=2 | head -n 2": "seed: 2",
}


@pytest.mark.parametrize("words", SMALL)
def test_a_flag_shows_what_it_should(words: str, train_command: list[str], tmp_path: Path) -> None:
    command = f"{' '.join(train_command)} {words}"
    result = run(["bash", "-o", "pipefail", "-c", command], cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert SMALL[words] in result.stdout


def test_without_the_package_there_is_one_line(train_command: list[str], tmp_path: Path) -> None:
    result = run([sys.executable, "-S", "-E", train_command[1]], cwd=tmp_path)
    assert result.returncode == 1
    said = f"error: flowlab: not installed; try pip install -e {str(ROOT)!r}\n"
    assert (result.stdout, result.stderr) == ("", said)


def test_a_variable_that_a_library_cannot_read(train_command: list[str], tmp_path: Path) -> None:
    result = run(train_command, cwd=tmp_path, TQDM_MININTERVAL="abc")
    assert result.returncode == 2
    assert result.stderr.startswith("error: TQDM_MININTERVAL: tqdm cannot read it (")
    assert result.stderr.count("\n") == 1


def test_files_do_not_get_the_numbers_of_closed_streams(tmp_path: Path) -> None:
    code = "from flowlab.commands import start; start._open_what_is_closed(); import os, sys; "
    code += "print(1, file=sys.stderr); print(2); sys.exit(os.open('x', os.O_CREAT))"
    command = f'{sys.executable} -c "{code}" <&- >&- 2>&-'
    result = run(["bash", "-c", command], cwd=tmp_path)
    assert result.returncode > 2
    assert (tmp_path / "x").read_bytes() == b""


def test_a_real_run_is_the_run_in_process(
    train_command: list[str], short_run: Run, tmp_path: Path
) -> None:
    result = run(train_command, *SHORT, cwd=tmp_path, MPLBACKEND="nosuch")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    (folder,) = (tmp_path / "outputs").glob("*/*")
    names = {path.name.split(".tfevents")[0] for path in folder.iterdir()}
    expected = {".hydra", "metrics.json", "flow.safetensors", "checkpoints", "plots"}
    assert names == expected | {"events.out", "train.log", "test_log_prob.npy"}
    weights = (folder / "flow.safetensors").read_bytes()
    assert weights == (short_run.folder / "flow.safetensors").read_bytes()
    kl = f"{short_run.metrics['test/kl']:.4f} ± 0.0001 nats"
    lines = result.stdout.splitlines()
    assert [line.split() for line in lines if line.startswith("KL")] == [["KL", *kl.split()]]
    logdir = folder.parent.relative_to(tmp_path)
    assert lines[-1] == f"tensorboard --logdir {logdir} --samples_per_plugin images=1000"
    assert kl in (folder / "train.log").read_text()


def test_a_terminal_without_plus_minus_gets_the_result_too(
    train_command: list[str], tmp_path: Path
) -> None:
    words = [*SHORT, *NO_PICTURES, "hydra.run.dir='with spaces/run'"]
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = run(train_command, *words, cwd=tmp_path, PYTHONIOENCODING="ascii", **ascii_only)
    assert result.returncode == 0, result.stderr
    assert " +- 0.0001 nats" in result.stdout
    assert "tensorboard --logdir 'with spaces' " in result.stdout
    log = tmp_path / "with spaces" / "run" / "train.log"
    assert " ± 0.0001 nats" in log.read_text(encoding="utf-8")


@pytest.mark.long
def test_a_multirun_makes_a_run_for_each_value(train_command: list[str], tmp_path: Path) -> None:
    words = ["-m", "num_flows=2,3", *SHORT, "trainer.max_epochs=1"]
    result = run(train_command, *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "multirun").glob("*/*/*/metrics.json"))) == 2


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_has_each_default_once(name: str) -> None:
    """A YAML names every option of its recipe; the root's, which it sets, are the recipe's too."""
    preset = OmegaConf.load(ROOT / "conf" / "flow" / f"{name}.yaml")
    values = OmegaConf.to_container(preset, resolve=True)
    assert isinstance(values, dict)
    assert values.keys() <= {"num_flows", "num_hidden", "optimizer", "trainer", "flow"}
    options = values["flow"]
    assert options.pop("name") == name
    assert options.pop("direction") == "density"
    recipe = inspect.signature(FLOWS[name]).parameters.values()
    assert options == {p.name: p.default for p in recipe if p.kind is p.KEYWORD_ONLY}


def test_the_sweep_of_families_has_all_that_are_of_vectors() -> None:
    preset = OmegaConf.load(ROOT / "conf" / "sweep" / "families.yaml")
    vectors = [name for name, promise in PROMISES.items() if not promise.images]
    vectors.remove("diagonal")  # which nothing can be learned of
    assert preset.hydra.sweeper.params.flow.split(",") == vectors


def test_the_sweep_of_targets_has_them_all() -> None:
    preset = OmegaConf.load(ROOT / "conf" / "sweep" / "targets.yaml")
    assert preset.hydra.sweeper.params["data.target"].split(",") == list(TARGETS)

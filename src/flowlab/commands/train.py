"""What `python train.py` does around Hydra: check first, help fast, one line for a mistake."""

import gc
import itertools
import logging
import os
import re
import shlex
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from flowlab import processes, signals
from flowlab.commands.sweep import check_sweep, finish_sweep, run_cell
from flowlab.commands.terminal import print_anywhere
from flowlab.config import near, validate
from flowlab.errors import ConfigError, Finished, FlowlabError
from flowlab.runs.directory import claim

USER_ERRORS = (FlowlabError, HydraException, OmegaConfBaseException)
OWN_CONF = ("--config-dir", "-cd")  # Hydra's flags for a folder of the user's
NO_NAME = "Config group override must be"  # Hydra's ValueError for group=null


# on the command line and not in conf/, so that a run's saved configuration is checked too
VALIDATE = "++hydra.callbacks.validate._target_=flowlab.commands.train.Validate"
FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR", "0")  # as the user has it


def main(conf: Path) -> None:
    """Train as the command line says, with the configurations in the folder `conf`."""
    sys.path.append(str(Path.cwd()))  # for data and extensions, after all that is installed
    with processes.taking_part(), one_line_errors(conf):
        if {"-h", "--help"} & set(sys.argv):
            print_help(conf, _overrides(sys.argv[1:]))
        else:
            sys.argv += [VALIDATE, *processes.words()]
            hydra.main(version_base="1.3", config_path=str(conf), config_name="train")(_task)()


@contextmanager
def without_signal_processing() -> Iterator[None]:
    """Import Lightning without scipy.signal, which takes a tenth of the default run.

    Its torchmetrics loads that to give it a function of an older version, which nobody calls here.
    """
    empty = ModuleType("scipy.signal")
    empty.__dict__["hamming"] = None
    sys.modules.setdefault("scipy.signal", empty)
    try:
        yield
    finally:
        if sys.modules["scipy.signal"] is empty:
            del sys.modules["scipy.signal"]


class Refused(BaseException):
    """Carries a user's error through Hydra, which reports Exceptions in its own ways."""


class Validate(Callback):
    """A Hydra callback that checks the configuration before anything is written.

    What goes wrong in it ends the program: of an Exception Hydra would make a warning.
    """

    to_go_on = ""  # a line on how to, in the process that leads a sweep

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with refusing(Exception):
            validate(config)
            anew = processes.to_be_started(config)
            if processes.is_first() and not anew:
                from flowlab import painter

                painter.start()  # its imports run beside those of the next line
            with without_signal_processing():
                from flowlab.parts import check_parts, import_extensions
            from flowlab.runs.resume import check_resume

            import_extensions(config.get("extensions") or ())
            check_resume(config)
            check_parts(config)
            if anew:
                os.environ["HYDRA_FULL_ERROR"] = FULL_ERROR
                processes.start_anew(config.trainer.devices)
            processes.check_started(config)
            if processes.is_first():
                claim(Path(config.hydra.run.dir), config.ckpt_path)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with refusing(Exception):
            check_sweep(config)
            folder = os.path.relpath(config.hydra.sweep.dir)
            if not re.fullmatch(r"[\w./-]*", folder):
                folder = "'" + folder.replace("'", r"\'") + "'"
            word = shlex.quote(f"hydra.sweep.dir={folder}")
            Validate.to_go_on = f"interrupted; to go on, add {word} to the same command"
            signals.leave_by_exception()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        with refusing(Exception):
            finish_sweep(config)


@contextmanager
def refusing(errors: type[Exception]) -> Iterator[None]:
    """Carry such errors past Hydra."""
    try:
        yield
    except errors as error:
        raise Refused from error


def _task(cfg: DictConfig) -> Any:
    """What Hydra calls for a configuration that `Validate` has checked: a run, or a sweep's cell.

    A run's errors end the program, a cell's that cell alone.
    """
    from flowlab.experiment import train, train_checked

    gc.enable()  # `start` has switched it off
    gc.freeze()
    signals.leave_by_exception()
    with refusing(FlowlabError):
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return run_cell(train, cfg)
        return train_checked(cfg)


@contextmanager
def one_line_errors(conf: Path) -> Iterator[None]:
    """One line and an exit code for what ends a run; HYDRA_FULL_ERROR=1 keeps the traceback."""
    print_anywhere()
    logging.raiseExceptions = False  # a train.log that cannot be written is not worth a traceback
    threading.excepthook = _thread_error
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its errors instead of printing them
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        code = 130 if isinstance(stop, KeyboardInterrupt) else stop.code
        if Validate.to_go_on and code in (130, 143):
            print(Validate.to_go_on, file=sys.stderr)
        sys.exit(code)
    except (Refused, ValueError, *USER_ERRORS) as caught:
        error = caught.__cause__ if isinstance(caught, Refused) else caught
        assert error is not None
        ours = isinstance(error, USER_ERRORS) or str(error).startswith(NO_NAME)
        if FULL_ERROR == "1" or not ours:
            raise error from None
        if isinstance(error, Finished):
            print(error)
            return
        print(f"error: {explain(error, conf)}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", ConfigError.exit_code))


def _thread_error(args: threading.ExceptHookArgs) -> None:
    """Keep quiet about files: TensorBoard's writer raises its OSErrors again in the main thread."""
    if not issubclass(args.exc_type, OSError):
        threading.__excepthook__(args)


def explain(error: BaseException, conf: Path) -> str:
    """One line on what is wrong and what is allowed."""
    text = str(error)
    if match := re.match(r"Could not (override|delete from config)[^']*'([^']+)'", text):
        hint = near(match[2], OmegaConf.to_container(_compose(conf)))
        return f"{match[2]}: no such key; {hint or 'see python train.py --help'}"
    if match := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group, choice = match[1], match[2]
        if group.startswith("hydra/"):
            return f'{group}={choice}: not installed; try pip install -e ".[sweep]"'
        return f"{group}={choice}: no such choice; available: {', '.join(_choices(conf, group))}"
    if text.startswith(NO_NAME):
        groups = "|".join(_groups(conf))
        words = [word for word in sys.argv if re.match(f"({groups})=", word)]
        return f"{' '.join(words)}: expected a choice; ~group leaves a group out"
    if match := re.match(r"Error parsing override '([^']*)'", text):
        return f"{match[1]}: expected key=value or group=choice; see python train.py --help"
    return " ".join(text.split())


def print_help(conf: Path, overrides: list[str]) -> None:
    """Usage, groups and keys. Hydra's own --help takes half as long again."""
    print("Train a normalizing flow:  python train.py [key=value ...] [group=choice ...]\n")
    print("  python train.py num_flows=8             change one thing")
    print("  python train.py -m num_flows=2,4,8      one run for each value")
    print("  python train.py experiment=fast         a preset")
    print("  python train.py --hydra-help            flags of the command line\n\nGroups:")
    for group in _groups(conf):
        print(f"  {group}={'|'.join(_choices(conf, group))}")
    print(f"\nKeys, with their values:\n\n{OmegaConf.to_yaml(_compose(conf, overrides))}", end="")


def _groups(conf: Path) -> list[str]:
    return sorted({path.name for folder in _folders(conf) for path in folder.glob("*/")})


def _choices(conf: Path, group: str) -> list[str]:
    return sorted({p.stem for folder in _folders(conf) for p in (folder / group).glob("*.yaml")})


def _folders(conf: Path) -> list[Path]:
    """Where configurations are: in `conf`, and in the folder that --config-dir names."""
    words = [part for word in sys.argv for part in word.split("=", 1)]
    return [conf, *(Path(b).resolve() for a, b in itertools.pairwise(words) if a in OWN_CONF)]


def _overrides(words: Sequence[str]) -> list[str]:
    """The words without flags and the folder that one of them is followed by."""
    before = ["", *words[:-1]]
    return [
        w for b, w in zip(before, words, strict=True) if not w.startswith("-") and b not in OWN_CONF
    ]


def _compose(conf: Path, overrides: Sequence[str] = ()) -> DictConfig:
    own = ",".join("'file://" + str(p).replace("'", r"\'") + "'" for p in _folders(conf)[1:])
    with initialize_config_dir(str(conf), version_base="1.3"):
        return compose("train", [*overrides, *([f"hydra.searchpath=[{own}]"] if own else [])])

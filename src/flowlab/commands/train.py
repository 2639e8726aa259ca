"""What `python train.py` does around Hydra: check first, help fast, one line for a mistake."""

import gc
import logging
import os
import re
import shlex
import sys
import threading
import warnings
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from flowlab import processes, signals
from flowlab.commands import arguments
from flowlab.commands.explain import explain, is_theirs
from flowlab.commands.help import print_help
from flowlab.commands.output import here, output_errors
from flowlab.commands.sweep import check_sweep, finish_sweep, run_cell
from flowlab.commands.terminal import FULL_ERROR, check_bars, one_line_errors
from flowlab.config import validate
from flowlab.errors import ConfigError
from flowlab.runs.directory import claim

# on the command line and not in conf/, so that a run's saved configuration is checked too
VALIDATE = "++hydra.callbacks.validate._target_=flowlab.commands.train.Validate"


def main(conf: Path) -> None:
    """Train as the command line says, with the configurations in the folder `conf`."""
    with processes.taking_part(), one_line_errors(), quietly():
        sys.path.append(here())  # for data and extensions, after all that is installed
        args = arguments.read(sys.argv[1:])
        folders = [conf, *map(Path, filter(None, [args.config_dir]))]
        output = output_errors(lambda: Validate.output)
        with in_our_words(folders, args.overrides), output:
            if args.help:
                print_help(folders, args.overrides)
            else:
                run(args, conf)


def run(args: Namespace, conf: Path) -> None:
    """Have Hydra do what the command line asks for."""
    if not arguments.looks(args):
        check_bars()
        args.overrides += [VALIDATE, *processes.words()]
    version.setbase("1.3")
    _run_hydra(args, get_args_parser(), _task, str(conf), "train")


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
    """Carries an error through Hydra, which reports Exceptions in its own ways."""


class Validate(Callback):
    """A Hydra callback that checks the configuration before anything is written.

    What goes wrong in it ends the program: of an Exception Hydra would make a warning.
    """

    to_go_on = ""  # a line on how to, in the process that leads a sweep
    made: Sequence[Path] = ()  # folders of a sweep that are not there yet, from the inmost on
    output = ""  # the directory that Hydra writes into

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with past_hydra():
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
            Validate.output = config.hydra.run.dir

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with past_hydra():
            Validate.made = _missing(config.hydra.sweep.dir)
            check_sweep(config)
            Validate.output = config.hydra.sweep.dir
            folder = os.path.relpath(config.hydra.sweep.dir)
            if not re.fullmatch(r"[\w./-]*", folder):
                folder = "'" + folder.replace("'", r"\'") + "'"
            word = shlex.quote(f"hydra.sweep.dir={folder}")
            Validate.to_go_on = f"interrupted; to go on, add {word} to the same command"
            signals.leave_by_exception()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        with past_hydra():
            finish_sweep(config)


@contextmanager
def past_hydra() -> Iterator[None]:
    """Carry what goes wrong past Hydra."""
    try:
        yield
    except Exception as error:
        raise Refused from error


def _task(cfg: DictConfig) -> Any:
    """What Hydra calls for a configuration that `Validate` has checked: a run, or a sweep's cell.

    A run's errors end the program, a cell's that cell alone.
    """
    from flowlab.experiment import train, train_checked

    gc.enable()  # `start` has switched it off
    gc.freeze()
    signals.leave_by_exception()
    with past_hydra():
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return run_cell(train, cfg)
        return train_checked(cfg)


@contextmanager
def quietly() -> Iterator[None]:
    """Leave what goes wrong to one line at the end, and no empty folder behind."""
    logging.raiseExceptions = False  # a train.log that cannot be written is not worth a traceback
    logging.getLogger("hydra.utils").addFilter(lambda record: False)  # it logs what it raises
    threading.excepthook = _thread_error
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its errors instead of printing them
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        code = 130 if isinstance(stop, KeyboardInterrupt) else stop.code
        if Validate.to_go_on and code in signals.EXIT_CODES:
            print(Validate.to_go_on, file=sys.stderr)
        sys.exit(code)
    except Exception:
        with suppress(OSError):  # which the first that holds something ends in
            for folder in Validate.made:
                folder.rmdir()
        raise


@contextmanager
def in_our_words(folders: Sequence[Path], words: Sequence[str]) -> Iterator[None]:
    """Make a ConfigError of what Hydra says, and an error again of what was carried past it."""
    try:
        yield
    except (Refused, Exception) as caught:
        error = caught.__cause__ if isinstance(caught, Refused) else caught
        assert error is not None
        if is_theirs(error):
            raise ConfigError(explain(error, folders, words)) from error
        raise error from error.__cause__


def _missing(folder: str) -> list[Path]:
    """A folder and those that it is in, as far as they are not there."""
    path = Path(folder).absolute()
    return [path for path in (path, *path.parents) if not path.exists()]


def _thread_error(args: threading.ExceptHookArgs) -> None:
    """Keep quiet about files: TensorBoard's writer raises its OSErrors again in the main thread."""
    if not issubclass(args.exc_type, OSError):
        threading.__excepthook__(args)

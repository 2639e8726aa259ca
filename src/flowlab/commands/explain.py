"""What Hydra says of words and of YAML files, in one line that says what to do."""

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError

from flowlab.commands.groups import choices, groups
from flowlab.commands.suggest import suggest
from flowlab.config import OPTIONAL
from flowlab.errors import FlowlabError

NULL = "Config group override must be"  # Hydra's ValueError for group=null
THEIRS = ("hydra", "hydra_plugins", "omegaconf")


def is_theirs(error: BaseException) -> bool:
    """Whether Hydra has raised an error: then it is about words, a YAML file or a plug-in."""
    if isinstance(error, HydraException | OmegaConfBaseException | YAMLError):
        return True
    if isinstance(error, FlowlabError | BrokenPipeError):
        return False
    packages = [name.partition(".")[0] for name in _modules(error.__traceback__)]
    known = [name for name in packages if name in (*THEIRS, "flowlab")]
    return isinstance(error, Exception) and known[-1:] != ["flowlab"] and bool(known)


def _modules(trace: TracebackType | None) -> Iterator[str]:
    while trace is not None:
        yield trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next


def explain(error: BaseException, folders: Sequence[Path], words: Sequence[str]) -> str:
    """One line on an error of Hydra's, with configurations in `folders`, after such words."""
    if isinstance(error, OverrideParseException):
        return _unread(error.override)
    if isinstance(error, MarkedYAMLError) and (mark := error.problem_mark):
        return f"{os.path.relpath(mark.name)}, line {mark.line + 1}: {error.problem}"
    if isinstance(error, MissingConfigException) and (missing := error.missing_cfg_file):
        return _missing(missing, folders)
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {_first_line(error)}"
    return _by_its_text(error, folders, words)


def _by_its_text(error: BaseException, folders: Sequence[Path], words: Sequence[str]) -> str:
    text = str(error)
    if match := re.match(r"Could not (override|delete from config)[^']*'([^']+)'", text):
        return f"{match[2]}: no such key; {suggest(match[2], folders, words)}"
    if match := re.match(r"Ambiguous value for argument '(.*)'\n", text):
        key, _, value = match[1].partition("=")
        hint = f"add -m for a run with each; a list is {key}=[{value}]"
        return f"{match[1]}: several values; {hint}, text {quoted(match[1])}"
    if match := re.match(r"Could not append to config. An item is already at '([^']+)'", text):
        return f"+{match[1]}: there is such a key; leave the plus out"
    if match := re.match(r"Multiple values for (\S+)\. ", text):
        hint = f"as {match[1]}=NAME, without a plus, or in a YAML as override /{match[1]}: NAME"
        return f"{match[1]}: chosen already; choose another {hint}"
    if text.startswith(NULL):
        return "; ".join(_null(word, folders) for word in words if _is_null(word, folders))
    if isinstance(cause := error.__cause__, OmegaConfBaseException):
        text = f"{text or 'a value of a YAML cannot be read'} ({_first_line(cause)})"
    if not isinstance(error, HydraException | OmegaConfBaseException | ValueError):
        text = f"{type(error).__name__}: {text}"
    return " ".join(text.split())


def _unread(word: str) -> str:
    """Of a word that is not key=value as Hydra reads it."""
    if (again := quoted(word)) is None:
        hint = "without spaces around the =; see python train.py --help"
        return f"{word}: expected key=value or group=choice, {hint}"
    return f"{word}: cannot be read; a value with such signs is quoted twice, as {again}"


def quoted(word: str) -> str | None:
    """key=value as it is typed in a shell for the value to be text; None if it cannot be."""
    key, is_pair, value = word.partition("=")
    escaped = re.sub(r'(\\*)(?="|$)', r"\1\1", value).replace('"', r"\"")
    again = f'{key}="{escaped}"'
    try:
        OverridesParser.create().parse_override(again)
    except HydraException:
        return None
    if "'" in again and not re.search(r"[$`\\!]", again):
        return '"' + again.replace('"', r"\"") + '"'
    return shlex.quote(again) if is_pair else None


def _missing(path: str, folders: Sequence[Path]) -> str:
    group, _, choice = path.rpartition("/")
    if group.startswith("data/"):  # the folders of a file
        group, choice = "data", path.removeprefix("data/")
    if group.startswith("hydra/"):
        return f'{group}={choice}: not installed; try pip install -e ".[sweep]"'
    if not group:
        return f"--config-name {choice}: no such YAML in {' or '.join(map(str, folders))}"
    if not (known := choices(folders, group)):
        return f"{group}: no such group; of those at the root a YAML writes /{Path(group).name}"
    hint = f"; a file is data=table data.path={choice}" if group == "data" and "." in choice else ""
    return f"{group}={choice}: no such choice; available: {', '.join(known)}{hint}"


def _is_null(word: str, folders: Sequence[Path]) -> bool:
    group, _, value = word.lstrip("+").partition("=")
    return group in groups(folders) and "null" in value.split(",")


def _null(word: str, folders: Sequence[Path]) -> str:
    group = word.partition("=")[0].lstrip("+")
    out = f"; ~{group} leaves it out" if group in OPTIONAL else ""
    return f"{word}: expected one of {', '.join(choices(folders, group))}{out}"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]

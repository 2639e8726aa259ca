"""A corpus of hostile files, and a process that opens each under an audit hook.

python tests/hostile.py FOLDER   makes the corpus there and prints, as JSON, what happened to each
"""

import encodings.cp437  # noqa: F401  (how zipfile reads names that are not marked as UTF-8)
import hashlib
import json
import os
import pickle
import resource
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import copy
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save

from flowlab import load
from flowlab.errors import FlowlabError
from flowlab.export import digest
from flowlab.flows import build_flow
from flowlab.runs.checkpoints import seal
from flowlab.runs.resume import check_resume
from flowlab.schema import Schema

CONF = Path(__file__).resolve().parent.parent / "conf"
HARMLESS = ("object.__getattr__", "builtins.id", "pathlib.Path.glob", "os.scandir", "os.listdir")


class Evil:
    """What a pickle can do to whoever opens it."""

    def __init__(self, *call: Any):
        self.call = call

    def __reduce__(self) -> tuple[Any, ...]:
        function, *arguments = self.call
        return function, tuple(arguments)


def evils(mark: str) -> Iterator[Evil]:
    yield Evil(os.system, f"touch {mark}")
    yield Evil(open, mark, "w")
    yield Evil(eval, f"__import__('os').mkdir({mark!r})")
    yield Evil(torch.load, mark)


def pickles(mark: str) -> Iterator[bytes]:
    for evil in evils(mark):
        yield from (pickle.dumps(evil, protocol) for protocol in (0, 2, 5))
        yield pickle.dumps({"epoch": 1, "state_dict": {}, "flowlab": {"config": evil}})


def archives(folder: Path, mark: str, good: Path) -> Iterator[bytes]:
    """torch.save's two formats, and zip files that are not what they seem, sealed or not."""
    for content in _archives(folder, mark, good):
        yield content
        yield seal(content)


def _archives(folder: Path, mark: str, good: Path) -> Iterator[bytes]:
    path = folder / "archive"
    for evil in islice(evils(mark), 2):
        for content in (evil, {"epoch": 1, "state_dict": {"x": evil}}, {"hyper_parameters": evil}):
            for zipped in (True, False):
                torch.save(content, path, _use_new_zipfile_serialization=zipped)
                yield path.read_bytes()
    checkpoint = torch.load(good, weights_only=True)
    instantiator = {"_instantiator": "os.system", "_target_": "os.system", "command": mark}
    torch.save(checkpoint | {"hyper_parameters": instantiator, "epoch": "0"}, path)
    yield path.read_bytes()
    with zipfile.ZipFile(good) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    (pickled,) = [name for name in entries if name.endswith("data.pkl")]
    evil_bytes = pickle.dumps(next(evils(mark)))
    tricks: list[dict[str, bytes]] = [
        entries | {pickled: evil_bytes},
        entries | {f"../../{Path(mark).name}": b"x"},
        entries | {mark: b"x"},
        {name: b"" if "/data/" in name else data for name, data in entries.items()},
        {"archive/data.pkl": evil_bytes, "archive/version": b"3\n"},
        {"archive/constants.pkl": evil_bytes, "archive/code/__torch__.py": b"import os"},
        {},
    ]
    for trick in tricks:
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in trick.items():
                archive.writestr(name, data)
            for written in archive.infolist():  # as torch has it
                written.external_attr = 0
        yield path.read_bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # a bomb: 1 GiB in 1 MiB
        archive.writestr("archive/data.pkl", evil_bytes)
        with archive.open("archive/data/0", "w", force_zip64=True) as entry:
            for _ in range(1024):
                entry.write(bytes(2**20))
    yield path.read_bytes()
    yield from bombs(checkpoint, path)
    whole = good.read_bytes()
    yield whole[: len(whole) // 2]
    yield whole.replace(b"torch._utils", b"posix.system")
    yield b"\x80\x02" + b"(" * 10**6


def bombs(checkpoint: dict[str, Any], path: Path) -> Iterator[bytes]:
    """Checkpoints that are small as files, and far larger once they are read or walked through."""
    many: Any = [0] * 10
    for _ in range(14):
        many = [many] * 10  # 10^15 leaves
    long: Any = ["x" * 10**5] * 10**4
    itself: list[Any] = []
    itself.append(itself)
    floats = torch.zeros(10**6)
    views = [floats[:] for _ in range(500)]  # 2 GB of 4 MB
    for trick in (torch.zeros(1).expand(2 * 10**9), many, long, itself, views):
        for place in ("state_dict", "hyper_parameters"):
            torch.save(checkpoint | {place: {"x": trick}}, path)
            yield path.read_bytes()
    torch.save(checkpoint | {"hyper_parameters": Evil(bytearray, 10**10)}, path)
    yield path.read_bytes()
    torch.save(checkpoint | {"hyper_parameters": torch.zeros(10**6)}, path)
    overlap(path)
    yield path.read_bytes()


def overlap(path: Path, copies: int = 5000) -> None:
    """Name the largest entry of a zip file as many more times in its table."""
    with zipfile.ZipFile(path, "a") as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        for i in range(copies):
            twin = copy(largest)
            twin.filename = f"archive/data/twin{i}"
            archive.filelist.append(twin)
        archive.writestr("archive/data/last", b"")  # so that the table is written anew
        for written in archive.filelist:
            written.external_attr = 0


def with_columns(content: dict[str, Any], columns: Any = None) -> dict[str, Any]:
    """The content of a metadata with columns whose own digest is right."""
    text = json.dumps(columns, sort_keys=True)
    return content | {
        "columns": columns,
        "columns_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def lies() -> Iterator[Any]:
    """Columns that are not of a flow of two coordinates, or would like to be more than numbers."""
    good = {
        "names": ["a", "b"],
        "context_names": [],
        "kinds": ["float", "integer"],
        "noise": [0.0, 1.0],
        "grid": [None, [0.0, 1.0]],
        "quantiles": [i / 1000 for i in range(1001)],
    }
    Schema.checked(json.loads(json.dumps(good)), 2, 0)  # without a lie it is taken
    nan, inf, large = float("nan"), float("inf"), 10**400
    wrong: dict[str, list[Any]] = {
        "names": [
            *(["a"], ["a", "b", "c"], ["a", "a"], ["a", ""], ["a", 1], ["a", None], ["a", ["b"]]),
            *("ab", {"a": 1, "b": 2}, None, ["a", "b" * 10**6], ["a"] * 10**6, ["a", "\x1b[2J"]),
            *(["a", "\0"], ["a", "\x9b31m"], ["a", "\ud800"]),
        ],
        "context_names": [["c"], "", None, {}, [[]]],
        "kinds": [["float"], ["float"] * 3, ["float", "os.system"], ["float", ["integer"]], None],
        "noise": [
            *([0.0], [0.0, -1.0], [0.0, nan], [0.0, inf], [0.0, large], [0.0, "1"], [False, True]),
            *([0.0, None], 1.0, [0.0, 0.0], [0.0] * 10**5),
        ],
        "grid": [
            *([None, None], [[0.0, 1.0], None], [[0.0, 1.0]] * 2, [None, [0.0, 0.0]], None),
            *([None, [0.0, -1.0]], [None, [0.0]], [None, [0.0, 0.5]], [None, [nan, 1.0]]),
            *([None, [0.0, inf]], [None, [2.0**60, 1.0]], [None, [0, large]], [None, "ab"]),
        ],
        "quantiles": [
            *([0.0] * 1000, [0.0] * 1002, [0.0] * 10**5, [float(-i) for i in range(1001)]),
            *([0.0] * 1000 + [last] for last in (nan, inf, large, "1", None, True, [1.0], 1e308)),
            *("0" * 1001, {}, None, 0.0),
        ],
    }
    yield from (good | {key: value} for key, values in wrong.items() for value in values)
    yield from (good | {"_target_": "os.system"}, [], "os.system", 1, True, {}, [good])
    yield from ({k: v for k, v in good.items() if k != key} for key in good)


def safetensors() -> Iterator[bytes]:
    """Headers that lie, and configurations that would like to be more than numbers."""
    flow = build_flow("coupling", 2)
    state = flow.state_dict()
    good = with_columns({"format": 2, "flow": flow.config, "sha256": digest(flow.config, state)})
    deep = "[" * 10**5 + "]" * 10**5
    contents: list[Any] = [
        *({**good, "flow": {**flow.config, "name": name}} for name in ("os.system", "Flow", "..")),
        *({**good, "flow": {**flow.config, k: "os.system"}} for k in ("_target_", "_instantiator")),
        *({**good, "flow": {**flow.config, "num_flows": n}} for n in (10**6, 10**30, -1, "4")),
        *({**good, "flow": {**flow.config, "shape": n}} for n in (10**6, 10**9, 2.0, [[2]], None)),
        *({**good, "flow": {**flow.config, "shape": n * [10**6]}} for n in (1, 3, 10**5)),
        *({**good, "flow": {**flow.config, "context": n}} for n in (10**6, 10**9, -1, "1")),
        *({**good, "flow": {**flow.config, "bound": x}} for x in (float("nan"), float("inf"), "1")),
        {**good, "_target_": "os.system"},
        *({**good, "module": name} for name in ("antigravity", "os.system", "../x", 1, None, [])),
        {**good, "flow": {**flow.config, "name": "this"}, "module": "this"},
        {**good, "format": 1},
        {**good, "format": "2"},
        *({**good, "columns_sha256": value} for value in ("", None, ["0"])),
        *(with_columns(good, columns) for columns in lies()),
        {**good, "sha256": ["0"]},
        "!!python/object/apply:os.system ['true']",
        None,
    ]
    contents += autoencoders(good)
    texts = [json.dumps(content) for content in contents]
    texts += [deep, '{"format":2,"flow":' + deep + ',"sha256":""}', "1" * 10**5, "", "\x00"]
    texts += [json.dumps(good).replace('"columns": null', f'"columns": {deep}')]
    for text in texts:
        yield save(state, {"flowlab": text})
    yield save({name: tensor * torch.nan for name, tensor in state.items()}, {"flowlab": texts[0]})

    def with_header(header: Any, data: bytes = b"") -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data

    metadata = {"__metadata__": {"flowlab": json.dumps(good)}}
    for shape, offsets in (
        ([2**40], [0, 2**42]),
        ([2**62, 4], [0, 16]),
        ([4], [0, 2**63]),
        ([4], [16, 0]),
        ([-4], [0, 16]),
        ([4], [0, 17]),
        ([1] * 10**5, [0, 4]),
    ):
        table = {"x": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}
        yield with_header(metadata | table, bytes(16))
    yield with_header(b"{" * 10**5)
    yield with_header({"__metadata__": deep})
    yield with_header(metadata)
    for length in (0, 1, 2**31, 2**63, 2**64 - 1):
        yield struct.pack("<Q", length) + b"{}"


def autoencoders(good: dict[str, Any]) -> Iterator[Any]:
    """Posteriors of images that are none, or more than numbers, or larger than a machine."""
    posterior = build_flow("planar", 2, context=3, direction="sampling", num_flows=2).config
    table = {"shape": [2, 2], "posterior": posterior}
    for flow in (
        *({"shape": [2, 2]}, {"posterior": posterior}, {**table, "name": "planar"}),
        *({**table, "context": 3}, {**table, "_target_": "os.system"}, {**posterior, **table}),
        *({**table, "posterior": wrong} for wrong in (None, 1, "planar", [], [posterior], {})),
        *({**table, "shape": wrong} for wrong in (None, 0, "2", [], [0, 2], [[2], 2], [2.0, 2])),
        *({**table, "shape": [wrong] * 2} for wrong in (2**20, 2**21, 10**30, -1, True)),
        {**table, "posterior": table},
        *({**table, "posterior": {**posterior, "name": name}} for name in ("os.system", [], None)),
        *({**table, "posterior": {**posterior, key: "os.system"}} for key in ("_target_", "x")),
        *(
            {**table, "posterior": {**posterior, key: wrong}}
            for key in ("shape", "context", "num_flows")
            for wrong in (0, -1, 2**12, 2**20, 10**30, "2", None, [2, 2], [10**6] * 3, 1.5)
        ),
        {"shape": [2**20], "posterior": {**posterior, "context": 2**20, "shape": 2**20}},
    ):
        yield {**good, "flow": flow}


def make_corpus(folder: Path, good: Path) -> list[Path]:
    """Write each hostile content under each name that `load` and `ckpt_path` accept."""
    mark = str(folder / "harm")
    contents = [*pickles(mark), *archives(folder, mark, good), *safetensors()]
    paths = []
    for i, content in enumerate(contents):
        run = folder / f"run{i}"
        (run / "checkpoints").mkdir(parents=True)
        for name in ("flow.safetensors", "checkpoints/last.ckpt", "other.ckpt"):
            (run / name).write_bytes(content)
        paths += [run, run / "flow.safetensors", run / "other.ckpt"]
    devices = folder / "devices"
    devices.mkdir()
    (devices / "flow.safetensors").symlink_to("/dev/zero")
    return [*paths, devices, devices / "flow.safetensors"]


def openings(cfg: DictConfig, path: Path) -> Iterator[Callable[[], object]]:
    """The ways in: `flowlab.load`, and `ckpt_path` of the command line."""
    yield lambda: load(path)
    yield lambda: check_resume(OmegaConf.merge(cfg, {"ckpt_path": str(path)}))


def is_harm(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    if event == "import":
        return str(arguments[0]) not in sys.modules
    return not event.startswith(HARMLESS)


def try_one(cfg: DictConfig, path: Path, events: list[str]) -> dict[str, Any]:
    """Open a file in a process of its own; what it did, and what came of it."""
    reader, writer = os.pipe()
    ways = list(openings(cfg, path))
    if pid := os.fork():
        os.close(writer)
        with os.fdopen(reader) as pipe:
            text = pipe.read()
        os.waitpid(pid, 0)
        return json.loads(text) if text else {"path": str(path), "outcome": ["died"], "events": []}
    events.clear()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = []
    events.append("armed")
    for way in ways:
        try:
            way()
            outcome.append("opened")
        except (FlowlabError, FileNotFoundError):
            outcome.append("refused")
        except BaseException as error:
            outcome.append(repr(error)[:200])
    seen = events[1:]
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    result = {"path": str(path), "outcome": outcome, "events": seen, "memory": grown}
    os.write(writer, json.dumps(result).encode())
    os._exit(0)


def main(folder: Path, good: Path) -> None:
    torch.set_num_threads(1)
    tempfile.tempdir = str(folder)
    corpus = make_corpus(folder, good)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", ["trainer.max_epochs=9"])
    for way in openings(cfg, good.parent.parent):  # imports what opening needs
        with suppress(FlowlabError):  # for a finished run
            way()
    events: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if events and is_harm(event, arguments):
            events.append(f"{event} {arguments!r}"[:200])

    sys.addaudithook(hook)
    print(json.dumps([try_one(cfg, path, events) for path in corpus]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

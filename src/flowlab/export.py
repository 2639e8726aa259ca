"""flow.safetensors: a flow's weights; its configuration and columns as JSON in the metadata."""

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from flowlab.errors import ModelFileError, one_line
from flowlab.files import FLOW, run_at, write_whole
from flowlab.flows import FLOWS, Autoencoder, Flow, build
from flowlab.schema import Schema

FORMAT = 2
KEYS = {"format", "flow", "columns", "sha256", "columns_sha256"}
MAX_SIZE = 2**20  # of any option that is a whole number: dimensions, units
MAX_AXES = 8  # of a shape
MAX_LAYERS = 2**12  # of a flow in all, for each takes its time to build, and each step to go
LAYERS = ("num_flows", "num_hidden_layers", "num_levels", "num_reflections", "num_steps")
MOST_SAID = 400  # signs of why a file is refused
DTYPES = {"F32": torch.float32, "F64": torch.float64}


def save(flow: Flow | Autoencoder, path: str | Path, schema: Schema | None = None) -> None:
    """Write what `build` made, a flow with its columns maybe; `load` gives it back to the bit.

    Raises ValueError for another flow, for a precision that `load` does not read, and for columns
    that are not the flow's.
    """
    dtypes = {tensor.dtype for tensor in flow.state_dict().values()}
    if not flow.config or len(dtypes) != 1 or not dtypes <= set(DTYPES.values()):
        raise ValueError("can save flows of build_flow, in float32 or float64 throughout")
    tensors = {name: tensor.contiguous().cpu() for name, tensor in flow.state_dict().items()}
    columns = None
    if schema is not None:
        columns = json.loads(json.dumps(schema.to_dict()))
        _schema(columns, flow.config)
    content = {
        "format": FORMAT,
        "flow": flow.config,
        "columns": columns,
        "sha256": digest(flow.config, tensors),
        "columns_sha256": _hash(columns).hexdigest(),
    }
    if (module := FLOWS[_flow_of(flow.config)["name"]].__module__).partition(".")[0] != "flowlab":
        content["module"] = module  # for people to read: `load` imports nothing
    write_whole(Path(path), to_bytes(tensors, {"flowlab": json.dumps(content)}))


def digest(config: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """SHA-256 of a flow's configuration and weights."""
    sha256 = _hash(config)
    for name, tensor in sorted(tensors.items()):
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return str(sha256.hexdigest())


def load(path: str | Path) -> Any:
    """Load a flow from a run directory, a flow.safetensors file or `latest`, to be used on the CPU.

    It is in eval mode and its weights ask for no gradients: `log_prob` takes many points in chunks,
    and what it gives is ready for NumPy. To train on: `flow.train().requires_grad_()`. Of a run
    with `objective=elbo` it is an `Autoencoder`. Raises as `load_with_schema` does.
    """
    return load_with_schema(path)[0]


def load_with_schema(path: str | Path) -> tuple[Flow | Autoencoder, Schema | None]:
    """`load`, and what the flow's columns are, if the file says it.

    The file can name nothing but a flow of the table `FLOWS` and plain numbers for it. Its
    table of tensors is compared with what the configuration implies before any is read.

    Raises FileNotFoundError, ModelFileError (a ValueError) if it is no flow or damaged, and
    ConfigError if there is no latest run.
    """
    path = run_at(path)
    if path.is_dir():
        path = path / FLOW
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; expected a run directory, a flow.safetensors or latest"
        )
    try:
        with safe_open(path, framework="pt") as file:
            content = _content(file.metadata())
            config = content["flow"]
            dtype = _check_tensors(file, config)
            schema = _schema(content["columns"], config)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        digests = digest(config, tensors), _hash(content["columns"]).hexdigest()
        if digests != (content["sha256"], content["columns_sha256"]):
            raise ValueError("damaged, its digest does not match")
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise ValueError("weights that are not finite")
    except (SafetensorError, ValueError, TypeError, RuntimeError, OverflowError) as error:
        reason = one_line(error, MOST_SAID)
        message = f"{one_line(path)}: not a flow that flowlab can load: {reason}"
        best = path.parent / "checkpoints" / "best.ckpt"
        if best.is_file():
            message += one_line(f"; ckpt_path={path.parent} writes it anew from {best.parent}")
        raise ModelFileError(message) from error
    with torch.random.fork_rng(devices=[]):
        flow = build(config).to(dtype)
    flow.load_state_dict(tensors)
    return flow.eval().requires_grad_(False), schema


def _hash(content: Any) -> Any:
    """The SHA-256, to be continued, of what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode())


def _content(metadata: dict[str, str] | None) -> dict[str, Any]:
    """What the file's header says, with the flow's configuration."""
    content = json.loads((metadata or {}).get("flowlab", "null"))
    if not isinstance(content, dict) or "format" not in content:
        raise ValueError("no flow configuration in its metadata")
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']!r}; this version reads {FORMAT}")
    if content.keys() - {"module"} != KEYS or not isinstance(content["flow"], dict):
        raise ValueError("its flow configuration is not a table of the kind that flowlab writes")
    if "module" in content:
        _check_module(content["module"], _flow_of(content["flow"]).get("name"))
    if "posterior" in content["flow"] and content["flow"].keys() != {"shape", "posterior"}:
        raise ValueError("keys beside the shape and the posterior of an autoencoder")
    for key, value in (*content["flow"].items(), *_flow_of(content["flow"]).items()):
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and abs(number) > MAX_SIZE:
                raise ValueError(f"{key}={value} is more than flowlab builds, {MAX_SIZE}")
        sizes = value if isinstance(value, list) and all(type(v) is int for v in value) else []
        if len(sizes) > MAX_AXES or math.prod(sizes) > MAX_SIZE:
            raise ValueError(f"{key}={value} is of more numbers than flowlab builds, {MAX_SIZE}")
    counts = {k: v for k, v in _flow_of(content["flow"]).items() if k in LAYERS and v}
    if all(type(v) is int for v in counts.values()) and math.prod(counts.values()) > MAX_LAYERS:
        said = ", ".join(f"{key}={value}" for key, value in counts.items())
        raise ValueError(f"{said}: more layers than flowlab builds, {MAX_LAYERS}")
    return content


def _schema(columns: Any, config: dict[str, Any]) -> Schema | None:
    """The columns of a flow whose configuration has been checked."""
    if columns is None:
        return None
    if (
        len(config["shape"]) != 1
        or "posterior" in config
        or isinstance(config.get("support"), dict)
    ):
        raise ValueError("columns for points that are not rows of numbers")
    return Schema.checked(columns, config["shape"][0], config["context"])


def _flow_of(config: dict[str, Any]) -> dict[str, Any]:
    """A flow's configuration, or of an autoencoder that of its posterior."""
    flow = config.get("posterior", config)
    if not isinstance(flow, dict):
        raise ValueError("its posterior is not a table of the kind that flowlab writes")
    return flow


def _check_module(module: Any, name: Any) -> None:
    """Say which module to import for a flow of the user's own, unless it has been."""
    if not isinstance(module, str) or not re.fullmatch(r"[\w.]{1,100}", module):
        raise ValueError("the module of its flow has no name that a module can have")
    recipe = FLOWS.get(name) if isinstance(name, str) else None
    if recipe is None or recipe.__module__.partition(".")[0] == "flowlab":
        raise ValueError(
            f"its flow {str(name)[:60]!r} is none of flowlab's but of {module}; if you trust that "
            f"module import it first, from a shell by the word extensions=[{module}]"
        )


def _check_tensors(file: Any, config: dict[str, Any]) -> torch.dtype:
    """Compare the file's table of tensors with the configuration's; nothing is allocated."""
    slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
    with torch.device("meta"):
        expected = build(config).state_dict()
    if {name: list(tensor.shape) for name, tensor in expected.items()} != {
        name: tensor.get_shape() for name, tensor in slices.items()
    }:
        raise ValueError("its tensors are not those of its configuration")
    kinds = {tensor.get_dtype() for tensor in slices.values()}
    if len(kinds) != 1 or not kinds <= DTYPES.keys():
        raise ValueError(
            f"tensors of type {', '.join(sorted(kinds))}; needed {' or '.join(DTYPES)}"
        )
    return DTYPES[kinds.pop()]

"""flow.safetensors: what `load` refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from flowlab import load
from flowlab.export import save
from flowlab.flows import build_flow

GOOD = {"format": 1, "flow": build_flow("coupling", 2).config, "sha256": ""}


def write(path: Path, content: Any, **tensors: torch.Tensor) -> Path:
    state = build_flow("coupling", 2).state_dict() | tensors
    save_file(state, path, {"flowlab": json.dumps(content)})
    return path


def changed(**options: Any) -> dict[str, Any]:
    return GOOD | {"flow": GOOD["flow"] | options}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no flow configuration"),
        ([], "no flow configuration"),
        (GOOD | {"_target_": "os.system"}, "not a table of the kind"),
        (GOOD | {"format": 2}, "format 2; this version reads 1"),
        (GOOD | {"flow": "coupling"}, "not a table"),
        (GOOD | {"flow": {}}, "missing"),
        (changed(name="torch.nn.Linear"), "unknown flow"),
        (changed(name=["coupling"]), "unhashable"),
        (changed(_target_="os.system"), "no option _target_"),
        (changed(num_flows=5), "not those of its configuration"),
        (changed(num_hidden=10**5), "not those of its configuration"),
        (changed(num_hidden=10**9), "num_hidden=1000000000 is more than flowlab builds"),
        (changed(num_flows=10**30), "is more than flowlab builds"),
        (changed(), "its digest does not match"),
        (changed(num_flows="4"), "must be of type int"),
        (changed(bound=-1.0), "bound must be positive"),
    ],
)
def test_a_wrong_configuration_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "flow.safetensors", content)
    with pytest.raises(ValueError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)


def test_wrong_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "flow.safetensors"
    for name, tensor in {
        "extra": torch.zeros(1),
        "transforms.0.nets.0.biases.0": torch.zeros(4, 9),
        "transforms.0.nets.0.biases.1": torch.zeros(4, 8, dtype=torch.float16),
    }.items():
        write(path, GOOD, **{name: tensor})
        with pytest.raises(ValueError, match="not a flow that flowlab can load"):
            load(path)


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "flow.safetensors"
    save(build_flow("coupling", 2), path)
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="not a flow that flowlab can load"):
            load(path)
    torch.save({"a": 1}, path)
    with pytest.raises(ValueError, match="not a flow that flowlab can load"):
        load(path)
    with pytest.raises(FileNotFoundError, match="expected a run directory"):
        load(tmp_path / "nosuch")


def test_loading_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    save(build_flow("coupling", 2), tmp_path / "flow.safetensors")
    before = torch.get_rng_state()
    load(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)

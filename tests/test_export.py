"""flow.safetensors: what `load` refuses."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile import lies, with_columns
from safetensors.torch import save_file

from flowlab import load
from flowlab.errors import ModelFileError
from flowlab.export import digest, load_with_schema, save
from flowlab.flows import build_flow
from flowlab.schema import Schema

HASH = hashlib.sha256(b"null").hexdigest()  # of no columns
PLAIN = {"columns": None, "columns_sha256": HASH}
GOOD = {"format": 2, "flow": build_flow("coupling", 2).config, "sha256": "", **PLAIN}


COLUMNS = Schema(
    ("a", 'b, "c"'), (), ("float", "integer"), (0.0, 2.0), (None, (1.0, 2.0)), (0.0,) * 1001
)


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
        (GOOD | {"format": 1}, "format 1; this version reads 2"),
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
        (changed(num_flows=10**4), "num_flows=10000: more layers than flowlab builds, 4096"),
        (changed(shape=[2, 10**9]), "is more than flowlab builds, 1048576"),
        (changed(shape=[[2]]), "shape must be a positive whole number"),
        (changed(shape=[3]), "not those of its configuration"),
        (changed(context=1), "not those of its configuration"),
        (changed(direction="sampling"), "not those of its configuration"),
        (changed(direction="os.system"), "direction must be density or sampling"),
    ],
)
def test_a_wrong_configuration_is_refused(content: Any, message: str, tmp_path: Path) -> None:
    path = write(tmp_path / "flow.safetensors", content)
    with pytest.raises(ValueError, match=message) as error:
        load(path)
    assert str(path) in str(error.value)


def test_the_digest_is_of_the_configuration_too(tmp_path: Path) -> None:
    """Another bound is another flow of the same tensors."""
    flow = build_flow("coupling", 2)
    content = GOOD | {"sha256": digest(flow.config, flow.state_dict())}
    path = tmp_path / "flow.safetensors"
    save_file(flow.state_dict(), path, {"flowlab": json.dumps(content)})
    assert load(path).config == flow.config
    content["flow"] = flow.config | {"bound": 2.0}
    save_file(flow.state_dict(), path, {"flowlab": json.dumps(content)})
    with pytest.raises(ModelFileError, match="its digest does not match"):
        load(path)


def test_columns_come_back_as_they_were(tmp_path: Path) -> None:
    flow, path = build_flow("coupling", 2), tmp_path / "flow.safetensors"
    save(flow, path, COLUMNS)
    assert load_with_schema(tmp_path)[1] == COLUMNS
    save(flow, path)
    assert load_with_schema(path)[1] is None
    with pytest.raises(ValueError, match="names of its columns are not 3"):
        save(build_flow("coupling", 3), path, COLUMNS)


def test_columns_that_lie_are_refused(tmp_path: Path) -> None:
    """Each lie of the hostile corpus, in a file whose digests are right."""
    flow, path = build_flow("coupling", [2]), tmp_path / "flow.safetensors"
    content = GOOD | {"sha256": digest(flow.config, flow.state_dict())}
    for columns in lies():
        save_file(flow.state_dict(), path, {"flowlab": json.dumps(with_columns(content, columns))})
        with pytest.raises(ModelFileError, match=r"column|quantiles"):
            load(path)


def test_the_digest_tells_names_types_and_shapes_apart() -> None:
    """Of tensors that are the same bytes."""
    zeros = torch.zeros(2, 3)
    tables = ({"a": zeros}, {"b": zeros}, {"a": zeros.T}, {"a": zeros.int()})
    assert len({digest({}, table) for table in tables}) == len(tables)


def test_wrong_tensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "flow.safetensors"
    for name, tensor in {
        "extra": torch.zeros(1),
        "chain.0.weights.0.3": torch.zeros(4, 9),
        "chain.0.weights.0.4": torch.zeros(4, 8, dtype=torch.float16),
    }.items():
        write(path, GOOD, **{name: tensor})
        with pytest.raises(ValueError, match="not a flow that flowlab can load"):
            load(path)


def test_damage_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    """Any length that is cut off, and any bit of the file that is flipped."""
    path = tmp_path / "flow.safetensors"
    save(build_flow("coupling", 2), path, COLUMNS)
    whole, dice = path.read_bytes(), random.Random(0)
    for length in (0, 5, len(whole) - 1, *dice.sample(range(len(whole)), 50)):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileError, match="not a flow that flowlab can load"):
            load(path)
    for position in dice.sample(range(len(whole)), 300):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << dice.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(ModelFileError, match="not a flow that flowlab can load"):
            load(path)
    torch.save({"a": 1}, path)
    with pytest.raises(ModelFileError, match="not a flow that flowlab can load"):
        load(path)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    flow = build_flow("coupling", 2)
    next(flow.parameters()).data[0] = torch.nan
    save(flow, tmp_path / "flow.safetensors")
    with pytest.raises(ModelFileError, match="weights that are not finite"):
        load(tmp_path)


def test_a_refusal_names_the_checkpoint_that_has_the_weights_too(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "best.ckpt").touch()
    (tmp_path / "flow.safetensors").touch()
    with pytest.raises(ModelFileError, match=r"writes it anew from .*checkpoints"):
        load(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a run directory"):
        load(tmp_path / "nosuch")


def test_loading_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    save(build_flow("coupling", 2), tmp_path / "flow.safetensors")
    before = torch.get_rng_state()
    load(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)

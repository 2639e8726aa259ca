"""`python train.py --help`: each key, with what the YAML files say of it."""

from pathlib import Path

import pytest
from conftest import ROOT
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from omegaconf import OmegaConf

from flowlab.commands.help import comments, print_help, read
from flowlab.config import flatten

CONF = ROOT / "conf"
BY_DEFAULT = {
    **{"objective": "likelihood", "optimizer": "adam", "trainer": "cpu"},
    **{"callbacks": "default", "flow": "coupling", "data": "bimodal"},
}
FILES = [
    path
    for path in sorted(CONF.rglob("*.yaml"))
    if path.parent.name not in ("sweep", "experiment")  # which set keys of other files
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONF)))
def test_each_key_of_a_file_is_explained(file: Path) -> None:
    group = "" if file.parent == CONF else file.parent.name
    said = comments([CONF], BY_DEFAULT | {group: file.stem} if group else {})
    keys = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(keys, dict)
    keys.pop("defaults", None)
    is_global = file.read_text().startswith("# @package _global_\n")
    own = keys if is_global or not group else {group: keys}
    for key, value in flatten(own):
        name = key.rpartition(".")[2]
        if key.startswith("hydra.") or name.startswith("_") or "${" in str(value):
            continue
        assert said.get(key), key


def test_help_has_the_comments_of_what_is_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # as in a process of its own, without what `compose_config` has set up
    monkeypatch.delitem(Singleton._instances, GlobalHydra, raising=False)
    (tmp_path / "data").mkdir()
    mine = "# @package _global_\n# no key: is this\ndefaults:\n  - toy@data\n"
    mine += 'data:\n  num_val: 7  # mine: "a" # b\noptimizer:\n  lr: 0.5\n'
    mine += "trainer:\n  patience: 3  # of mine\n"
    (tmp_path / "data" / "mine.yaml").write_text(mine)
    print_help([CONF, tmp_path], ["data=mine", "flow=planar", "trainer=gpu", "num_hidden=3"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "num_flows: 32 # planar layers",
        "num_hidden: 3 # of no effect: a layer has one unit",
        "lr: 0.5 # learning rate",  # of the file that has words for it
        'num_val: 7 # mine: "a" # b',
        "patience: 3 # of mine",  # of the last file that has
        "num_test: 10000 # and to test on",
        "accelerator: gpu # or cpu",
        "pictures: # all of them; callbacks.NAME.every_n_epochs for one",
        "every_n_epochs: ${run_or_cell:25,null} # null, as in a sweep's cells: at the end alone",
        "density: # it and its logarithm as contours, and a surface, beside the true ones",
        "schedule=constant|cosine|onecycle # of the learning rate",
        "data=bimodal|checkerboard|digits|eight_gaussians|funnel|images|maf_bsds300|maf_gas|"
        "maf_hepmass|maf_miniboone|maf_power|mine|mixture|table|toy # with the number of epochs "
        "that suits its points",
    ):
        assert line in lines
    assert not any(line.startswith("hydra") for line in lines)


def test_a_key_is_found_by_its_indentation() -> None:
    text = "a:\n  b: 1\n  c:\n  - d: 2\n    e: x # y\n  f: 3\ng:\n- h\n\ni: 4  # j"
    keys = [line.key for line in read(text.splitlines())]
    assert keys == ["a", "a.b", "a.c", "a.c.d", "a.c.e", "a.f", "g", "", "", "i"]

"""`python train.py sweep=benchmark`, without its process: its cells, trained and reported on."""

import csv
from pathlib import Path

import numpy as np
from conftest import NO_PICTURES, Compose, cells_of
from omegaconf import OmegaConf

from flowlab.commands.report import report
from flowlab.config import validate
from flowlab.experiment import train


def test_it_is_there_without_any_files(compose_config: Compose) -> None:
    cells = [*cells_of(["sweep=benchmark"])]
    assert len(cells) == 6 * 3 * 3
    assert [word.partition("=")[0] for word in cells[0][0]] == ["flow", "data", "seed", "sweep"]
    for word, compose in {words[1]: compose for words, compose in cells}.items():
        cfg = compose()
        validate(cfg)
        assert cfg.data.target == word.partition("=")[2]
        assert (cfg.data.dim, cfg.trainer.max_epochs) in ((None, 40), (10, 40))


def test_its_cells_make_a_table_of_families_by_tables(
    compose_config: Compose, tmp_path: Path
) -> None:
    for folder, columns in (("power", 8), ("miniboone", 43)):
        (tmp_path / folder).mkdir()
        x = np.random.default_rng(columns).standard_normal((300, columns))
        np.save(tmp_path / folder / "data.npy", x)
    words = ["sweep=benchmark", "flow=coupling,maf", "data=maf_power,maf_miniboone", "seed=0"]
    words += [f"data.path={tmp_path}", "trainer.max_epochs=1", "num_hidden=8", *NO_PICTURES]
    for i, (_, compose) in enumerate(cells_of(words)):
        cfg = compose()
        OmegaConf.set_struct(cfg, False)
        del cfg.hydra
        folder = tmp_path / "runs" / str(i)
        (folder / ".hydra").mkdir(parents=True)
        OmegaConf.save(cfg, folder / ".hydra" / "config.yaml")
        cfg.run_dir = str(folder)
        assert train(cfg)["status"] == "completed"
    assert report([tmp_path / "runs"], tmp_path) == 0
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    tables, families = ("maf_power", "maf_miniboone"), ("coupling", "maf")
    assert [(row["flow"], row["data"]) for row in rows] == [
        (f, t) for f in families for t in tables
    ]
    with (tmp_path / "table.csv").open() as file:
        header, *lines = csv.reader(file)
    assert set(tables) <= {word for name in header for word in name.split()}
    assert sorted(word for line in lines for word in line if word in families) == sorted(families)

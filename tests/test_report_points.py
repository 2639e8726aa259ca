"""Runs and cells that are compared over their test points, and over data sets as in a benchmark."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Run as ShortRun
from fabricated import fabricate, with_points
from scipy import stats

from flowlab import load
from flowlab.commands.forms import Figure, Table, render
from flowlab.commands.pair import against
from flowlab.commands.tables import first_table, to_markdown
from flowlab.data import toy
from flowlab.errors import ConfigError
from flowlab.runs import likelihoods
from flowlab.runs.comparing import OVER_BOTH, OVER_POINTS, compare, standing
from flowlab.runs.published import published
from flowlab.runs.reading import collect
from flowlab.runs.results import Cell, Ranking, Run, rank

DICE = np.random.default_rng(0)
POINTS = DICE.normal(-2.0, 1.0, 500)  # log-densities of 500 points, far apart from each other
NEAR = DICE.normal(0.0, 0.1, 500)  # what two flows of them differ by, but for their means


def one_of(root: Path, flow: str, log_prob: Any, seed: int = 0, digest: str = "same") -> Path:
    folder = root / f"{flow}{seed}"
    fabricate(folder, f"flow.name={flow}", f"seed={seed}", test_kl=None)
    return with_points(folder, log_prob, digest)


def cells_of(root: Path) -> list[Cell]:
    (ranking,) = rank(collect([root])[0])
    return ranking.cells


def test_a_run_keeps_the_log_density_of_each_test_point(short_run: ShortRun) -> None:
    cfg = short_run.cfg.data
    data = toy(cfg.target, cfg.num_train, cfg.num_val, cfg.num_test, seed=0)
    kept = np.load(short_run.folder / likelihoods.LOG_PROBS, allow_pickle=False)
    with torch.no_grad():
        expected = load(short_run.folder).log_prob(data.test.x)
    assert kept.dtype == np.float32
    np.testing.assert_allclose(kept, expected, atol=1e-5)
    read = likelihoods.read(short_run.folder, short_run.metrics["test/nll"])
    np.testing.assert_array_equal(read, kept)
    other = toy(cfg.target, cfg.num_train, cfg.num_val, cfg.num_test, seed=1)
    digests = [
        likelihoods.keep(short_run.folder, torch.from_numpy(kept), d.test)[likelihoods.POINTS]
        for d in (data, other)
    ]
    assert digests[0] == short_run.metrics[likelihoods.POINTS] != digests[1]
    steps = short_run.metrics["epochs"] * -(-cfg.num_train // cfg.batch_size)
    assert short_run.metrics["steps"] == steps


@pytest.mark.parametrize(("gap", "mark"), [(0.03, ""), (0.002, "=")])
def test_one_seed_each_is_compared_over_the_test_points(
    gap: float, mark: str, tmp_path: Path
) -> None:
    one_of(tmp_path, "spline", POINTS)
    one_of(tmp_path, "planar", POINTS + NEAR - NEAR.mean() - gap)
    best, other = cells_of(tmp_path)
    p, test = compare(best, other, "test/nll")
    assert test == OVER_POINTS
    assert p == pytest.approx(stats.ttest_rel(POINTS, POINTS + NEAR - NEAR.mean() - gap)[1], 1e-3)
    assert stats.ttest_ind(POINTS, POINTS + NEAR - gap)[1] > 0.5  # unpaired nothing is seen
    (ranking,) = rank(collect([tmp_path])[0])
    text = to_markdown([], [ranking], [], tmp_path)
    assert f"| {mark or ' ':4} | planar" in text
    assert f"best's: {OVER_POINTS},\n" in text


def test_seeds_and_shared_points_are_both_random(tmp_path: Path) -> None:
    """Where one of the two adds nothing, the test is that of the other alone."""
    seeds = [0.0, 0.3, 0.1]
    for seed, shift in enumerate(seeds):
        one_of(tmp_path / "a", "spline", POINTS, seed)
        one_of(tmp_path / "a", "planar", POINTS - 0.1 - shift, seed)
        one_of(tmp_path / "b", "spline", POINTS, seed)
        one_of(tmp_path / "b", "planar", POINTS + NEAR - NEAR.mean() - 0.01, seed)
        one_of(tmp_path / "c", "spline", POINTS, seed, digest=f"of seed {seed}")
        one_of(
            tmp_path / "c", "planar", POINTS + NEAR - 0.1 - shift, seed, digest=f"of seed {seed}"
        )
    p, test = compare(*cells_of(tmp_path / "a"), "test/nll")
    over_seeds = stats.ttest_1samp(np.array(seeds) + 0.1, 0)[1]
    assert (p, test) == (pytest.approx(over_seeds, 0.02), OVER_BOTH)
    p, test = compare(*cells_of(tmp_path / "b"), "test/nll")
    over_points = stats.ttest_1samp(NEAR - NEAR.mean() - 0.01, 0)[1]
    assert (p, test) == (pytest.approx(over_points, 0.02), OVER_BOTH)
    assert compare(*cells_of(tmp_path / "c"), "test/nll")[1] != OVER_BOTH  # points of their own


def test_a_file_that_is_not_that_of_the_run_is_not_believed(tmp_path: Path) -> None:
    one_of(tmp_path, "spline", POINTS)
    folder = one_of(tmp_path, "planar", POINTS - 1)
    np.save(folder / likelihoods.LOG_PROBS, POINTS.astype(np.float32))
    assert compare(*cells_of(tmp_path), "test/nll")[1] == ""
    with pytest.raises(ConfigError, match=r"an NLL of .* and metrics\.json says"):
        against([tmp_path / "spline0", folder])


# a run against a run


def test_two_runs_are_compared_in_pairs(tmp_path: Path) -> None:
    a, b = one_of(tmp_path, "spline", POINTS), one_of(tmp_path, "planar", POINTS + NEAR - 0.02)
    gaps = (POINTS.astype(np.float32) - (POINTS + NEAR - 0.02).astype(np.float32)).astype(float)
    said = against([a, b])
    assert f"{gaps.mean():.4f} ± {stats.sem(gaps):.4f} nats per point over 500 test points" in said
    assert f"p = {stats.ttest_1samp(gaps, 0)[1]:.2g}, A is likelier" in said
    assert f"A is likelier at {np.mean(gaps > 0):.1%}" in said
    assert "| flow           | spline" in said
    assert f"{-gaps.mean():.4f} ± {stats.sem(gaps):.4f} nats" in against([b, a])
    assert "no difference to be seen" in against([a, a])


def test_other_points_are_not_paired_and_other_data_not_compared(tmp_path: Path) -> None:
    a = one_of(tmp_path, "spline", POINTS)
    b = one_of(tmp_path, "planar", POINTS[:300] + 0.5, seed=1, digest="another")
    said = against([a, b])
    p = stats.ttest_ind(POINTS, POINTS[:300] + 0.5, equal_var=False)[1]
    assert "Their test points are not the same ones" in said
    assert f"Welch's t-test, two-sided: p = {p:.2g}, B is likelier" in said
    fabricate(tmp_path / "c", "data.target=circles", test_kl=None)
    with_points(tmp_path / "c", POINTS, "a third")
    with pytest.raises(ConfigError, match=r"of other data, data\.target is bimodal and circles"):
        against([a, tmp_path / "c"])


@pytest.mark.parametrize("what", ["nothing", "failed", "header", "objects", "pipe", "none"])
def test_a_run_without_its_points_is_refused_in_one_line(what: str, tmp_path: Path) -> None:

    a, b = one_of(tmp_path, "spline", POINTS), one_of(tmp_path, "planar", POINTS)
    file = b / likelihoods.LOG_PROBS
    if what == "nothing":
        file.unlink()
    elif what == "failed":
        (b / "metrics.json").write_text('{"status": "failed"}')
    elif what == "header":  # of 10^15 points, in a small file
        file.write_bytes(file.read_bytes().replace(b"(500,)", b"(1" + b"0" * 15 + b",)")[:2128])
    elif what == "objects":
        np.save(file, np.array([{}], dtype=object), allow_pickle=True)
    elif what == "none":
        file.write_bytes(b"")
    else:
        file.unlink()
        os.mkfifo(file)
    with pytest.raises(ConfigError) as caught:
        against([a, b])
    assert str(b) in str(caught.value)
    assert "\n" not in str(caught.value)


# a benchmark


def test_ranks_are_told_apart_as_in_demsars_example() -> None:
    """Four classifiers on fourteen data sets: a difference of 1.25 (JMLR 7, 2006, page 12)."""
    order = [DICE.permutation(4) for _ in range(14)]
    where = standing([ranking_of(f"{i}", places) for i, places in enumerate(order)])
    assert where.critical == pytest.approx(1.25, abs=0.005)
    assert list(where.ranks.values()) == pytest.approx(
        [1 + np.mean([places[int(name)] for places in order]) for (name,) in where.ranks]
    )
    same = standing([ranking_of(f"{i}", [0, 1, 2]) for i in range(4)])
    assert same.p == pytest.approx(np.exp(-4))  # chi squared is 8, with 2 degrees of freedom


def ranking_of(data: str, nlls: Any) -> Ranking:
    """A ranking whose cells are called 0, 1, ... and have these NLLs."""
    figures = [{"test/nll": float(nll), "val/nll": float(nll)} for nll in nlls]
    cells = [Cell((str(i),), [Run(Path(), 0, {}, found)]) for i, found in enumerate(figures)]
    return Ranking(data, ["flow"], cells)


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Three flows, two published data sets and a third one, which the last flow lacks."""
    for i, data in enumerate(("power", "gas", "mine_&_yours")):
        for j, flow in enumerate(("maf", "spline", "planar")):
            words = (f"data._target_=flowlab.data.{data}", "~data.target", f"flow.name={flow}")
            if (i, j) == (2, 2):
                continue
            facts = {"data/published": data.upper(), "data/published_by": "shape"} if i < 2 else {}
            for seed in range(2):
                folder = tmp_path / f"{data}-{flow}-{seed}"
                fabricate(folder, *words[::2], f"seed={seed}", test_kl=None, steps=50, **facts)
                with_points(folder, POINTS - (j - i) ** 2 + 0.01 * seed)
    return tmp_path


def test_a_benchmark_is_one_table_of_flows_by_data_sets(benchmark: Path) -> None:
    rankings = rank(collect([benchmark])[0])
    table = first_table(rankings, benchmark)
    assert table is not None
    rows = list(csv.DictReader(render(table, "csv").splitlines()))
    assert [row["flow"] for row in rows[:3]] == ["spline", "maf", "planar"]
    assert [float(row["mean rank"]) for row in rows[:3]] == [
        pytest.approx(rank, abs=0.01) for rank in (8 / 6, 11 / 6, 17 / 6)
    ]
    assert {row["ms a step"] for row in rows[:3]} == {"20.00"}
    nll = -POINTS.astype(np.float32).mean(dtype=float)
    assert float(rows[0]["power test/nll"]) == pytest.approx(nll + 1 - 0.005, abs=1e-5)
    assert float(rows[0]["power test/nll stderr"]) == pytest.approx(0.005, abs=1e-5)
    assert (rows[1]["power test/nll mark"], rows[2]["mine_&_yours test/nll"]) == ("best", "-")
    theirs = {row["flow"]: row for row in rows[3:]}
    assert set(theirs) == set(published("POWER"))
    maf = theirs["MAF, 10 layers (Papamakarios 2017)"]
    assert (maf["power test/nll"], maf["gas test/nll"], maf["mine_&_yours test/nll"]) == (
        *("-0.24", "-10.08"),
        "-",
    )
    text = to_markdown([], rankings, [], benchmark)
    assert "3 data sets are few" in text
    assert "gas taken for GAS by shape, power taken for POWER by shape." in text


def test_published_figures_are_of_the_sets_that_a_run_names() -> None:
    assert published("MINIBOONE")["RQ-NSF, autoregressive (Durkan 2019)"] == 9.22
    for name in ("miniboone", "", None, [], "MINE"):
        assert published(name) == {}


def test_latex_is_a_table_of_booktabs(benchmark: Path) -> None:
    table = first_table(rank(collect([benchmark])[0]), benchmark)
    assert table is not None
    lines = render(table, "tex").splitlines()
    assert lines[0] == r"\begin{tabular}{lrrrrrrr}"
    assert lines[1::2][0] == r"\toprule"
    assert lines[-2:] == [r"\bottomrule", r"\end{tabular}"]
    assert lines.count(r"\midrule") == 2
    rows = [line for line in lines if line.endswith(r"\\")]
    assert {len(row.replace(r"\&", "").split(" & ")) for row in rows} == {8}
    assert r"mine\_\&\_yours test/nll" in rows[0]
    (maf,) = [row for row in rows if row.startswith("maf")]
    assert maf.count(r"\mathbf") == 1


def test_the_three_forms_say_the_same() -> None:
    table = Table(
        ["a|b", "x"], [["1%", Figure(0.5, 0.25, "=")]], [["p", Figure(2.0)]], frozenset("x")
    )
    md, tex, rows = (render(table, form).splitlines() for form in ("md", "tex", "csv"))
    assert md[2:] == ["| 1%  | 0.5000 ± 0.2500 = |", "| p   | 2.0000            |"]
    assert rows == ["a|b,x,x stderr,x mark", "1%,0.5,0.25,=", "p,2.0,,"]
    assert r"1\% & $\mathbf{0.5000 \pm 0.2500}$ \\" in tex
    assert r"p & $2.0000$ \\" in tex


def test_a_set_that_lacks_most_flows_does_not_break_the_table(benchmark: Path) -> None:
    for seed in range(2):
        for flow in ("maf", "spline"):
            (benchmark / f"gas-{flow}-{seed}" / ".hydra" / "config.yaml").unlink()
    rankings = rank(collect([benchmark])[0])
    text = to_markdown([], rankings, [], benchmark)
    first = text.split("\n\n")[0]
    assert "power test/nll" in first
    assert "gas" not in first
    assert "Not in it, for other keys differ there: gas." in text
    assert "gas taken for GAS by shape: Gaussian (Papamakarios 2017) 3.58, Real NVP" in text


def test_json_of_a_run_stays_small(short_run: ShortRun) -> None:
    assert not any(len(json.dumps(value)) > 2000 for value in short_run.metrics.values())

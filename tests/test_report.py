"""Reports on folders of runs: made by hand, so that what they must say is known beforehand."""

import csv
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import NO_PICTURES, SHORT, Compose, Run, events
from fabricated import FAMILIES, cell, fabricate, family
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from scipy import stats
from tensorboard.plugins.hparams import metadata

from flowlab import export
from flowlab.commands.report import report
from flowlab.commands.sweep import finish_sweep
from flowlab.commands.tables import order, to_markdown
from flowlab.errors import SweepError
from flowlab.experiment import train
from flowlab.flows import build_flow
from flowlab.plots import sweep as sweep_plots
from flowlab.plots.overview import overview
from flowlab.runs.reading import collect
from flowlab.runs.results import Ranking, rank, shared, varied
from flowlab.runs.settings import settings_of, trial_id
from flowlab.targets import TARGETS

NAMES = ["curve", "pareto", "densities"]
STOP = "lightning.pytorch.callbacks.EarlyStopping"


def markdown(folder: Path) -> str:
    """The report on a folder, without its pictures."""
    runs, left_out = collect([folder])
    return to_markdown(runs, rank(runs), left_out, folder)


def table(folder: Path) -> list[dict[str, str]]:
    """Its first table, a dictionary a row; the column of marks is `mark`."""
    first = markdown(folder).split("\n\n")[0]
    rows = [[word.strip() for word in line[2:-2].split(" | ")] for line in first.splitlines()]
    head = ["mark", *rows[0][1:]]
    return [dict(zip(head, row, strict=True)) for row in rows[2:]]


def ranked(folder: Path) -> Ranking:
    (ranking,) = rank(collect([folder])[0])
    return ranking


def axes_of(*runs: Path) -> dict[str, list[str]]:
    """What a ranking names as different, and the values in its cells."""
    (ranking,) = rank(collect(runs)[0])
    columns = zip(*(cell.values for cell in ranking.cells), strict=True)
    return {axis: sorted(column) for axis, column in zip(ranking.axes, columns, strict=True)}


# statistics


def t_test_by_hand(differences: list[float]) -> float:
    """The two-sided p-value of a paired t-test, from its formula."""
    d = np.array(differences)
    t = d.mean() / (d.std(ddof=1) / math.sqrt(len(d)))
    return float(2 * stats.t.sf(abs(t), len(d) - 1))


BEST = [0.10, 0.30, 0.20, 0.50]


@pytest.mark.parametrize(
    ("differences", "between", "mark"),
    [
        ([0.02, 0.05, 0.03, 0.01], (0.01, 0.05), ""),  # as a whole far within the spread of seeds
        ([0.02, 0.05, 0.03, -0.02], (0.05, 1.0), "="),
        ([0.04, 0.05, 0.05, 0.06], (0.0, 0.01), ""),
        ([0.0, 0.0, 0.0, 0.0], (math.nan, math.nan), "="),
        ([-0.04, -0.05, -0.05, -0.06], (0.0, 0.01), "="),  # better on the test points
    ],
)
def test_cells_with_the_same_seeds_are_compared_in_pairs(
    differences: list[float], between: tuple[float, float], mark: str, tmp_path: Path
) -> None:
    other = [kl + d for kl, d in zip(BEST, differences, strict=True)]
    if any(differences):
        assert between[0] < t_test_by_hand(differences) < between[1]
        assert stats.ttest_ind(BEST, other, equal_var=False).pvalue > 0.5
    cell(tmp_path, "num_flows=2", BEST, val_nll=1.0)
    cell(tmp_path, "num_flows=3", other)
    assert [row["mark"] for row in table(tmp_path)] == ["best", mark]
    assert "paired t-test over the seeds,\n" in markdown(tmp_path)


@pytest.mark.parametrize(("gap", "mark"), [(0.02, "="), (0.05, ""), (0.2, "")])
def test_cells_with_other_seeds_are_compared_by_welchs_test(
    gap: float, mark: str, tmp_path: Path
) -> None:
    first, second = [0.10, 0.11, 0.13], [0.10 + gap, 0.14 + gap, 0.12 + gap, 0.13 + gap]
    p = stats.ttest_ind(first, second, equal_var=False).pvalue
    assert gap != 0.05 or 0.001 < p < 0.05
    assert (p > 0.05) == (mark == "=")
    cell(tmp_path, "num_flows=2", first, val_nll=1.0)
    cell(tmp_path, "num_flows=3", second, first_seed=1)
    assert [row["mark"] for row in table(tmp_path)] == ["best", mark]
    assert "Welch's t-test,\n" in markdown(tmp_path)


def test_cells_are_compared_with_the_best_and_not_with_the_worst(tmp_path: Path) -> None:
    for i, offset in enumerate((0.0, 0.3, 0.5, 0.5)):
        kls = [kl + offset + 0.01 * (i % 2) * j for j, kl in enumerate(BEST)]
        cell(tmp_path, f"num_flows={2 + i}", kls, val_nll=1.0 + i)
    assert [row["mark"] for row in table(tmp_path)] == ["best", "", "", ""]


def test_a_single_seed_has_no_error_and_is_compared_with_nothing(tmp_path: Path) -> None:
    for i in range(2):
        cell(tmp_path, f"num_flows={2 + i}", [0.1 + i], val_nll=i, test_kl_error=0.01)
    assert [row["mark"] for row in table(tmp_path)] == ["best", ""]
    text = markdown(tmp_path)
    assert "one seed each, no error known" in text
    assert "±" not in text
    assert "test," not in text


def test_means_and_errors_are_over_seeds_and_replicates(tmp_path: Path) -> None:
    values = [0.1, 0.4, 0.2]
    replicates = {"test/kl": values, "val/nll": values, "test/nll": values}
    fabricate(tmp_path / "a", "replicates=3", replicates=replicates)
    fabricate(tmp_path / "b", "seed=2", test_kl=0.2, val_nll=0.2, test_nll=0.2)  # once more
    fabricate(tmp_path / "c", "seed=3", test_kl=0.9, val_nll=0.9, test_nll=0.9)
    (row,) = table(tmp_path)
    assert row["seeds"] == "4"
    expected = f"{np.mean([*values, 0.9]):.4f} ± {stats.sem([*values, 0.9]):.4f}"
    assert row["test/kl"] == row["val/nll"] == row["test/nll"] == expected


# the ranking


def test_cells_are_ranked_by_val_nll(tmp_path: Path) -> None:
    for flows, val, kl in ((2, 2.3, 0.1), (3, 2.1, 0.3), (4, 2.2, 0.2)):
        cell(tmp_path, f"num_flows={flows}", [kl, kl], val_nll=val)
    rows = table(tmp_path)
    assert [row["num_flows"] for row in rows] == ["3", "4", "2"]
    assert rows[0]["mark"] == "best"
    assert rows[0]["test/kl"] == "0.3000 ± 0.0000"
    ax = sweep_plots.curve(ranked(tmp_path)).axes[0]
    (star,) = [line for line in ax.lines if line.get_marker() == "*"]
    assert (*star.get_xdata(), *star.get_ydata()) == (3, 0.3)


def test_where_the_truth_is_unknown_the_nll_is_shown(tmp_path: Path) -> None:
    for flows, nll in ((2, -1.5), (3, -2.5)):
        figures = {"test_kl": None, "test_nll": nll, "val_nll": nll}
        fabricate(tmp_path / f"{flows}", f"num_flows={flows}", **figures)
    rows = table(tmp_path)
    assert [row["test/nll"] for row in rows] == ["-2.5000", "-1.5000"]
    assert "test/kl" not in rows[0]
    ax = sweep_plots.curve(ranked(tmp_path)).axes[0]
    assert ax.get_ylabel() == "test NLL (nats)"
    assert [name for name, _ in sweep_plots.figures(ranked(tmp_path))] == NAMES


def test_data_sets_are_never_ranked_against_each_other(tmp_path: Path) -> None:
    for target, dim, kl in (("bimodal", 2, 0.1), ("far/5", 5, 9.0)):
        for flows in (2, 3):
            words = (f"data.target={target}", f"num_flows={flows}", f"data.num_train={flows}00")
            fabricate(
                tmp_path / f"{dim}-{flows}", *words, dim=dim, test_kl=kl + flows, val_nll=kl - flows
            )
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    finish_sweep(config)
    text = (tmp_path / "results.md").read_text()
    first, second = text.split("### ")[1:]
    for part, name, folder in ((first, "bimodal", "2-3"), (second, "far/5", "5-3")):
        assert part.startswith(f"{name}\n")
        (best,) = [line for line in part.splitlines() if line.startswith("| best")]
        assert best.endswith(f" {folder}  |")
        assert "target" not in part
    names = {path.stem for path in (tmp_path / "plots").iterdir()}
    assert {name for name in names if "far" in name} == {
        *("axes-far%2F5", "pareto-far%2F5"),  # a density is of a plane
    }
    assert "densities-bimodal" in names
    with (tmp_path / "results.csv").open() as file:
        assert {row["data.target"] for row in csv.DictReader(file)} == {"bimodal", "far/5"}


# several data sets, each with cells of its own


@pytest.fixture
def families(tmp_path: Path) -> Path:
    """Ranks of coupling 3 and 1, of planar 2 and 2, of spline 1 and none, as it failed there."""
    family(tmp_path, "coupling", "bimodal", [4.0, 4.2], params=30, seconds=2.0)
    family(tmp_path, "planar", "bimodal", [3.0, 4.0], params=30, seconds=4.0)
    family(tmp_path, "spline", "bimodal", [3.1, 3.3])
    family(tmp_path, "coupling", "checkerboard", [1.5, 1.6], params=50, seconds=3.0)
    family(tmp_path, "planar", "checkerboard", [2.0, 2.1], seconds=8.0)
    family(tmp_path, "spline", "checkerboard", [0.5, 0.7], status="failed")
    return tmp_path


def test_what_a_choice_decides_is_no_axis(families: Path) -> None:
    runs, _ = collect([families])
    assert [ranking.axes for ranking in rank(runs)] == [["flow"], ["flow"]]
    assert [axis.name for axis in varied(runs)] == ["data.target", "flow"]
    words = ("schedule._target_=m.other", "optimizer.betas=[0.5,0.9]")  # no flow's to decide
    family(families, "coupling", "far/5", [1.0])
    family(families, "planar", "far/5", [1.0], *words, test_kl=None)
    (ranking,) = (ranking for ranking in rank(collect([families])[0]) if ranking.data == "far/5")
    assert set(ranking.axes) == {"flow", "schedule", "optimizer.betas"}


@pytest.mark.parametrize(
    ("word", "axis"),
    [
        ("num_flows=5", "num_flows"),
        ("optimizer.lr=0.1", "optimizer.lr"),
        ("trainer.max_epochs=7", "trainer.max_epochs"),
        ("flow.of_planar=2", "flow.of_planar"),
        ("data.num_train=9", "data.num_train"),
    ],
)
def test_an_axis_stays_where_a_flow_has_two_values(word: str, axis: str, tmp_path: Path) -> None:
    runs = [family(tmp_path, flow, "bimodal", [1.0]) for flow in FAMILIES]
    assert set(axes_of(*runs)) == {"flow"}
    assert set(axes_of(*runs, family(tmp_path, "planar", "bimodal", [1.0], word))) == {"flow", axis}


def test_cells_of_several_data_sets_are_in_one_table(families: Path) -> None:
    rows = table(families)
    bimodal, checkerboard = "bimodal test/kl", "checkerboard test/kl"
    assert [row["mark"] for row in rows] == ["planar", "coupling", "spline"]
    expected = ["0.3500 ± 0.0500 =", "0.4100 ± 0.0100", "0.3200 ± 0.0100 best"]
    assert [row[bimodal] for row in rows] == expected
    assert [row[checkerboard] for row in rows] == ["0.2050 ± 0.0050", "0.1550 ± 0.0050 best", "-"]
    assert [(row["params"], row["seconds"]) for row in rows[:2]] == [("20", "6.0"), ("40", "2.5")]
    assert markdown(families).index("rows by their mean rank") < markdown(families).index("###")


def test_the_table_has_the_nll_where_the_truth_is_unknown(tmp_path: Path) -> None:
    for flow, nll in (("coupling", 1.0), ("planar", 2.0)):
        family(tmp_path, flow, "bimodal", [nll])
        family(tmp_path, flow, "mine", [nll], test_kl=None)
    first, second = table(tmp_path)
    assert (first["mine test/nll"], second["mine test/nll"]) == ("1.0000 best", "2.0000")
    assert (first["bimodal test/kl"], second["bimodal test/kl"]) == ("0.1000 best", "0.2000")
    assert "±" not in markdown(tmp_path)


def test_data_sets_with_other_axes_have_no_table_in_common(tmp_path: Path) -> None:
    family(tmp_path, "coupling", "bimodal", [1.0])
    family(tmp_path, "coupling", "checkerboard", [1.0])
    assert markdown(tmp_path).startswith("### bimodal")
    family(tmp_path, "planar", "bimodal", [1.0])
    assert markdown(tmp_path).startswith("### bimodal")


# configurations


def test_whole_configurations_are_compared(tmp_path: Path) -> None:
    """And not the words of the command line, which were the same for an edited preset."""
    a = fabricate(tmp_path / "a", "num_flows=6")
    b = fabricate(tmp_path / "b")
    assert axes_of(a, b) == {"num_flows": ["2", "6"]}
    c = fabricate(tmp_path / "c", "flow.num_flows=6")
    assert axes_of(a, b, c) == {"num_flows": ["2", "2", "6"], "flow.num_flows": ["2", "6", "6"]}
    d = fabricate(tmp_path / "d", "flow.num_flows=2")
    assert axes_of(b, d) == {}


@pytest.mark.parametrize(
    ("words", "axis", "values"),
    [
        (
            ["schedule._target_=flowlab.training.schedules.cosine"],
            "schedule",
            ["constant", "cosine"],
        ),
        (["optimizer._target_=torch.optim.SGD"], "optimizer", ["Adam", "SGD"]),
        (
            ["optimizer._target_=mine.Adam"],
            "optimizer",
            ["mine.Adam", "torch.optim.Adam"],
        ),
        (["flow.name=spline"], "flow", ["coupling", "spline"]),
        (
            ["schedule._target_=flowlab.training.schedules.onecycle", "schedule.warmup=0.3"],
            "schedule",
            ["constant", "onecycle"],
        ),
        (["optimizer.lr=1e-2"], "optimizer.lr", ["0.001", "0.01"]),
        (["optimizer.weight_decay=0.5"], "optimizer.weight_decay", ["-", "0.5"]),
        (["optimizer.betas=[0.5,0.9]"], "optimizer.betas", ["-", "[0.5, 0.9]"]),
        (["data.seed=7"], "data.seed", ["7", "as seed"]),
        ([f"callbacks.stop._target_={STOP}"], "callbacks.stop", ["-", "EarlyStopping"]),
        (["callbacks.checkpoint=null"], "callbacks.checkpoint", ["-", "Checkpoint"]),
    ],
)
def test_what_differs_has_a_readable_name(
    words: list[str], axis: str, values: list[str], tmp_path: Path
) -> None:
    runs = fabricate(tmp_path / "a"), fabricate(tmp_path / "b", *words)
    assert axes_of(*runs) == {axis: values}


@pytest.mark.parametrize(
    "word",
    [
        *("seed=3", "replicates=2", "num_threads=8", "ckpt_path=x", "run_dir=x"),
        *("callbacks.density=null", "callbacks.density.every_n_epochs=3"),
        *("callbacks.checkpoint.every_n_train_steps=3", "optimizer.lr=0.00100"),
    ],
)
def test_what_changes_no_result_makes_no_other_cell(word: str, tmp_path: Path) -> None:
    assert axes_of(fabricate(tmp_path / "a"), fabricate(tmp_path / "b", word)) == {}
    paths = tmp_path.glob("*/.hydra/config.yaml")
    same = [settings_of(OmegaConf.to_container(OmegaConf.load(path))) for path in paths]
    assert len({trial_id(found) for found in same}) == 1


def test_a_row_leads_to_its_runs(tmp_path: Path) -> None:
    cell(tmp_path, "num_flows=2", [0.1, 0.2, 0.3, 0.4, 0.5])
    cell(tmp_path, "num_flows=3", [0.1])
    digests = [f"{i}f52d5d8" for i in range(2)]
    for i, digest in enumerate(digests):
        fabricate(tmp_path / f"{'x' * 80}-{digest}", "num_flows=4", f"seed={i}")
    rows = {row["num_flows"]: row["runs"] for row in table(tmp_path)}
    expected = {
        "2": {f"num_flows=2,seed={i}" for i in range(5)},
        "3": {"num_flows=3,seed=0"},
        "4": {f"{'x' * 80}-{digest}" for digest in digests},
    }
    for flows, folders in expected.items():
        assert len(rows[flows]) < 40
        command = ["bash", "-c", f"ls -d {rows[flows]}"]
        listed = subprocess.check_output(command, cwd=tmp_path, text=True)
        assert set(listed.split()) == folders


def test_tensorboard_and_the_table_name_the_same_trials(
    short_run: Run, compose_config: Compose
) -> None:
    content = events(short_run.folder).summary_metadata
    start = metadata.parse_session_start_info_plugin_data(
        content[metadata.SESSION_START_INFO_TAG].plugin_data.content
    )
    assert start.hparams["schedule"].string_value == "constant"
    assert start.hparams["optimizer"].string_value == "Adam"

    def trial(*words: str) -> str:
        return trial_id(settings_of(OmegaConf.to_container(compose_config(*words))))

    assert start.group_name == trial(*SHORT, "seed=7", *NO_PICTURES)
    others = ("schedule=cosine", "num_flows=5", "+optimizer.betas=[0.9,0.99]", "data.batch_size=1")
    names = {trial(*SHORT, word) for word in others}
    assert len(names - {start.group_name}) == len(others)


# runs that went on from others


def test_a_run_that_went_on_elsewhere_counts_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fabricate(tmp_path / "a", status="interrupted")
    b = fabricate(tmp_path / "b", "ckpt_path=a", status="interrupted")
    (b / "metrics.json").unlink()  # killed: what it was told is all there is
    OmegaConf.save({"hydra": {"runtime": {"cwd": str(tmp_path)}}}, b / ".hydra" / "hydra.yaml")
    fabricate(tmp_path / "deep" / "c", resumed_from="../../b")
    assert report([tmp_path], tmp_path) == 0
    assert [row["runs"] for row in table(tmp_path)] == ["deep/c"]
    output = capsys.readouterr().out
    for name in "ab":
        assert f"left out: {tmp_path / name}: went on in {tmp_path / 'deep' / 'c'}" in output
    assert report([tmp_path / "a"], tmp_path / "a") == 1


def test_a_completed_run_outlives_a_failed_one_that_went_on_from_it(tmp_path: Path) -> None:
    fabricate(tmp_path / "a")
    fabricate(tmp_path / "b", resumed_from="../a", status="failed")
    assert report([tmp_path], tmp_path) == 1
    assert [row["runs"] for row in table(tmp_path)] == ["a"]


def test_a_resumed_run_names_its_ancestor(compose_config: Compose, tmp_path: Path) -> None:
    words = (*SHORT, *NO_PICTURES, "~callbacks.progress")
    first, second = tmp_path / "first", tmp_path / "second"
    one = train(compose_config(*words, "trainer.max_epochs=1", f"run_dir={first}"))
    assert "resumed_from" not in one
    two = train(
        compose_config(*words, "trainer.max_epochs=2", f"run_dir={second}", f"ckpt_path={first}")
    )
    assert (second / two["resumed_from"]).resolve() == first.resolve()
    three = train(
        compose_config(*words, "trainer.max_epochs=3", f"run_dir={first}", f"ckpt_path={first}")
    )
    assert "resumed_from" not in three


# pictures


def bars(figure: Figure) -> list[tuple[float, float]]:
    """Lower and upper end of each error bar in the first panel."""
    (container,) = figure.axes[0].containers
    (_, _, (lines,)) = container
    return [(segment[0][1], segment[1][1]) for segment in lines.get_segments() if len(segment)]


def test_the_curve_has_bars_of_one_standard_error(tmp_path: Path) -> None:
    kls = {"num_hidden=2": [0.1, 0.4, 0.2], "num_hidden=16": [0.3, 0.9]}
    for word, values in kls.items():
        cell(tmp_path, word, values)
    cell(tmp_path, "num_hidden=4", [0.5])
    figure = sweep_plots.curve(ranked(tmp_path))
    expected = [(np.mean(v) - stats.sem(v), np.mean(v) + stats.sem(v)) for v in kls.values()]
    drawn = [bar for bar in bars(figure) if not np.isnan(bar).any()]
    np.testing.assert_allclose(drawn, expected)
    line = figure.axes[0].lines[0]
    np.testing.assert_allclose(line.get_xdata(), [2, 4, 16])
    np.testing.assert_allclose(line.get_ydata(), [np.mean(kls["num_hidden=2"]), 0.5, 0.6])


@pytest.mark.parametrize("axis", ["num_hidden=2 4 16", "schedule._target_=m.a m.b m.c"])
def test_the_curve_of_one_seed_each_claims_no_error(axis: str, tmp_path: Path) -> None:
    key, values = axis.split("=")
    for i, value in enumerate(values.split()):
        cell(tmp_path, f"{key}={value}", [0.1 * i])
    figure = sweep_plots.curve(ranked(tmp_path))
    (ax,) = figure.axes
    assert not ax.containers
    assert not ax.collections
    assert "no error is known" in ax.get_title()


POINTS = ((100, 0.4), (200, 0.5), (300, 0.2), (400, 0.3), (9000, 0.1))


@pytest.fixture
def trade_off(tmp_path: Path) -> Ranking:
    """Cells of known sizes and KL, with val/nll in another order; two are behind the front."""
    for i, (params, kl) in enumerate(POINTS):
        word = f"num_flows={i + 1}"
        cell(tmp_path, word, [kl, kl + 0.02], params=params, seconds=60 - i, val_nll=(i - 3) ** 2)
    return ranked(tmp_path)


def test_the_pareto_front_is_of_minima(trade_off: Ranking) -> None:
    figure = sweep_plots.pareto(trade_off)
    by_params, by_seconds = (
        next(line for line in ax.lines if line.get_label() == "Pareto front")
        for ax in figure.axes[:2]
    )
    np.testing.assert_allclose(by_params.get_xdata(), [100, 300, 9000])
    np.testing.assert_allclose(by_params.get_ydata(), [0.41, 0.21, 0.11])
    np.testing.assert_allclose(by_seconds.get_xdata(), [56])
    ends = bars(figure)
    errors = [stats.sem([kl, kl + 0.02]) for _, kl in POINTS]
    np.testing.assert_allclose([(b - a) / 2 for a, b in ends], errors)


def test_the_pareto_picture_names_its_dots(trade_off: Ranking) -> None:
    figure = sweep_plots.pareto(trade_off)
    left, right, legend = figure.axes
    (names,) = legend.texts
    ranks = {"num_flows=4": 1, "num_flows=3": 2, "num_flows=5": 3, "num_flows=2": 4}
    for name, place in ranks.items():
        assert f"{place}  {name}" in names.get_text()
    places = {text.get_text(): text.xy for text in left.texts}
    assert places["1"] == pytest.approx((400, 0.31))
    assert places["3"] == pytest.approx((9000, 0.11))
    assert (left.get_xscale(), right.get_xscale()) == ("log", "linear")


def test_the_heat_map_frames_the_best_by_val_nll(tmp_path: Path) -> None:
    kls = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    for (i, j), kl in np.ndenumerate(kls):
        words = (f"num_flows={i + 2}", f"num_hidden={2**j}")
        best = (i, j) == (1, 2)
        fabricate(tmp_path / f"{i}{j}", *words, test_kl=kl, val_nll=1.0 if best else 2.0)
    figure = sweep_plots.heatmap(ranked(tmp_path), 0, 1)
    ax = figure.axes[0]
    np.testing.assert_allclose(ax.images[0].get_array(), kls)
    (frame,) = ax.patches
    assert (round(frame.get_x() + 0.47), round(frame.get_y() + 0.47)) == (2, 1)


def test_densities_say_which_flow_they_are_of(tmp_path: Path) -> None:
    kls = [0.5, 0.25, 0.75]
    figures: dict[str, Any] = {"best_replicate": 1}
    measures = {"test/kl": kls, "test/nll": kls, "val/nll": kls}
    fabricate(tmp_path / "b", "num_flows=2", "seed=4", replicates=measures, **figures)
    cell(tmp_path, "num_flows=3", [0.125, 0.3], first_seed=8)
    figure = sweep_plots.densities(ranked(tmp_path))
    assert figure is not None
    assert [ax.get_title() for ax in figure.axes] == [
        "truth",
        "2\nKL 0.250, seed 5",
        "3\nKL 0.125, seed 8",
    ]
    assert figure.get_suptitle() == "num_flows: the best first"


def test_the_overview_shows_cells_by_data_sets(families: Path) -> None:
    flow = build_flow("coupling", 2, num_flows=2, num_hidden=2)
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(0))
    export.save(flow, families / "planar-checkerboard0" / "flow.safetensors")
    rankings = rank(collect([families])[0])
    ((name, figure),) = overview(order(rankings), shared(rankings))
    assert name in sweep_plots.NAMES
    rows = np.reshape(figure.axes, (4, 2))
    assert [ax.get_ylabel() for ax in rows[:, 0]] == ["truth", "planar", "coupling", "spline"]
    titles = [[ax.get_title() for ax in row] for row in rows]
    assert titles[:3] == [
        ["bimodal", "checkerboard"],
        ["KL 0.300", "KL 0.200"],
        ["KL 0.400", "KL 0.150"],
    ]
    bold = [[ax.title.get_fontweight() == "bold" for ax in row] for row in rows[1:]]
    assert bold == [[False, False], [False, True], [True, False]]
    assert not rows[3, 1].images
    assert len({ax.images[0].get_clim() for ax in rows[:, 0]}) == 1
    side = TARGETS["checkerboard"].extent
    for ax, density in ((rows[1, 1], flow), (rows[0, 1], TARGETS["checkerboard"]())):
        (image,) = ax.images
        values = image.get_array()
        assert (image.get_extent(), image.origin) == ([-side, side, -side, side], "lower")
        middles = (np.arange(len(values)) + 0.5) / len(values) * 2 * side - side
        x, y = np.meshgrid(middles, middles)
        points = torch.tensor(np.stack((x, y), axis=-1), dtype=torch.float32)
        with torch.no_grad():
            expected = density.log_prob(points).exp()
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-7)


def test_the_overview_of_one_flow_has_the_data_sets_in_lines(tmp_path: Path) -> None:
    names = list(TARGETS)[:10]
    for name in names:
        fabricate(tmp_path / name, f"data.target={name}")
    rankings = rank(collect([tmp_path])[0])
    ((_, figure),) = overview(order(rankings), shared(rankings))
    rows = np.reshape(figure.axes, (4, 8))
    assert [ax.get_ylabel() for ax in rows[:, 0]] == ["truth", "learned"] * 2
    titles = [ax.get_title() for row in rows[::2] for ax in row]
    assert titles == [*sorted(names), *[""] * 6]
    for row in rows[1::2]:
        assert {ax.get_title() for ax in row} - {""} == {"KL 0.100"}
        assert all(ax.title.get_fontweight() == "normal" for ax in row)
    assert [ax.axison for ax in rows[3]] == [True] * 2 + [False] * 6


def test_the_overview_is_of_planes(tmp_path: Path) -> None:
    for flow in ("coupling", "planar"):
        family(tmp_path, flow, "bimodal", [1.0])
        family(tmp_path, flow, "far/5", [1.0], dim=5)
    rankings = rank(collect([tmp_path])[0])
    assert order(rankings)
    assert not list(overview(order(rankings), shared(rankings)))
    for flow in ("coupling", "planar"):
        family(tmp_path, flow, "mine", [1.0], test_kl=None)
    rankings = rank(collect([tmp_path])[0])
    ((_, figure),) = overview(order(rankings), shared(rankings))
    titles = [ax.get_title() for ax in np.reshape(figure.axes, (3, 2))[:2].flat]
    assert titles == ["bimodal", "mine", "KL 0.100", "NLL 1.000"]


# whatever words and terminals


AWKWARD = r"num_hidden=$\frac{$|"


@pytest.mark.parametrize("others", [(), ("num_flows=3",), ("num_flows=3", "optimizer.lr=1")])
def test_words_of_a_formula_are_only_words(others: tuple[str, ...], tmp_path: Path) -> None:
    for i in range(3):
        words = [AWKWARD if i == 0 else f"num_hidden={i}", *(others if i == 2 else ())]
        fabricate(tmp_path / f"{i}", *words, f"seed={i}")
    for i in range(2):
        fabricate(tmp_path / f"other{i}", r"data.target=$\frac{$ | \n", f"num_flows={i + 1}")
    for ranking in rank(collect([tmp_path])[0]):
        for _, figure in sweep_plots.figures(ranking):
            figure.draw_without_rendering()
    rows = markdown(tmp_path).partition("\n\n")[2].splitlines()[:5]
    assert {line.count("|") for line in rows} == {12 + len(others)}


def test_a_terminal_without_plus_minus_gets_something_like_it(tmp_path: Path) -> None:
    cell(tmp_path, "num_flows=2", [0.1, 0.3])
    fabricate(tmp_path / "ü", status="failed", error="→")
    command = [sys.executable, "-m", "flowlab", "report", str(tmp_path)]
    env = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)}
    result = subprocess.run(command, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "0.2000 +- 0.1000" in result.stdout
    assert "| ?      | failed | ?" in result.stdout
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "0.2000 ± 0.1000" in text
    assert "→" in text


def test_a_reader_that_leaves_early_costs_no_pictures(tmp_path: Path) -> None:
    cell(tmp_path, "num_flows=2", [0.1, 0.3])
    env = {"PYTHONPATH": ":".join(sys.path)}
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "flowlab.report", str(tmp_path)]
    result = subprocess.run(command, env=env, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, b"")
    assert (tmp_path / "plots" / "densities.png").exists()


def test_any_error_of_a_report_is_an_error_of_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell(tmp_path, "num_flows=2", [0.1, 0.3])

    def trip(*args: Any) -> None:
        raise LookupError("of all things")

    monkeypatch.setattr("flowlab.commands.report.draw", trip)
    config = OmegaConf.create({"hydra": {"sweep": {"dir": str(tmp_path)}}})
    with pytest.raises(SweepError, match=r"the report failed \(LookupError: of all things\)"):
        finish_sweep(config)


def test_a_report_says_where_everything_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a sweep"
    cell(folder, "num_flows=2", [0.1, 0.3])
    report([folder], folder)
    *_, files, pictures, tensorboard = capsys.readouterr().out.splitlines()
    assert str(folder / "results.md") in files
    assert pictures.endswith(str(folder / "plots"))
    assert f"tensorboard --logdir '{folder}' " in tensorboard
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1

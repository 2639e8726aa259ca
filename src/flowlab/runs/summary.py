"""What a run says of itself at its end."""

import math
import shlex
import statistics
from pathlib import Path
from typing import Any

from flowlab.runs.directory import shown
from flowlab.runs.figures import TESTS, rank_of


def summary(metrics: dict[str, Any], run_dir: Path) -> str:
    """The table that a run ends with, and how to look at it."""
    run, replicates, note = Path(shown(run_dir)), metrics.get("replicates"), ""
    if replicates:
        note = f", mean and standard error of {len(replicates[rank_of(metrics)])} replicates"
    rows = _figures(metrics, note)
    stopped = ", stopped by trainer.patience" if metrics.get("stopped_early") else ""
    if "data/dropped" in metrics:
        rows["rows"] = f"{metrics['data/rows']}, and {metrics['data/dropped']} dropped"
    rows |= {
        "best epoch": f"{metrics['best_epoch']} of {metrics['epochs']}{stopped}",
        "parameters": f"{metrics['params']}",
        "seconds": f"{metrics['seconds']:.1f}",
        "run": str(run),
    }
    table = "\n".join(f"{name:<14}{value}" for name, value in rows.items())
    logdir = shlex.quote(str(run.parent))
    return f"{table}\n\ntensorboard --logdir {logdir} --samples_per_plugin images=1000"


def _figures(metrics: dict[str, Any], note: str) -> dict[str, str]:
    """The figures of the test in words, with what stands behind those of several replicates."""
    replicates = metrics.get("replicates")
    rows = {
        words: _with_error(metrics[key], metrics[f"{key}_stderr"]) + note
        for key, words in {"test/nll": "test NLL", "test/elbo": "ELBO"}.items()
        if key in metrics
    }
    for name, words in {"": "bits/dim", "_iw": "by 64 draws"}.items():
        if (key := f"test/bits_per_dim{name}") in metrics:
            rows[words] = _with_error(metrics[key], metrics[f"{key}_stderr"], "bits") + note
    if "test/nll_gaussian" in metrics:
        gain, error = _gain(metrics)
        rows["Gaussian"] = f"{metrics['test/nll_gaussian']:.4f} nats"
        rows["gain over it"] = _with_error(gain, error) + note
    if "test/log_z" in metrics:
        rows["log Z"] = _with_error(metrics["test/log_z"], metrics["test/log_z_stderr"]) + note
        rows["ESS"] = f"{metrics['test/ess']:.1%} of the samples"
    if "test/reverse_kl" in metrics:
        known = "reverse_kl" if replicates else "elbo"  # log Z is known
        error = metrics[f"test/{known}_stderr"]
        rows["reverse KL"] = _with_error(metrics["test/reverse_kl"], error) + note
    if "test/kl" in metrics:
        error = metrics["test/kl_stderr" if replicates else "test/kl_error"]
        rows["entropy"] = f"{metrics['test/entropy']:.4f} nats"
        rows["KL"] = _with_error(metrics["test/kl"], error) + note
    if replicates:
        name, best = next(name for name in TESTS if name in metrics), metrics["best_replicate"]
        said = f"{replicates[name][best]:.4f} nats, by {rank_of(metrics)}"
        rows[f"best {TESTS[name]}"] = said
    return rows


def _gain(metrics: dict[str, Any]) -> tuple[float, float]:
    """What the flow is better by than a Gaussian, and its standard error.

    That of the paired difference over test points, or, of replicates, over these.
    """
    gain = metrics["test/nll_gaussian"] - metrics["test/nll"]
    if "replicates" not in metrics:
        return gain, metrics["test/nll_gaussian_error"]
    pairs = (metrics["replicates"][name] for name in ("test/nll_gaussian", "test/nll"))
    gains = [gaussian - nll for gaussian, nll in zip(*pairs, strict=True)]
    return gain, statistics.stdev(gains) / math.sqrt(len(gains))


def _with_error(value: float, error: float, unit: str = "nats") -> str:
    """A figure and its error, which is rounded up: nothing is exact to the last digit shown."""
    return f"{value:.4f} ± {math.ceil(error * 1e4) / 1e4:.4f} {unit}"

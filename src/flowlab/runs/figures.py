"""The figures in metrics.json: which there are, and what people call them."""

from typing import Any

# of a test, the most telling first; of all but the last, lower is better
TESTS = {
    "test/reverse_kl": "reverse KL",
    "test/kl": "KL",
    "test/nll": "NLL",
    "test/elbo": "ELBO",
}


def rank_of(metrics: dict[str, Any]) -> str:
    """The figure by which runs are ranked: the loss on the validation set, as val/nll.

    Raises ValueError if there is none.
    """
    for name in metrics:
        if name.startswith("val/") and not name.endswith("_stderr"):
            return name
    raise ValueError("no loss on the validation set, as val/nll")

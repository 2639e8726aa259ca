"""Points drawn from a density that is known."""

from flowlab.data.data import Data, Points
from flowlab.rng import generator
from flowlab.targets import TARGETS


def toy(target: str, num_train: int, num_val: int, num_test: int, seed: int) -> Data:
    """Draw training, validation and test points from a target of `TARGETS`.

    Each split has a generator of its own, from (seed, split), so that changing the number of
    training points leaves the test points alone. Raises ValueError for an unknown target.
    """
    if target not in TARGETS:
        raise ValueError(f"unknown target {target!r}; available: {', '.join(TARGETS)}")
    truth = TARGETS[target]()
    train, val, test = (
        Points(truth.sample(n, generator(f"data/{split}", seed)))
        for split, n in (("train", num_train), ("val", num_val), ("test", num_test))
    )
    names = tuple(f"$x_{{{i}}}$" for i in range(1, truth.dim + 1))
    return Data(train, val, test, names, truth)

"""Points drawn from a density that is known."""

import torch

from flowlab.data.data import Data, Points
from flowlab.rng import generator
from flowlab.targets import Conditional, Unnormalized, build_target


def toy(
    target: str, num_train: int, num_val: int, num_test: int, seed: int, dim: int | None = None
) -> Data:
    """Draw training, validation and test points from a target of `TARGETS` or `CONDITIONAL`.

    `dim` is for targets that can have any; None is what they have by themselves. Each split has a
    generator of its own, from (seed, split), so that changing the number of training points leaves
    the test points alone. Of a function of the user's own there are no points. Raises ValueError
    for an unknown target or a dimension it cannot have.
    """
    truth = build_target(target, dim)
    names = tuple(f"$x_{{{i}}}$" for i in range(1, truth.dim + 1))
    if isinstance(truth, Unnormalized):
        a, b, c = (Points(torch.zeros(n, truth.dim)) for n in (num_train, num_val, num_test))
        return Data(a, b, c, names, drawn=False)

    def draw(split: str, n: int) -> Points:
        g = generator(f"data/{split}", seed)
        if isinstance(truth, Conditional):
            context = truth.sample_context(n, g)
            return Points(truth.sample(1, context, g)[0], context)
        return Points(truth.sample(n, g))

    train, val, test = draw("train", num_train), draw("val", num_val), draw("test", num_test)
    return Data(train, val, test, names, truth)

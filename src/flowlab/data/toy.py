"""Points drawn from a density that is known."""

from flowlab.data.data import Data, Points
from flowlab.rng import generator
from flowlab.targets import Conditional, build_target


def toy(
    target: str, num_train: int, num_val: int, num_test: int, seed: int, dim: int | None = None
) -> Data:
    """Draw training, validation and test points from a target of `TARGETS` or `CONDITIONAL`.

    `dim` is for targets that can have any; None is what they have by themselves. Each split has a
    generator of its own, from (seed, split), so that changing the number of training points leaves
    the test points alone. Raises ValueError for an unknown target or a dimension it cannot have.
    """
    truth = build_target(target, dim)

    def draw(split: str, n: int) -> Points:
        g = generator(f"data/{split}", seed)
        if isinstance(truth, Conditional):
            context = truth.sample_context(n, g)
            return Points(truth.sample(1, context, g)[0], context)
        return Points(truth.sample(n, g))

    train, val, test = draw("train", num_train), draw("val", num_val), draw("test", num_test)
    names = tuple(f"$x_{{{i}}}$" for i in range(1, truth.dim + 1))
    return Data(train, val, test, names, truth)

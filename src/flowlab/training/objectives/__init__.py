"""What a training minimizes, and how its result is tested; one file each."""

from flowlab.training.objectives.elbo import ELBO
from flowlab.training.objectives.likelihood import Likelihood
from flowlab.training.objectives.objective import Objective
from flowlab.training.objectives.reverse_kl import ReverseKL

__all__ = ["ELBO", "Likelihood", "Objective", "ReverseKL"]

"""Figures of papers, for the data sets whose splits a run's metrics name as theirs.

Log-likelihoods of the test rows in nats: of Gaussian, Real NVP and MAF from Table 1 of Papamakarios
et al., "Masked Autoregressive Flow for Density Estimation", NeurIPS 2017; of RQ-NSF from Table 1 of
Durkan et al., "Neural Spline Flows", NeurIPS 2019.
"""

SETS = ("POWER", "GAS", "HEPMASS", "MINIBOONE", "BSDS300")
MAF_PAPER, NSF_PAPER = "Papamakarios 2017", "Durkan 2019"
LOG_LIKELIHOODS = {
    ("Gaussian", MAF_PAPER): (-7.74, -3.58, -27.93, -37.24, 96.67),
    ("Real NVP, 10 layers", MAF_PAPER): (0.17, 8.33, -18.71, -13.84, 153.28),
    ("MAF, 10 layers", MAF_PAPER): (0.24, 10.08, -17.73, -12.24, 154.93),
    ("MAF of mixtures, 5 layers", MAF_PAPER): (0.30, 9.59, -17.39, -11.68, 156.36),
    ("RQ-NSF, coupling", NSF_PAPER): (0.64, 13.09, -14.75, -9.67, 157.54),
    ("RQ-NSF, autoregressive", NSF_PAPER): (0.66, 13.09, -14.01, -9.22, 157.31),
}
NAME, BY = "data/published", "data/published_by"  # in metrics.json


def published(name: object) -> dict[str, float]:
    """The test NLL of each published flow of a data set, in nats; none of another data set."""
    if name not in SETS:
        return {}
    index = SETS.index(str(name))
    return {
        f"{flow} ({paper})": -values[index] for (flow, paper), values in LOG_LIKELIHOODS.items()
    }

"""zuko on a file with columns, by the recipe of the README's table, on the very same rows.

pip install -e ".[bench]" && python tests/benchmarks/tables.py FLOW EPOCHS PATH [key=value ...]

FLOW is coupling, maf, spline or spline_ar, and further words are those of `data=table`, without
"data.": val_path=..., noise="{x1: 1}". Prints the mean test NLL of three seeds with its standard
error, in nats and in the file's units: splits, noise, standardisation, batches, optimizer, schedule
and the choice of the epoch are flowlab's, the flow and the loop are not.
"""

import copy
import math
import statistics
import sys

import torch
import yaml
from peers import FAMILIES, Size
from torch import Tensor

from flowlab.data import Data, Points, dequantized, table
from flowlab.flows.units import Units

NUM_HIDDEN, BATCH_SIZE, PATIENCE = 128, 256, 20
NUM_FLOWS = {"coupling": 5, "maf": 5, "spline": 5, "spline_ar": 2}


def test_nll(flow: str, epochs: int, data: Data, seed: int) -> float:
    """The NLL of the test points at the epoch whose validation NLL was the lowest."""
    torch.manual_seed(seed)
    units = Units(data.support or (), 0)
    size = Size(data.shape[0], NUM_FLOWS[flow], NUM_HIDDEN, BATCH_SIZE)
    model = FAMILIES[flow]["zuko"](size)
    optimizer = torch.optim.Adam(model.module.parameters(), lr=1e-3, fused=True)

    def losses(x: Tensor) -> Tensor:
        u, log_det = units(x)
        return -model.log_prob(u) - log_det

    def spread() -> Tensor:
        x = data.train.x
        if data.noise is None:
            return x
        noisy = data.noise.nonzero().flatten()
        x = x.clone()
        share = torch.rand(len(x), len(noisy))
        x[:, noisy] = dequantized(x[:, noisy], data.noise[noisy], share)
        return x

    def nll(points: Points) -> float:
        with torch.no_grad():
            return float(torch.cat([losses(x) for x in points.x.split(4096)]).double().mean())

    units.fit(spread())
    best, chosen, waited = math.inf, copy.deepcopy(model.module.state_dict()), 0
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (1 + math.cos(math.pi * epoch / epochs)) / 2
        x = spread()
        for index in torch.randperm(len(x)).split(BATCH_SIZE):
            loss = losses(x[index]).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.module.parameters(), 5.0)
            optimizer.step()
        waited += 1
        if (now := nll(data.val)) < best:
            best, chosen, waited = now, copy.deepcopy(model.module.state_dict()), 0
        if waited > PATIENCE:
            break
    model.module.load_state_dict(chosen)
    return nll(data.test)


def main(flow: str, epochs: int, path: str, words: list[str]) -> None:
    torch.set_num_threads(1)
    keys = {key: yaml.safe_load(value) for key, value in (word.split("=", 1) for word in words)}
    nlls = [test_nll(flow, epochs, table(path, seed=seed, **keys), seed) for seed in range(3)]
    error = statistics.stdev(nlls) / math.sqrt(len(nlls))
    print(
        f"{flow} on {path}: zuko's test NLL {statistics.mean(nlls):.3f} ± {error:.3f}", flush=True
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])

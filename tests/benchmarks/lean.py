"""The default experiment's training in the leanest loop: the same flow, points, order and steps.

No validation, checkpoints, logging or pictures: what the framework costs is measured against it.
`python tests/benchmarks/lean.py` prints its seconds of training and its test KL.
"""

import time

import torch

from flowlab.flows import build_flow
from flowlab.rng import generator
from flowlab.targets import TARGETS


def main() -> None:
    torch.set_num_threads(1)
    target = TARGETS["bimodal"]()
    train, test = (
        target.sample(n, generator(f"data/{split}", 0))
        for split, n in (("train", 2000), ("test", 10_000))
    )
    torch.manual_seed(generator("initialisation", 0).initial_seed())
    flow = build_flow("coupling", 2, num_flows=4, num_hidden=8)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-3, fused=True)
    start = time.perf_counter()
    for epoch in range(100):
        order = torch.randperm(len(train), generator=generator("order", 0, epoch))
        for x in train[order].split(64):
            loss = -flow.log_prob(x).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        kl = (target.log_prob(test) - flow.log_prob(test)).mean()
    print(f"training {seconds:.2f} s, test KL {kl:.4f} nats")


if __name__ == "__main__":
    main()

"""The yardstick: a bare PyTorch script of the blog post's experiment, with its density corrected.

No framework, no validation, no checkpoints, no logging: boolean masks, a DataLoader that collates
point by point, Adam as it comes, and the post's four figures (loss, samples, surface, contours).
Written after the description in D. Daza, "Transforming distributions with Normalizing Flows"
(2020); `python tests/benchmarks/reference.py OUTPUT_FOLDER` prints its time and its test KL.
"""

import math
import sys
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

MODES = torch.tensor([[1.5, 1.5], [-1.5, -1.5]])
VARIANCE = 0.2


class Coupling(nn.Module):
    def __init__(self, dim: int, num_hidden: int, mask: Tensor):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(dim // 2, num_hidden),
            nn.ReLU(),
            nn.Linear(num_hidden, num_hidden),
            nn.ReLU(),
            nn.Linear(num_hidden, dim),
        )
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)
        self.register_buffer("mask", mask)

    def forward(self, z: Tensor, log_det: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        moved = ~self.mask
        s, t = self.net(z[:, self.mask]).chunk(2, dim=1)
        if inverse:
            z[:, moved] = (z[:, moved] - t) * torch.exp(-s)
            return z, log_det - s.sum(dim=1)
        z[:, moved] = z[:, moved] * torch.exp(s) + t
        return z, log_det + s.sum(dim=1)


class Flow(nn.Module):
    def __init__(self, dim: int, num_flows: int, num_hidden: int):
        super().__init__()
        mask = torch.tensor([True, False]).repeat(dim // 2)
        self.layers = nn.ModuleList(
            Coupling(dim, num_hidden, ~mask if i % 2 else mask) for i in range(num_flows)
        )
        self.register_buffer("zero", torch.zeros(1))
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        log_det = self.zero
        for layer in self.layers:
            x, log_det = layer(x, log_det)
        return 0.5 * (self.dim * math.log(2 * math.pi) + (x**2).sum(dim=1)) - log_det

    def sample(self, n: int) -> Tensor:
        x, log_det = torch.randn(n, self.dim), self.zero
        for layer in reversed(self.layers):
            x, log_det = layer(x, log_det, inverse=True)
        return x


def draw(n: int) -> Tensor:
    return MODES[torch.randint(2, (n,))] + math.sqrt(VARIANCE) * torch.randn(n, 2)


def true_log_prob(x: Tensor) -> Tensor:
    square = ((x[:, None] - MODES) ** 2).sum(dim=2)
    return torch.logsumexp(-0.5 * square / VARIANCE, dim=1) - math.log(4 * math.pi * VARIANCE)


def save_figures(folder: Path, flow: Flow, losses: list[float]) -> None:
    plt.figure()
    plt.plot(losses)
    plt.xlabel("Epoch")
    plt.ylabel("Negative log-likelihood (nats)")
    plt.savefig(folder / "loss.png")

    with torch.no_grad():
        samples = flow.sample(200)
        axis = torch.linspace(-4, 4, 100)
        x1, x2 = torch.meshgrid(axis, axis, indexing="xy")
        density = (-flow(torch.stack([x1, x2], dim=-1).reshape(-1, 2))).exp().reshape(100, 100)

    plt.figure()
    plt.scatter(samples[:, 0], samples[:, 1], label="Samples")
    plt.scatter(MODES[:, 0], MODES[:, 1], marker="x", label="True modes")
    plt.legend()
    plt.savefig(folder / "samples.png")

    plt.figure().add_subplot(projection="3d").plot_surface(
        x1.numpy(), x2.numpy(), density.numpy(), cmap="viridis"
    )
    plt.savefig(folder / "surface.png")

    plt.figure()
    plt.contourf(x1.numpy(), x2.numpy(), density.numpy(), levels=20)
    plt.savefig(folder / "contours.png")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(draw(2000)), batch_size=64)
    flow = Flow(dim=2, num_flows=4, num_hidden=8)
    optimizer = torch.optim.Adam(flow.parameters())
    losses = []

    start = time.perf_counter()
    for _ in range(100):
        total = 0.0
        for (batch,) in loader:
            loss = flow(batch).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        losses.append(total / len(loader))
    seconds = time.perf_counter() - start

    save_figures(folder, flow, losses)
    with torch.no_grad():
        test = draw(10_000)
        kl = (true_log_prob(test) + flow(test)).mean()
    print(f"training {seconds:.2f} s, test KL {kl:.4f} nats")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

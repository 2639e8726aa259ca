"""Random numbers with owners: everything that draws has a generator of its own."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Generator


def generator(owner: str, *key: int) -> Generator:
    """A CPU generator whose stream depends on its owner and the key, and on nothing else.

    NumPy's SeedSequence hashes them, so that neighbouring seeds, or two owners with one seed, are
    unrelated.

    >>> generator("data", 0).initial_seed() == generator("order", 0).initial_seed()
    False
    """
    sequence = np.random.SeedSequence((zlib.crc32(owner.encode()), *key))
    return Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


@contextmanager
def drawing(owner: str, *key: int, device: torch.device | None = None) -> Iterator[None]:
    """Have what torch draws by itself, on the CPU or a GPU, come from the stream of an owner."""
    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(gpus):
        torch.manual_seed(generator(owner, *key).initial_seed())
        yield

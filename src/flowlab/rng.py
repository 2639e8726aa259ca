"""Random numbers with owners: everything that draws has a generator of its own."""

import zlib

import numpy as np
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

"""Images whose numbers are whole ones: scikit-learn's digits, and those in files of one's own."""

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowlab.data.data import Data, Points, dequantized
from flowlab.data.reading import check_file, readable
from flowlab.errors import DataError
from flowlab.files import digest
from flowlab.rng import generator

Images = NDArray[np.uint8]

FILES = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}  # as MNIST's are
EXPECTED = f"expected a folder with {' and '.join(FILES.values())}, .gz or not, or an .npz"


def digits(
    num_val: int, num_test: int, logit: float | None, binary: bool = False, seed: int = 0
) -> Data:
    """The 1,797 images of 8 x 8 that scikit-learn has, their numbers from 0 to 16, split at random.

    Raises DataError where scikit-learn is missing, or too few images are left to train on.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        message = 'data=digits needs scikit-learn: pip install -e ".[digits]"'
        raise DataError(message) from error
    x = load_digits().images.astype(np.uint8)
    order = _order(len(x), num_val + num_test, "data.num_val and data.num_test", seed)
    val, test, train = np.split(x[order], [num_val, num_val + num_test])
    return _data({"train": train, "val": val, "test": test}, 17, logit, binary, seed, {})


def images(
    path: str, num_val: int, logit: float | None, binary: bool = False, seed: int = 0
) -> Data:
    """Images of bytes from a folder with MNIST's files, or from arrays in an .npz.

    These are `train`, `test` and maybe `val`, of uint8, (N, H, W) or (N, H, W, C). Without `val`
    that is `num_val` of the training images, at random. Raises DataError for files that are not
    such.
    """
    where, label = Path(path), f"data.path={path}"
    if where.is_dir():
        paths = {split: _find(label, where, name) for split, name in FILES.items()}
        parts = {split: _idx(f"data.path={file}", file) for split, file in paths.items()}
    elif where.suffix.lower() == ".npz":
        parts, paths = _npz(label, where), {"all": where}
    else:
        kind = "not a folder" if where.exists() else "no such folder"
        raise DataError(f"{label}: {kind}; {EXPECTED}")
    shapes = {split: part.shape[1:] for split, part in parts.items()}
    if len({*shapes.values()}) > 1:
        said = ", ".join(f"{split} has {shape}" for split, shape in shapes.items())
        raise DataError(f"{label}: images of one size expected: {said}")
    facts = {"data/images": sum(map(len, parts.values())), "data/sha256": digest([*paths.values()])}
    if "val" not in parts:
        x = parts["train"]
        order = _order(len(x), num_val, "data.num_val", seed)
        parts["val"], parts["train"] = x[np.sort(order[:num_val])], x[np.sort(order[num_val:])]
    return _data(parts, 256, logit, binary, seed, facts)


def _order(num: int, held_out: int, key: str, seed: int) -> NDArray[np.int64]:
    """The images in a random order, of which the first are held out."""
    if held_out >= num:
        raise DataError(f"{key}: {held_out} of {num} images leave none to train on; lower it")
    order: NDArray[np.int64] = torch.randperm(num, generator=generator("data/split", seed)).numpy()
    return order


def _data(
    parts: Mapping[str, Images],
    levels: int,
    logit: float | None,
    binary: bool,
    seed: int,
    facts: Mapping[str, Any],
) -> Data:
    """The splits; those that are not trained on with noise, which is drawn once.

    Of `binary` images each number is 1 with the probability that its brightness is, else 0.
    """
    x = {split: torch.from_numpy(part.astype(np.float32)) for split, part in parts.items()}
    if binary:
        for split, part in x.items():
            g = generator(f"data/binary/{split}", seed)
            x[split] = torch.bernoulli(part / (levels - 1), generator=g)
        levels = 2
    noise = torch.ones(x["train"].shape[1:])
    for split in ("val", "test"):
        x[split] = _with_noise(x[split], noise, generator(f"data/noise/{split}", seed))
    points = [Points(x[split]) for split in ("train", "val", "test")]
    support = {"levels": levels, "logit": logit}
    return Data(points[0], points[1], points[2], (), support=support, noise=noise, facts=facts)


def _with_noise(x: Tensor, noise: Tensor, g: torch.Generator) -> Tensor:
    return dequantized(x, noise, torch.rand(x.shape, generator=g))


def _find(label: str, folder: Path, name: str) -> Path:
    """A file of MNIST's, by any of the names that it goes by."""
    stems = name, name.replace("-idx", ".idx")
    for file in (folder / f"{stem}{end}" for stem in stems for end in ("", ".gz")):
        if file.exists():
            return file
    raise DataError(f"{label}: no file {name} in it, with or without .gz; {EXPECTED}")


def _idx(label: str, file: Path) -> Images:
    """The images in a file of the format of MNIST's: (N, H, W).

    Four bytes 0, 0, the type of the numbers, how many sizes there are; the sizes, of four bytes
    each, the highest first; and the numbers.
    """
    with readable(label):
        check_file(label, file)
        content = file.read_bytes()
        try:
            content = gzip.decompress(content) if file.suffix == ".gz" else content
        except zlib.error as error:
            raise ValueError(str(error)) from error
    if content[:4] != b"\x00\x00\x08\x03":
        raise DataError(
            f"{label}: begins with {content[:4].hex(' ')}; images in an idx file begin with "
            "00 00 08 03, for bytes in three dimensions"
        )
    sizes = [int.from_bytes(content[i : i + 4], "big") for i in (4, 8, 12)]
    num, height, width = sizes
    if len(content) != 16 + num * height * width:
        raise DataError(
            f"{label}: {len(content)} bytes, and by its header {num} images of {height} x {width} "
            f"make {16 + num * height * width}; get the file again"
        )
    return _checked(label, "it", np.frombuffer(content, np.uint8, offset=16).reshape(sizes))


def _npz(label: str, file: Path) -> dict[str, Images]:
    with readable(label):
        check_file(label, file)
        with np.load(file, allow_pickle=False) as arrays:
            names = [name for name in ("train", "val", "test") if name in arrays.files]
            if missing := {"train", "test"} - {*names}:
                said = ", ".join(arrays.files) or "nothing"
                raise DataError(
                    f"{label}: no array {min(missing)}; expected train, test and maybe val, "
                    f"got {said}"
                )
            return {name: _checked(label, name, arrays[name]) for name in names}


def _checked(label: str, name: str, array: NDArray[Any]) -> Images:
    if array.dtype != np.uint8:
        raise DataError(f"{label}: {name} holds {array.dtype}; expected uint8, from 0 to 255")
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise DataError(
            f"{label}: {name} has the shape {array.shape}; expected (N, H, W) or (N, H, W, C)"
        )
    return array

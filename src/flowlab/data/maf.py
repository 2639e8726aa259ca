"""The tables of the MAF paper, from the files and by the steps of its authors' scripts.

G. Papamakarios, T. Pavlakou and I. Murray, "Masked Autoregressive Flow for Density Estimation",
NeurIPS 2017. Its splits are fixed, so that no seed moves them, and its figures are log-likelihoods
of the standardised columns: these are the points here. `path` is the folder `data` of the authors'
archive, doi 10.5281/zenodo.1161203. Every function raises DataError, in one line, for a file that
is not there or is not of its form.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from flowlab import processes
from flowlab.data import text
from flowlab.data.data import Data, Points
from flowlab.data.published import PUBLISHED, published
from flowlab.data.reading import FORMATS, check_file, read, readable
from flowlab.errors import DataError
from flowlab.files import digest

log = logging.getLogger(__name__)

Array = NDArray[np.float64]
Splits = tuple[Array, Array, Array]  # training, validation and test rows

ARCHIVE = "expected the folder `data` of the archive at doi 10.5281/zenodo.1161203"
GAS = "gas/ethylene_CO"
PICKLE = (
    "a pickle can run code and is not read; if you trust it, with pandas: "
    f"pandas.read_pickle('{GAS}.pickle').to_csv('{GAS}.csv', index=False)"
)


def maf_power(path: str, seed: int = 0) -> Data:
    """POWER: what a household used each minute, 6 columns; power/data.npy."""
    file = _file(path, "power/data.npy")
    return _data("POWER", [file], path, _power(_array(file, 8)))


def maf_gas(path: str, seed: int = 0) -> Data:
    """GAS: 8 of 16 chemical sensors; gas/ethylene_CO.csv or another table, made of its pickle."""
    found = [end for end in FORMATS if Path(path, GAS + end).exists()]
    if not found and Path(path, f"{GAS}.pickle").exists():
        raise DataError(f"data.path={path}: {GAS}.pickle: {PICKLE}")
    file = _file(path, GAS + (found or [".csv"])[0])
    names = read(file).names
    if missing := {"Time", "Meth", "Eth"} - {*names}:
        raise DataError(f"{_label(file)}: no column {min(missing)}; {PICKLE}")
    sensors = [name for name in names if name not in ("Time", "Meth", "Eth")]
    return _data("GAS", [file], path, _gas(_columns(file, sensors)))


def maf_hepmass(path: str, seed: int = 0) -> Data:
    """HEPMASS: particle collisions, 21 columns; hepmass/1000_train.csv and 1000_test.csv."""
    files = [_file(path, f"hepmass/1000_{split}.csv") for split in ("train", "test")]
    names = read(files[0]).names  # the test file has one more
    train, test = (_columns(file, names) for file in files)
    return _data("HEPMASS", files, path, _hepmass(train, test))


def maf_miniboone(path: str, seed: int = 0) -> Data:
    """MINIBOONE: neutrinos, 43 columns; miniboone/data.npy."""
    file = _file(path, "miniboone/data.npy")
    return _data("MINIBOONE", [file], path, _standard(*_split(_array(file, 43))))


def maf_bsds300(path: str, seed: int = 0) -> Data:
    """BSDS300: patches of photographs, 63 columns; BSDS300/BSDS300.hdf5, read by h5py."""
    try:
        import h5py
    except ImportError as error:
        raise DataError('data=maf_bsds300 needs h5py: pip install -e ".[maf]"') from error
    file = _file(path, "BSDS300/BSDS300.hdf5")
    with readable(_label(file)), h5py.File(file, "r") as arrays:
        if missing := {"train", "validation", "test"} - {*arrays}:
            raise DataError(f"{_label(file)}: no array {min(missing)} in it; {ARCHIVE}")
        train, val, test = (_wide(file, arrays[s][:], 63) for s in ("train", "validation", "test"))
    return _data("BSDS300", [file], path, (train, val, test))


def _power(x: Array) -> Splits:
    """Shuffle rows, drop two columns, spread the rounded ones over their step, and split."""
    rng = np.random.RandomState(42)
    rng.shuffle(x)
    x = np.delete(x, [1, 3], axis=1)  # reactive power, and current, which follows from others
    num = len(x)
    voltage, power = 0.01 * rng.rand(num, 1), 0.001 * rng.rand(num, 1)  # drawn in this order
    meters, time = rng.rand(num, 3), np.zeros((num, 1))
    return _standard(*_split(x + np.hstack([power, voltage, meters, time])))


def _gas(x: Array) -> Splits:
    """Leave out sensors, the first ones first, while any two correlate by more than 0.98."""
    with np.errstate(divide="ignore", invalid="ignore"):  # of constants, which `_data` tells of
        close = np.asarray(np.corrcoef(x.T)) > 0.98
    keep = list(range(x.shape[1]))
    while twins := [j for j in keep if close[j, keep].sum() > 1]:
        keep.remove(twins[0])
    x = x[:, keep]
    return _split(_scaled(x, by=x, ddof=1))


def _hepmass(train: Array, test: Array) -> Splits:
    """Keep the signal, label 1, and the columns that are continuous, and split the training rows.

    As the script has it a column is left out if its least value, not its most frequent one, is
    there more than five times.
    """
    train, test = (x[x[:, 0] == 1, 1:] for x in (train, test))
    val = _tenth(train)
    keep = (train == train.min(0)).sum(0) <= 5
    train, test = train[:, keep], test[:, keep]
    train, test = _scaled(train, by=train, ddof=1), _scaled(test, by=train, ddof=1)
    return train[:-val], train[-val:], test


def _split(x: Array) -> Splits:
    """The last tenth of the rows to test on, and of the others the last tenth to choose by."""
    test = _tenth(x)
    val = _tenth(x[:-test])
    return x[: -test - val], x[-test - val : -test], x[-test:]


def _tenth(x: Array) -> int:
    if len(x) < 10:
        raise DataError(f"data.path: {len(x)} rows; expected 20 at least, to split them")
    return int(0.1 * len(x))


def _standard(train: Array, val: Array, test: Array) -> Splits:
    """Columns of mean 0 and variance 1, by the rows of training and validation together."""
    known = np.concatenate([train, val])
    return _scaled(train, known), _scaled(val, known), _scaled(test, known)


def _scaled(x: Array, by: Array, ddof: int = 0) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):  # of constants, which `_data` tells of
        scaled: Array = (x - by.mean(0)) / by.std(0, ddof=ddof)
    return scaled


def _data(name: str, files: Sequence[Path], path: str, splits: Sequence[NDArray[Any]]) -> Data:
    """Points of the splits, which must have rows of finite numbers."""
    label = f"data.path={path}"
    if not all(np.isfinite(x).all() for x in splits):
        raise DataError(f"{label}: {name} has cells that are not finite, or a constant column")
    points = [Points(torch.from_numpy(np.ascontiguousarray(x, np.float32))) for x in splits]
    rows, columns = [len(x) for x in splits], splits[0].shape[1]
    known = published(points)
    if known.get("data/published") != name and processes.is_first():
        there = PUBLISHED[name]
        log.warning(
            f"warning: {label}: not {name} as it was published: {rows} rows of {columns} columns, "
            f"and there {[*there.rows]} of {there.columns}; figures of papers are not of these"
        )
    facts = {"data/rows": sum(rows), "data/sha256": digest(files), **known}
    names = tuple(f"x{j + 1}" for j in range(columns))
    kinds = ("float",) * columns
    return Data(
        points[0], points[1], points[2], names, support=(None,) * columns, kinds=kinds, facts=facts
    )


def _file(path: str, name: str) -> Path:
    """A file of the archive's, which must be there."""
    if not (file := Path(path, name)).is_file():
        what = f"no file {name} in it" if Path(path).is_dir() else "no such folder"
        raise DataError(f"data.path={path}: {what}; {ARCHIVE}")
    check_file(_label(file), file)
    return file


def _label(file: Path) -> str:
    return f"data.path={file}"


def _array(file: Path, columns: int) -> Array:
    with readable(_label(file)):
        return _wide(file, np.lib.format.open_memmap(file, mode="r"), columns).astype(np.float64)


def _wide(file: Path, x: NDArray[Any], columns: int) -> NDArray[Any]:
    """An array that must have so many columns of numbers."""
    if x.ndim != 2 or x.shape[1] != columns or x.dtype.kind not in "fiu":
        said = f"an array {x.shape} of {x.dtype}; expected (rows, {columns}) of numbers"
        raise DataError(f"{_label(file)}: {said}; {ARCHIVE}")
    return x


def _columns(file: Path, names: Sequence[str]) -> Array:
    """Columns of a table, whose rows may have more cells than these. A line without any is none."""
    table = read(file)
    if missing := [name for name in names if name not in table.names]:
        raise DataError(f"{_label(file)}: no column {missing[0]}; {ARCHIVE}")
    with readable(_label(file)):
        number = text.number if table.layout else lambda name: pl.col(name).cast(pl.Float64)
        cells = table.frame.select(map(number, names))
        frame = cells.filter(~pl.all_horizontal(pl.all().is_null())).collect()
        return frame.to_numpy(order="c").astype(np.float64)  # a null is a NaN

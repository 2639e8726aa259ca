"""What people bring, tensors, arrays and lists of any shape, as the vectors that layers take."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor


class Array(Protocol):
    """NumPy's array, or a table of another library that can be one."""

    def __array__(self) -> Any: ...


Numbers = Tensor | Array | Sequence[Any]


def as_tensor(values: Numbers, like: Tensor, exact: bool = False) -> Tensor:
    """Numbers as a tensor where `like` is and of its type, but `exact` ones of float64.

    Exact ones that come as float32 stay so. Raises ValueError for what is no real numbers.
    """
    if not isinstance(values, Tensor):
        values = _read(values)
    if values.dtype == like.dtype and values.device == like.device:
        return values
    if values.dtype.is_complex:
        raise ValueError(f"expected real numbers, got {values.dtype}")
    dtype = like.dtype
    if exact:
        dtype = values.dtype if values.dtype == torch.float32 else torch.float64
    return values.to(like.device, dtype)


def _read(values: Array | Sequence[Any]) -> Tensor:
    try:
        if hasattr(values, "__array__"):  # a copy, for torch takes no strides below zero,
            array = values.__array__()  # and only numbers in the machine's order of bytes
            return torch.as_tensor(array.astype(array.dtype.newbyteorder("=")))
        return torch.as_tensor(values, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"expected numbers, as a tensor, an array or nested lists: {error}"
        ) from error


def flatten(
    x: Tensor, context: Tensor | None, shape: tuple[int, ...], num_context: int
) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
    """Points of a shape as vectors (N, D), context (N, C), and the leading shape of both.

    Raises ValueError for other shapes.
    """
    leading: tuple[int, ...] = x.shape[: max(x.dim() - len(shape), 0)]
    if x.shape[len(leading) :] != shape:
        sizes = ", ".join(map(str, shape))
        raise ValueError(f"expected points (..., {sizes}), got shape {tuple(x.shape)}")
    if (context is not None) != (num_context > 0):
        expected = f"a context (..., {num_context})" if num_context else "no context"
        raise ValueError(f"this flow needs {expected}")
    if context is not None:
        leading = _broadcast(x, context, leading, num_context)
        context = context.expand(*leading, -1).reshape(-1, num_context)
        x = x.expand(*leading, *shape)
    return x.reshape(-1, math.prod(shape)), context, leading


def _broadcast(
    x: Tensor, context: Tensor, leading: tuple[int, ...], num_context: int
) -> tuple[int, ...]:
    """The leading shape of points and context together."""
    got = tuple(context.shape)
    if got[-1:] != (num_context,):
        raise ValueError(f"expected a context (..., {num_context}), got shape {got}")
    try:
        shape: tuple[int, ...] = torch.broadcast_shapes(leading, got[:-1])  # type: ignore[no-untyped-call]
    except RuntimeError:
        message = f"points {tuple(x.shape)} and context {got} do not broadcast"
        raise ValueError(message) from None
    return shape

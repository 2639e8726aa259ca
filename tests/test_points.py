"""A flow that was loaded, as people use it: with arrays and lists, and no word of autograd."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from flowlab.export import load, save
from flowlab.flows import FLOWS, Autoencoder, Flow, build_flow

SECONDS = 1_790_000_001  # since 1970: a whole number that float32 does not have


def loaded(tmp_path: Path, *args: Any, **options: Any) -> Any:
    flow = build_flow(*args, **options)
    for parameter in flow.parameters():  # else it starts as the identity, whatever the context
        g = torch.Generator().manual_seed(1)
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=g)
    if flow.units is not None:
        many = torch.randn(500, flow.dim, generator=torch.Generator().manual_seed(0)).double()
        flow.fit(many + SECONDS, many[:, :1] + SECONDS if flow.context else None)
    save(flow, tmp_path / "flow.safetensors")
    return load(tmp_path)


@pytest.mark.parametrize("context", [0, 1])
@pytest.mark.parametrize("support", [None, [None, None]])
def test_arrays_and_lists_are_points(context: int, support: Any, tmp_path: Path) -> None:
    flow = loaded(tmp_path, "coupling", 2, context=context, support=support)
    whole = torch.tensor([[1, 2], [3, 4], [5, 6]]) + (SECONDS if support else 0)
    c = whole[:, 1:] if context else None
    real = whole.double() if support else whole.float()

    expected = *flow(real, given := real[:, 1:] if context else None), flow.log_prob(real, given)

    def same(x: Any, c: Any) -> None:
        assert all(map(torch.equal, (*flow(x, c), flow.log_prob(x, c)), expected))

    assert len(expected[2].unique()) == 3  # which they would not be if rounded
    assert not context or len(flow.log_prob(real[0], c).unique()) == 3
    same(whole, c)
    same(whole.double(), None if c is None else c.double())
    same(whole.double().tolist(), None if c is None else c.double().tolist())
    same(whole.tolist(), None if c is None else c.tolist())
    for kind in (np.int64, np.float64, np.uint32, ">f8"):
        same(whole.numpy().astype(kind), None if c is None else c.numpy().astype(kind))
    frame = pl.DataFrame(whole.numpy(), schema=["a", "b"])
    same(frame, frame.select("b") if context else None)
    same(whole.flip(0).numpy()[::-1], None if c is None else c.flip(0).numpy()[::-1])
    u = [[0.5, -0.25], [1, 2]]
    c2 = [[SECONDS], [SECONDS + 1]] if context else None
    x, _ = flow.inverse(torch.tensor(u), torch.tensor(c2).double() if context else None)
    assert torch.equal(flow.inverse(u, c2)[0], x)
    assert flow.sample(3, c2).shape == ((3, 2, 2) if context else (3, 2))
    assert flow.log_prob(real[0].tolist(), None if c is None else c[0].tolist()).shape == ()


@pytest.mark.parametrize(("n", "error"), [(-1, ValueError), (2.5, TypeError), ("3", TypeError)])
def test_a_number_of_samples_is_a_whole_one(n: Any, error: Any, tmp_path: Path) -> None:
    flow = loaded(tmp_path, "coupling", 2)
    assert flow.sample(np.int64(0)).shape == (0, 2)
    with pytest.raises(error, match=r"integer|n=-1: expected at least 0"):
        flow.sample(n)


def test_results_are_ready_for_numpy_and_gradients_for_who_asks(tmp_path: Path) -> None:
    flow = loaded(tmp_path, "coupling", 2)
    assert not flow.training
    assert flow.log_prob(np.zeros((4, 2))).numpy().dtype == np.float32
    assert flow(np.zeros((4, 2)))[0].numpy().shape == (4, 2)
    x = torch.ones(4, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(flow.log_prob(x).sum(), x)
    assert gradient.dtype == torch.float64
    assert gradient.abs().max() > 0.01
    assert flow.train().requires_grad_().log_prob(x).requires_grad


def test_many_points_are_taken_in_chunks_unless_a_gradient_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, sizes = loaded(tmp_path, "coupling", 2, context=1), []
    x, c = torch.randn(104, 2), torch.randn(104, 1)
    whole = flow.log_prob(x, c)
    monkeypatch.setattr("flowlab.flows.flow.CHUNK", 50)
    flow.chain[0].register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    torch.testing.assert_close(flow.log_prob(x, c), whole)
    assert sizes == [50, 50, 4]
    for wanted in (x, c, *flow.parameters()):
        sizes.clear()
        wanted.requires_grad_(True)
        assert flow.log_prob(x, c).requires_grad
        assert sizes == [104]
        wanted.requires_grad_(False)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ("text", "expected numbers, as a tensor, an array or nested lists"),
        (None, "expected numbers"),
        ([[1, 2], [3]], "expected numbers"),
        ([["a", "b"]], "expected numbers"),
        (np.array([[{}, {}]]), "expected numbers"),
        (np.array([["1", "2"]]), "expected numbers"),
        ([[1j, 2]], "expected numbers"),
        (np.array([[1j, 2]]), r"expected real numbers, got torch.complex128"),
        (torch.zeros(3, 2, dtype=torch.complex64), "expected real numbers"),
        ([1, 2, 3], r"expected points \(..., 2\), got shape \(3,\)"),
    ],
)
def test_what_is_no_numbers_is_named(x: Any, message: str) -> None:
    flow = build_flow("coupling", 2)
    for call in (flow, flow.inverse, flow.log_prob):
        with pytest.raises(ValueError, match=message):
            call(x)


def test_an_autoencoder_takes_the_same(tmp_path: Path) -> None:
    model = Autoencoder(build_flow("planar", 3, context=5), (4, 4))
    save(model, tmp_path / "flow.safetensors")
    model = load(tmp_path)
    images = np.random.default_rng(0).integers(0, 2, (6, 4, 4))
    z = np.random.default_rng(1).normal(size=(6, 3))
    real, latents = torch.tensor(images).float(), torch.tensor(z).float()
    for found, expected in (
        (model.encode(images), model.encode(real)),
        (model.encode(images.astype(bool).tolist()), model.encode(real)),
        (model.log_joint(images, z), model.log_joint(real, latents)),
        ([model.means(z.tolist())], [model.means(latents)]),
    ):
        assert all(map(torch.equal, found, expected))
        assert not any(value.requires_grad for value in found)
    assert model.means(z).numpy().shape == (6, 4, 4)
    with pytest.raises(ValueError, match=r"expected \(N, 4, 4\), got shape \(6, 16\)"):
        model.encode(images.reshape(6, 16))
    assert repr(model).startswith("Autoencoder((4, 4), posterior=Flow('planar', 3, context=5, ")


@pytest.mark.parametrize("name", FLOWS)
def test_what_a_flow_is_called_builds_its_twin(name: str) -> None:
    shape = (8, 8) if name in ("realnvp", "glow") else 2
    for options in ({}, {"context": 2, "direction": "sampling"}):
        flow = build_flow(name, shape, **options)
        assert "\n" not in repr(flow)
        assert eval(repr(flow), {"Flow": build_flow}).config == flow.config
    rows = build_flow("spline", 2, support=["positive", None])
    assert "support=['positive', None]" in repr(rows)
    by_hand = Flow(build_flow("coupling", 2).transforms, (2,))
    assert "(chain)" in repr(by_hand)

"""What the rest of the project relies on in every flow: batches, contexts, vmap, files, devices."""

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from contract import (
    DOUBLE,
    SINGLE,
    build,
    close_to,
    context_of,
    each_case,
    make,
    points,
    promise_of,
    turned,
    usual,
)
from torch import Tensor

from flowlab.export import load, save
from flowlab.flows import FLOWS, Flow, Inverse, Transform, build_flow
from flowlab.flows.image import Level
from flowlab.flows.linear import LU, ActNorm
from flowlab.flows.residual import NEWTON
from flowlab.flows.solve import EVALUATIONS


@pytest.mark.parametrize("shape", [(), (2, 3), (2, 0, 3)])
@each_case
def test_any_batch_shape_and_an_untouched_input(case: str, shape: tuple[int, ...]) -> None:
    flow = make(case, usual(case))
    x = points(math.prod(shape), flow.shape).reshape(*shape, *flow.shape)
    c = context_of(flow, *shape)
    flat = None if c is None else c.reshape(-1, flow.context)
    before = x.clone(), None if c is None else c.clone()
    u = x.reshape(*shape, flow.dim)
    for transform, p, size in ((flow, x, (flow.dim,)), (flow.inverse, u, flow.shape)):
        value, log_det = transform(p, c)
        assert value.shape == (*shape, *size)
        assert log_det.shape == shape
        in_a_row = p.reshape(math.prod(shape), *p.shape[len(shape) :])
        flat_value, flat_log_det = transform(in_a_row, flat)
        torch.testing.assert_close(value, flat_value.reshape(value.shape))
        torch.testing.assert_close(log_det, flat_log_det.reshape(shape))
    assert flow.log_prob(x, c).shape == shape
    assert torch.equal(x, before[0])
    assert c is None or torch.equal(c, before[1])


def is_linear(layer: Transform) -> bool:
    if isinstance(layer, Inverse):
        layer = layer.transform
    (part,) = layer.parts if isinstance(layer, Level) else (layer,)
    return isinstance(part, ActNorm | LU)


@each_case
def test_the_layers_are_the_flow_and_write_into_nothing(case: str) -> None:
    flow, x = make(case, usual(case)), points(20, usual(case))
    c, u, total = context_of(flow, 20), x.flatten(1), torch.zeros(20, dtype=torch.float64)
    layers = flow.transforms
    assert sum(not is_linear(layer) for layer in layers) == promise_of(case).layers(flow.config)
    close = close_to(case, DOUBLE)
    for layer in layers:
        before, version = u, u._version
        u, log_det = layer(u, c)
        assert before._version == version
        assert u is not before
        total = total + log_det
        back, log_det_back = layer.inverse(u, c)
        close(layer(back, c)[0], u)
        if not promise_of(case).steep:
            close(back, before)
            close(log_det_back, -log_det)
    torch.testing.assert_close((u, total), flow(x, c), rtol=0, atol=1e-12)


@each_case
def test_a_context_decides_and_broadcasts(case: str) -> None:
    flow = make(case, shape := usual(case))
    if not flow.context:
        with pytest.raises(ValueError, match="this flow needs no context"):
            flow.log_prob(points(5, shape), points(5, 2))
        return
    x, c = points(20, shape).reshape(5, 4, *shape), context_of(flow, 4)
    assert c is not None
    with torch.no_grad():
        together = flow.log_prob(x, c)
        alone = [flow.log_prob(x[:, i], c[i]) for i in range(4)]
        torch.testing.assert_close(together, torch.stack(alone, dim=1))
        one = flow.log_prob(x[0, 0], c)  # a point in many contexts
        assert one.shape == (4,)
        assert len(one.unique()) == 4
        for transform, p in ((flow, x), (flow.inverse, x.flatten(2))):
            assert transform(p[:, :1], c)[0].shape[:2] == (5, 4)
            assert transform(p[0, 0], c)[1].shape == (4,)
    with pytest.raises(ValueError, match=r"points \(5, 4, .*\) and context \(3, .\) do not"):
        flow.log_prob(x, c[:3])
    for wrong in (points(4, flow.context + 1), torch.tensor(1.0)):
        with pytest.raises(ValueError, match=rf"expected a context \(..., {flow.context}\), got"):
            flow.log_prob(x, wrong)
    for call in (lambda: flow(x), lambda: flow.sample(3)):
        with pytest.raises(ValueError, match=rf"this flow needs a context \(..., {flow.context}\)"):
            call()


@each_case
def test_samples_given_contexts_are_those_of_each_context(case: str) -> None:
    """The random numbers of all are drawn at once, so each context's can be found among them."""
    flow = make(case, shape := usual(case))
    if not flow.context:
        assert flow.sample(0).shape == (0, *shape)
        return
    c = context_of(flow, 2, 4)
    x = flow.sample(10, c, torch.Generator().manual_seed(4))
    assert x.shape == (10, 2, 4, *shape)
    assert flow.sample(10, context_of(flow)).shape == (10, *shape)
    assert flow.sample(0, c).shape == (0, 2, 4, *shape)
    with torch.no_grad():
        u, _ = flow(x, c)
    g = torch.Generator().manual_seed(4)
    normal = torch.randn(80, flow.dim, generator=g, dtype=torch.float64)
    close_to(case, DOUBLE)(u.reshape(normal.shape), normal)


@each_case
def test_many_points_are_taken_in_chunks(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, shape = make(case, usual(case)), usual(case)
    x = points(4 * 26, shape).reshape(4, 26, *shape)
    c, bars, sizes = context_of(flow, 4, 1), [], []

    def progress(chunks: Any) -> Any:
        bars.append(len(chunks))
        return chunks

    def sample() -> Tensor:
        n = 26 if flow.context else 104
        return flow.sample(n, c, torch.Generator().manual_seed(6), progress)

    with torch.no_grad():
        whole, samples = flow.log_prob(x, c, progress), sample()
    assert bars == []
    flow.chain[0].register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    monkeypatch.setattr("flowlab.flows.flow.CHUNK", 50)
    with torch.no_grad():
        torch.testing.assert_close(flow.log_prob(x, c, progress), whole, atol=1e-5, rtol=1e-5)
    assert sizes == [50, 50, 4]
    in_chunks = sample()
    torch.testing.assert_close(in_chunks, samples, atol=1e-5, rtol=1e-5)
    assert bars == [3, 3]
    sizes.clear()
    assert flow.log_prob(x, c).requires_grad
    assert sizes == [104]  # whole, for autograd


def stacked(flows: list[Flow]) -> tuple[dict[str, Tensor], Callable[..., Any]]:
    """The flows' parameters in one stack, and how a direction of one of them is called."""
    parameters, buffers = torch.func.stack_module_state(flows)

    class Direction(torch.nn.Module):
        def __init__(self, direction: str):
            super().__init__()
            self.flow, self.direction = flows[0], direction

        def forward(self, *args: Any) -> Any:
            return getattr(self.flow, self.direction)(*args)

    def call(direction: str, named: dict[str, Tensor], *args: Any) -> Any:
        named = {f"flow.{name}": value for name, value in named.items()}
        return torch.func.functional_call(Direction(direction), named, args)

    return parameters | buffers, call


@pytest.mark.parametrize("direction", ["forward", "inverse"])
@each_case
def test_vmap_over_stacked_parameters(case: str, direction: str) -> None:
    """Values, those outside autograd, and the gradients of a training step."""
    flows = [make(case, usual(case), part=part) for part in (0.3, 0.6, 1.0)]
    x, c = points(10, usual(case)), context_of(flows[0], 10)
    x = x if direction == "forward" else x.flatten(1)
    named, call = stacked(flows)
    together = torch.func.vmap(lambda named: call(direction, named, x, c))(named)
    with torch.no_grad():
        outside = torch.func.vmap(lambda named: call(direction, named, x, c))(named)
    alone = [getattr(flow, direction)(x, c) for flow in flows]
    close = close_to(case, DOUBLE)
    for values, others, expected in zip(together, outside, zip(*alone, strict=True), strict=True):
        close(values, torch.stack(expected))
        close(others, values)
    leaves = {name: value for name, value in named.items() if value.requires_grad}
    gradients = torch.autograd.grad(together[1].sum() + together[0].sum(), [*leaves.values()])
    (sum(value.sum() + log_det.sum() for value, log_det in alone)).backward()
    for name, gradient in zip(leaves, gradients, strict=True):
        for part, flow in zip(gradient, flows, strict=True):
            found = dict(flow.named_parameters())[name].grad
            torch.testing.assert_close(part, found, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "case", [turned(f"{name}-{c}") for name in FLOWS for c in ("context", "sampling")]
)
def test_compiles_without_a_break(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either way round, with the backend that runs what was traced: generated code is torch's."""
    monkeypatch.setitem(EVALUATIONS, DOUBLE, 4)  # of which all are traced
    monkeypatch.setitem(NEWTON, DOUBLE, (1, 1))
    torch._dynamo.reset()
    few = {} if case.startswith("diagonal") else {"num_flows": 2}  # which is one layer
    flow, x = make(case, usual(case), **few), points(20, usual(case))
    c, close = context_of(flow, 20), close_to(case, DOUBLE)
    way = functools.partial(torch.compile, backend="eager", fullgraph=True)
    compiled, plain = way(flow.log_prob)(x, c), flow.log_prob(x, c)
    close(compiled, plain)
    gradients = (torch.autograd.grad(y.sum(), [*flow.parameters()]) for y in (compiled, plain))
    torch.testing.assert_close(*gradients, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE])
@each_case
def test_save_and_load_to_the_bit(case: str, dtype: torch.dtype, tmp_path: Any) -> None:
    flow, x = make(case, usual(case), dtype).eval(), points(50, usual(case), dtype)
    c = context_of(flow, 50, dtype=dtype)
    save(flow, tmp_path / "flow.safetensors")
    twin = load(tmp_path)
    assert twin.config == flow.config
    assert build_flow(**flow.config).config == flow.config
    assert torch.equal(twin.log_prob(x, c), flow.log_prob(x, c))
    sample, twin_sample = (f.sample(5, c, torch.Generator().manual_seed(6)) for f in (flow, twin))
    assert torch.equal(sample, twin_sample)


@pytest.mark.parametrize("name", FLOWS)
def test_direction_sampling_is_the_flow_turned_round(name: str) -> None:
    flow, turned = build(name, usual(name)), build(name, usual(name), direction="sampling")
    for part, other in zip(flow.chain, reversed(turned.chain), strict=True):
        for first, second in zip(part.parameters(), other.parameters(), strict=True):
            assert torch.equal(first, second)  # drawn alike
            second.data.add_(0.1 * torch.randn_like(second))
            first.data.copy_(second)
    x = points(20, usual(name))
    for way, back in ((flow, turned.inverse), (flow.inverse, turned)):
        (value, log_det), (other, other_log_det) = (
            f(x if f in (flow, turned) else x.flatten(1)) for f in (way, back)
        )
        torch.testing.assert_close((value.flatten(1), log_det), (other.flatten(1), other_log_det))


@pytest.mark.parametrize(
    "device",
    [
        "meta",  # as good as a GPU for finding tensors that were left on the CPU
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
        ),
    ],
)
@each_case
def test_everything_stays_on_the_device(
    case: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EVALUATIONS, SINGLE, 4)  # on meta each is slow
    flow = make(case, usual(case), SINGLE).to(device)
    c = None if not flow.context else context_of(flow, 7).float().to(device)
    x = flow.sample(1, c)[0] if flow.context else flow.sample(7)
    assert x.device.type == device
    assert x.shape == (7, *flow.shape)
    for value in (*flow(x, c), *flow.inverse(x.flatten(1), c), flow.log_prob(x, c)):
        assert value.device.type == device


@each_case
def test_a_wrong_shape_of_points_names_both(case: str) -> None:
    flow = make(case, usual(case))
    for call in (flow, flow.inverse, flow.log_prob):
        sizes = ", ".join(map(str, (flow.dim,) if call == flow.inverse else flow.shape))
        with pytest.raises(ValueError, match=rf"points \(..., {sizes}\), got shape \(5, 5\)"):
            call(points(5, 5))
        with pytest.raises(ValueError, match=rf"points \(..., {sizes}\), got shape \(\)"):
            call(torch.tensor(1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "nosuch", "shape": 2}, "unknown flow 'nosuch'; available: coupling"),
        ({"name": "coupling", "shape": 2, "widht": 3}, "no option widht; available: num_flows"),
        ({"name": "coupling", "shape": 2.0}, "shape must be a positive whole number"),
        ({"name": "coupling", "shape": True}, "shape must be a positive whole number"),
        ({"name": "coupling", "shape": 0}, "shape must be a positive whole number"),
        ({"name": "coupling", "shape": []}, "shape must be a positive whole number"),
        ({"name": "coupling", "shape": [2, "3"]}, r"or a list of them, got \[2, '3'\]"),
        ({"name": "coupling", "shape": [1, 8, 8]}, "is of vectors, a shape of one number"),
        ({"name": "planar", "shape": (8, 8)}, "is of vectors, a shape of one number"),
        ({"name": "glow", "shape": 64}, r"is of images, a shape \(H, W\) or \(H, W, C\), got"),
        ({"name": "realnvp", "shape": (1, 8, 8, 3)}, "is of images, a shape"),
        ({"name": "glow", "shape": (28, 28), "num_levels": 3}, "28 x 28 can be halved 2 times"),
        ({"name": "realnvp", "shape": (8, 7)}, "num_levels=2: .* 8 x 7 can be halved 0 times"),
        ({"name": "coupling", "shape": 2, "context": -1}, "context must be a whole number"),
        ({"name": "coupling", "shape": 2, "context": 1.0}, "context must be a whole number"),
        ({"name": "coupling", "shape": 2, "direction": "x"}, "must be density or sampling, got"),
        ({"name": "coupling", "shape": 2, "num_flows": True}, "must be of type int, got True"),
        ({"name": "coupling", "shape": 2, "num_flows": "4"}, "must be of type int, got '4'"),
        (
            {"name": "coupling", "shape": 2, "num_flows": 0},
            "num_flows of flow .* at least 1, got 0",
        ),
        ({"name": "coupling", "shape": 2, "num_hidden": -1}, "must be at least 1, got -1"),
        ({"name": "coupling", "shape": 2, "bound": 0.0}, "bound must be positive and finite"),
        ({"name": "coupling", "shape": 2, "bound": math.nan}, "bound must be positive and finite"),
        ({"name": "spline", "shape": 2, "bound": -1.0}, "bound must be positive and finite"),
        ({"name": "iaf", "shape": 2, "bound": math.nan}, "bound must be positive and finite"),
        ({"name": "naf", "shape": (8, 8)}, "is of vectors, a shape of one number"),
        ({"name": "diagonal", "shape": 2, "num_flows": 4}, "no option num_flows; it has none$"),
        ({"name": "planar", "shape": 2, "num_flows": 0}, "must be at least 1, got 0"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_flow(**arguments)

"""The data: who draws what, and which point comes when."""

import zlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from conftest import Compose
from scipy import stats
from torch import Tensor

from flowlab.data import Data, Points, dequantized, toy
from flowlab.rng import generator
from flowlab.targets import Turning
from flowlab.training.data import DataModule


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowlab.training.data.CHUNK_SIZE", 64)


def points(seed: int = 0, num_train: int = 100, num_val: int = 20) -> Data:
    return toy("bimodal", num_train, num_val, 30, seed)


def module(*seeds: int, order_seeds: Any = (0,), batch_size: int = 32) -> DataModule:
    return at_step(DataModule([points(s) for s in seeds or (0,)], batch_size, order_seeds), 0)


def at_step(data: DataModule, step: int) -> DataModule:
    data.trainer = cast(Any, SimpleNamespace(lightning_module=SimpleNamespace(step=step)))
    return data


def epoch(data: DataModule) -> Tensor:
    return torch.cat(list(data.train_dataloader()), dim=-1)


def test_splits_have_generators_of_their_own() -> None:
    data, more, other = points(), points(num_train=200, num_val=21), points(seed=1)
    splits = [split.x for split in (data.train, data.val, data.test)]
    assert [len(x) for x in splits] == [100, 20, 30]
    assert torch.equal(data.test.x, more.test.x)
    assert not torch.equal(data.test.x, other.test.x)
    assert len(torch.cat(splits).unique(dim=0)) == 150
    assert (data.shape, data.num_context, len(data.names)) == ((2,), 0, 2)


def test_the_pictures_extent_is_the_truths_or_that_of_the_points() -> None:
    data = points()
    assert data.extent == 4
    assert data.val.x.abs().max() < replace(data, truth=None).extent < 4


def test_replicates_have_the_points_and_orders_of_their_seeds() -> None:
    both, alone = module(3, 4, order_seeds=(3, 4)), module(4, order_seeds=(4,))
    assert torch.equal(both.order(7)[1], alone.order(7))
    for two, one in zip(both.train_dataloader(), alone.train_dataloader(), strict=True):
        assert torch.equal(both.take(both.train, two).x[1], alone.take(alone.train, one).x)
    every = torch.arange(20)
    assert torch.equal(both.take(both.val, every).x[1], alone.of(0).val.x)
    assert torch.equal(both.of(1).test.x, alone.of(0).test.x)


def test_replicates_share_the_points_of_a_seed_that_is_set() -> None:
    data = module(5, order_seeds=(0, 1))
    index = epoch(data)
    assert index.shape == (2, 100)
    assert not torch.equal(index[0], index[1])
    assert data.take(data.train, index).x.shape == (2, 100, 2)
    assert data.take(data.val, torch.arange(20)).x.shape == (20, 2)
    assert data.of(1) is data.of(0)


def test_a_context_goes_with_its_point() -> None:
    sets = []
    for seed in (0, 1):
        x = points(seed).train.x
        sets.append(replace(points(seed), train=Points(x, x.sum(1, keepdim=True))))
    for data in (DataModule(sets[:1], 32, (0,)), DataModule(sets, 32, (0, 1))):
        index = epoch(at_step(data, 0))
        for chosen in (index, index[..., 5:9], torch.tensor([3, 1])):
            x, context = data.take(data.train, chosen)
            assert context is not None
            assert torch.equal(context, x.sum(-1, keepdim=True))
        assert data.of(0).num_context == 1


def test_a_conditional_target_draws_contexts_and_points_for_them() -> None:
    data = toy("turning", 1000, 20, 30, seed=3)
    assert data.num_context == 1
    assert isinstance(data.truth, Turning)
    x, context = data.train
    assert context is not None
    log_p = data.truth.log_prob(x, context)
    assert abs(log_p.mean() + data.truth.entropy) < 5 * log_p.std() / 1000**0.5


def test_an_epoch_visits_every_point_once_in_plain_tensors() -> None:
    loader = module().train_dataloader()
    chunks = list(loader)
    assert [type(chunk) for chunk in chunks] == [torch.Tensor] * 2
    assert [len(chunk) for chunk in chunks] == [64, 36]
    assert len(loader) == 2
    assert torch.equal(torch.cat(chunks).sort().values, torch.arange(100))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    orders = [epoch(at_step(module(), 4 * i)) for i in range(3)]
    assert torch.equal(epoch(at_step(module(8), 8)), orders[2])
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(epoch(module(order_seeds=(1,))), orders[0])


def test_the_order_is_drawn_from_its_owner_seed_and_epoch() -> None:
    """So that orders, and with them results, stay the same from version to version."""
    key = np.random.SeedSequence((zlib.crc32(b"order"), 3, 5)).generate_state(1, np.uint64)
    expected = torch.randperm(100, generator=torch.Generator().manual_seed(int(key[0])))
    assert torch.equal(module(order_seeds=(3,)).order(5), expected)


def test_an_epoch_goes_on_after_the_steps_that_are_done() -> None:
    (rest,) = at_step(module(), 4 + 2).train_dataloader()
    assert torch.equal(rest, module().order(1)[64:])


def test_the_training_does_not_depend_on_the_length_of_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = module(batch_size=30)
    assert len(data.train_dataloader()) == 2  # 60 and 40 points
    index = epoch(data)
    monkeypatch.setattr("flowlab.training.data.CHUNK_SIZE", 1)
    assert len(data.train_dataloader()) == 4  # a batch at least
    assert torch.equal(epoch(data), index)


def test_held_out_points_come_in_their_own_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowlab.training.data.EVAL_SIZE", 16)
    chunks = list(module(0, 1, order_seeds=(0, 1)).val_dataloader())
    assert [len(chunk) for chunk in chunks] == [8, 8, 4]
    assert torch.equal(torch.cat(chunks), torch.arange(20))


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(ValueError, match=r"target=x: no such; available: bimodal, .*turning"):
        toy("x", 1, 1, 1, 0)


@pytest.mark.parametrize("target", ["eight_gaussians", "checkerboard"])
def test_a_data_set_brings_its_epochs_and_gives_way(target: str, compose_config: Compose) -> None:
    cfg, usual = compose_config(f"data={target}"), compose_config()
    assert cfg.data == {**usual.data, "target": target, "num_train": 20000, "batch_size": 256}
    assert cfg.trainer == {**usual.trainer, "max_epochs": 40}
    words = ("data.num_train=500", "trainer.max_epochs=3", "trainer=ddp")
    own = compose_config(f"data={target}", *words)
    assert (own.data.num_train, own.trainer.max_epochs, own.trainer.strategy) == (500, 3, "ddp")
    preset = compose_config(f"data={target}", "experiment=fast")
    fast = compose_config("experiment=fast")
    assert (preset.trainer, preset.data.batch_size) == (fast.trainer, fast.data.batch_size)
    assert preset.data.target == target


STEP = torch.tensor([0.0, 1.0, 0.5])


def counts(seed: int = 0, dtype: torch.dtype = torch.float32) -> Data:
    """A number of one decimal, a whole one and a half one, of which two get noise; a context."""
    x = torch.randint(0, 9, (100, 3), generator=torch.Generator().manual_seed(seed)).to(dtype)
    points = Points(x * torch.tensor([0.1, 1.0, 0.5]), x[:, :2])
    held_out = points.map(lambda t: t[:20])
    support = (None, "positive", (0.0, 4.5))
    return Data(points, held_out, held_out, ("a", "b", "c"), support=support, noise=STEP)


def noisy(*seeds: int, order_seeds: Any = (0,), step: int = 0, **options: Any) -> DataModule:
    data = at_step(DataModule([counts(s, **options) for s in seeds], 32, order_seeds), step)
    trainer = cast(Any, data.trainer)
    trainer.strategy = SimpleNamespace(root_device=torch.device("cpu"))
    data.setup("fit")
    return data


def seen(data: DataModule) -> tuple[Tensor, Tensor]:
    """The points of what is left of an epoch, as the training gets them, and their indices."""
    index = epoch(data)
    return data.take(data.train, index).x, index


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_points_get_their_noise_anew_each_epoch(dtype: torch.dtype) -> None:
    clean, first, second = (
        counts(dtype=dtype).train.x,
        *(noisy(0, step=s, dtype=dtype) for s in (0, 4)),
    )
    shares = []
    for data in (first, second):
        x, index = seen(data)
        assert x.dtype == dtype
        assert torch.equal(x[:, 0], clean[index, 0])
        share = (x - clean[index])[:, 1:] / STEP[1:]
        assert ((share > 0) & (share < 1)).all()
        assert stats.kstest(share.flatten().numpy(), "uniform").pvalue > 1e-6
        shares.append(share[index.argsort()])
        assert torch.equal(data.of(0).train.x, clean)
    assert (shares[0] != shares[1]).all()
    taken = first.take(first.val, torch.arange(20))
    assert torch.equal(taken.x, clean[:20])  # whoever makes the data has done it


def test_noise_is_drawn_from_its_owner_seed_and_epoch() -> None:
    """Also for a run that goes on within an epoch, and in any order of the points."""
    expected = torch.rand(100, 2, generator=generator("noise", 3, 1))
    whole, rest = (noisy(0, order_seeds=(3,), step=step) for step in (4, 6))
    (x, index), (end, _) = seen(whole), seen(rest)
    torch.testing.assert_close((x - counts().train.x[index])[:, 1:] / STEP[1:], expected[index])
    assert torch.equal(end, x[64:])


def test_what_looks_at_all_training_points_gets_the_noise_of_the_first_epoch() -> None:
    data = noisy(0, order_seeds=(3, 4), step=4)
    every = torch.arange(100)
    x, context = data.take(data.train, every)  # as before the first epoch
    assert context is not None
    assert context.shape == (2, 100, 2)
    for i in range(2):
        assert torch.equal(data.dequantized(i).train.x, x[i])
    seen(data)
    assert torch.equal(data.dequantized(1).train.x, x[1])
    assert not torch.equal(data.take(data.train, every).x, x)


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_replicates_have_the_noise_of_their_seeds(seeds: tuple[int, ...]) -> None:
    together = noisy(*seeds, order_seeds=(3, 4), step=9)
    alone = noisy(seeds[-1], order_seeds=(4,), step=9)
    assert torch.equal(seen(together)[0][1], seen(alone)[0])
    assert torch.equal(together.dequantized(1).train.x, alone.dequantized(0).train.x)


def test_no_noise_costs_nothing() -> None:
    data = module()
    assert data.dequantized(0) is data.of(0)
    nought = DataModule([replace(counts(), noise=torch.zeros(3))], 32, (0,))
    assert nought.noisy is None


def test_rounding_brings_no_point_to_the_end_of_its_step() -> None:
    x = torch.arange(1000.0)
    for share, least, most in ((0.0, 0, 1e-4), (1 - 2**-24, 1 - 1e-4, 1)):
        y = dequantized(x, torch.tensor(1.0), torch.full((1000,), share))
        assert ((x + least <= y) & (y <= x + most) & (x < y) & (y < x + 1)).all()

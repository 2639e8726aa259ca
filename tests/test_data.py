"""The data module: who draws what, and which point comes when."""

import zlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from flowlab.training.data import ToyData


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowlab.training.data.CHUNK_SIZE", 64)


def make(**changes: Any) -> ToyData:
    options = {"num_train": 100, "num_val": 20, "num_test": 30, "batch_size": 32}
    options |= {"seed": 0, "order_seed": 0} | changes
    data = ToyData("bimodal", **options)
    at_epoch(data, 0)
    return data


def at_epoch(data: ToyData, epoch: int, chunks_done: int = 0) -> None:
    progress = SimpleNamespace(current=SimpleNamespace(ready=chunks_done))
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    data.trainer = SimpleNamespace(current_epoch=epoch, fit_loop=loop)


def test_splits_have_generators_of_their_own() -> None:
    data, more, other = make(), make(num_train=200, num_val=21), make(seed=1)
    assert [len(points) for points in (data.train, data.val, data.test)] == [100, 20, 30]
    assert torch.equal(data.test, more.test)
    assert not torch.equal(data.test, other.test)
    everything = torch.cat((data.train, data.val, data.test))
    assert len(everything.unique(dim=0)) == 150
    assert torch.equal(make(order_seed=5).train, data.train)


def test_without_a_seed_the_points_follow_the_runs() -> None:
    assert torch.equal(make(seed=None, order_seed=5).train, make(seed=5).train)


def test_replicates_have_the_points_and_orders_of_their_seeds() -> None:
    both, alone = make(seed=None, order_seed=3, replicates=2), make(seed=None, order_seed=4)
    for split in ("train", "val", "test"):
        assert torch.equal(getattr(both, split)[1], getattr(alone, split))
        assert torch.equal(getattr(both.of_replicate(1), split), getattr(alone, split))
    assert torch.equal(both.order(7)[1], alone.order(7))
    chunks = zip(both.train_dataloader(), alone.train_dataloader(), strict=True)
    assert all(torch.equal(two[1], one) for two, one in chunks)
    assert torch.equal(both.fresh()(6)[1], alone.fresh()(6))


def test_replicates_share_the_points_of_a_seed_that_is_set() -> None:
    data = make(seed=5, replicates=2)
    assert torch.equal(data.train, make(seed=5).train)
    assert data.of_replicate(1) is data
    chunks = torch.cat(list(data.train_dataloader()), dim=-2)
    assert chunks.shape == (2, 100, 2)
    assert not torch.equal(chunks[0], chunks[1])


def test_fresh_points_are_in_no_split_and_never_come_twice() -> None:
    data = make()
    draw = data.fresh()
    everything = torch.cat((data.train, data.val, data.test, draw(50), draw(50)))
    assert len(everything.unique(dim=0)) == 250
    assert torch.equal(data.fresh()(5), data.fresh()(5))


def test_an_epoch_visits_every_point_once_in_plain_tensors() -> None:
    data = make()
    loader = data.train_dataloader()
    chunks = list(loader)
    assert [type(chunk) for chunk in chunks] == [torch.Tensor] * 2
    assert [len(chunk) for chunk in chunks] == [64, 36]
    assert len(loader) == 2
    assert torch.equal(torch.cat(chunks).sort(0).values, data.train.sort(0).values)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    data, twin, other = make(), make(), make(order_seed=1)
    orders = []
    for epoch in range(3):
        at_epoch(data, epoch)
        orders.append(torch.cat(list(data.train_dataloader())))
    at_epoch(twin, 2)
    assert torch.equal(torch.cat(list(twin.train_dataloader())), orders[2])
    assert not torch.equal(orders[0], orders[1])
    assert not torch.equal(torch.cat(list(other.train_dataloader())), orders[0])


def test_the_order_is_drawn_from_its_owner_seed_and_epoch() -> None:
    """So that orders, and with them results, stay the same from version to version."""
    key = np.random.SeedSequence((zlib.crc32(b"order"), 3, 5)).generate_state(1, np.uint64)
    expected = torch.randperm(100, generator=torch.Generator().manual_seed(int(key[0])))
    assert torch.equal(make(order_seed=3).order(5), expected)


def test_an_epoch_goes_on_after_the_chunks_that_are_done() -> None:
    data = make()
    chunks = list(data.train_dataloader())
    at_epoch(data, 0, chunks_done=1)
    (rest,) = data.train_dataloader()
    assert torch.equal(rest, chunks[1])


def test_the_training_does_not_depend_on_the_length_of_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = make(batch_size=30)
    assert len(data.train_dataloader()) == 2  # 60 and 40 points
    points = torch.cat(list(data.train_dataloader()))
    monkeypatch.setattr("flowlab.training.data.CHUNK_SIZE", 1)
    assert len(data.train_dataloader()) == 4  # a batch at least
    assert torch.equal(torch.cat(list(data.train_dataloader())), points)


def test_held_out_points_come_in_their_own_order() -> None:
    data = make()
    assert torch.equal(torch.cat(list(data.val_dataloader())), data.val)
    assert torch.equal(torch.cat(list(data.test_dataloader())), data.test)


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(ValueError, match="unknown target 'x'; available: bimodal"):
        ToyData("x", 1, 1, 1, 1, 0, 0)

"""The loader: every case once, the same order for everyone, values as stored."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st

from translucid.data import Augment, Loader, take
from translucid.errors import ConfigError, InputError, ShapeError


def loader(n: int, batch: int = 4, **more: object) -> Loader:
    x = np.arange(n, dtype=np.float32)[:, None, None].repeat(3, axis=2)
    return Loader(x, (np.arange(n) % 2)[:, None].astype(float), batch, **more)  # type: ignore[arg-type]


def seen(some: Loader) -> list[int]:
    return [i for batch in some for i in batch.index.tolist()]


@given(st.integers(1, 40), st.integers(1, 9), st.booleans(), st.integers(0, 3))
def test_every_case_comes_once_and_with_its_own_label(n: int, batch: int, shuffle: bool, epoch: int) -> None:
    some = loader(n, batch, shuffle=shuffle)
    some.set_epoch(epoch)
    batches = list(some)
    assert len(batches) == len(some)
    assert sorted(seen(some)) == list(range(n))
    for b in batches:
        assert torch.equal(b.x[:, 0, 0], b.index.float())
        assert torch.equal(b.y[:, 0], (b.index % 2).float())
    if not shuffle:
        assert seen(some) == list(range(n))


@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 4), st.one_of(st.none(), st.integers(1, 30)))
def test_processes_share_the_cases_and_get_equally_many(n: int, batch: int, world: int, draw: int | None) -> None:
    shares = [seen(loader(n, batch, shuffle=True, rank=r, world=world, draw=draw)) for r in range(world)]
    assert len({len(s) for s in shares}) == 1
    together = [i for step in zip(*shares, strict=True) for i in step]
    wanted = min(n, draw or n)
    assert len(set(together)) == wanted
    assert len(together) - wanted < world


@given(st.integers(1, 4), st.integers(0, 2))
def test_order_depends_on_seed_and_epoch_alone(seed: int, prefetch: int) -> None:
    a, b = loader(20, 3, shuffle=True, seed=seed), loader(20, 7, shuffle=True, seed=seed, prefetch=prefetch)
    orders = []
    for epoch in (1, 2, 1):
        a.set_epoch(epoch)
        b.set_epoch(epoch)
        assert seen(a) == seen(b)
        orders.append(seen(a))
    assert orders[0] == orders[2] != orders[1]


def test_draw_is_without_replacement_and_new_each_epoch() -> None:
    some = loader(30, 4, shuffle=True, draw=10)
    drawn = []
    for epoch in range(6):
        some.set_epoch(epoch)
        drawn.append(seen(some))
    assert all(len(set(d)) == 10 for d in drawn)
    assert len({i for d in drawn for i in d}) > 20
    assert seen(some.in_order()) == list(range(30))


def test_a_lone_last_case_joins_the_batch_before_it_when_training() -> None:
    assert [len(b.x) for b in loader(9, 4, shuffle=True)] == [4, 5]
    assert [len(b.x) for b in loader(9, 4)] == [4, 4, 1]
    assert [len(b.x) for b in loader(9, 4, shuffle=True, drop_last=True)] == [4, 4]


def test_stored_types_become_the_same_numbers() -> None:
    bytes_ = np.array([[[0, 51, 255]], [[1, 2, 3]]], np.uint8)
    rows = np.array([1, 0])
    expected = torch.tensor([[[1, 2, 3]], [[0, 51, 255]]]) / 255
    for stored in (bytes_, torch.from_numpy(bytes_), (bytes_ / 255).astype(np.float32)):
        torch.testing.assert_close(take(stored, rows), expected)
    torch.testing.assert_close(take((bytes_ / 255).astype(np.float16), rows), expected, atol=1e-3, rtol=0)


def test_memory_mapped_store(tmp_path) -> None:
    np.save(tmp_path / "codes.npy", np.arange(12, dtype=np.float32).reshape(4, 1, 3))
    store = np.load(tmp_path / "codes.npy", mmap_mode="r")
    batch = next(iter(Loader(store, np.zeros((4, 1)), 4, shuffle=True)))
    assert torch.equal(batch.x[:, 0, 0], 3 * batch.index.float())


def test_transform_and_index() -> None:
    some = loader(4, 2, transform=lambda x: x * 10, index=np.array([7, 8, 9, 3]))
    assert seen(some) == [7, 8, 9, 3]
    assert [b.x[0, 0, 0].item() for b in some] == [0, 20]


def test_a_thread_ahead_of_time_ends_with_the_loop() -> None:
    for _ in loader(40, 2, prefetch=3):
        break
    assert not [t for t in threading.enumerate() if t.name.startswith("loader")]


@pytest.mark.parametrize("space", [(8, 11), (5, 6, 7)])
def test_shift_agrees_with_scipy(space: tuple[int, ...]) -> None:
    x = torch.rand(6, 2, *space, generator=torch.Generator().manual_seed(0))
    kept = x.clone()
    got = Augment(shift=0.3)(x, np.random.default_rng(5))
    assert torch.equal(x, kept)
    rng = np.random.default_rng(5)
    rng.uniform(0, 0, 6)  # the zooms are drawn first
    moves = rng.uniform(-0.3, 0.3, (6, len(space)))
    for case, move, image in zip(x.numpy(), moves, got.numpy(), strict=True):
        pixels = [-m * n for m, n in zip(move[::-1], space, strict=True)]
        for channel in range(2):
            want = scipy.ndimage.shift(case[channel], pixels, order=1, mode="grid-constant")
            np.testing.assert_allclose(image[channel], want, atol=2e-5)


def test_flip_mirrors_the_last_axis_of_about_half() -> None:
    x = torch.rand(64, 1, 4, 6, generator=torch.Generator().manual_seed(0))
    got = Augment(flip=True)(x, np.random.default_rng(1))
    flipped = torch.tensor([torch.allclose(g, i.flip(-1), atol=1e-5) for g, i in zip(got, x, strict=True)])
    kept = torch.tensor([torch.allclose(g, i, atol=1e-5) for g, i in zip(got, x, strict=True)])
    assert torch.equal(flipped, ~kept)
    assert 16 < int(flipped.sum()) < 48


def test_zoom_keeps_the_centre_and_changes_the_size() -> None:
    line = torch.exp(-((torch.arange(33) - 16.0) ** 2) / 18)
    blob = (line[:, None] * line).expand(8, 1, 33, 33)
    got = Augment(scale=0.3)(blob, np.random.default_rng(2))
    area = got.sum((1, 2, 3)) / blob[0].sum()
    assert torch.equal(got.flatten(1).argmax(1), torch.full((8,), 16 * 33 + 16))
    zoom = 1 + np.random.default_rng(2).uniform(-0.3, 0.3, 8)
    np.testing.assert_allclose(area.numpy(), zoom**2, rtol=0.02)


def test_augmentation_is_off_by_default_and_repeats_with_the_epoch() -> None:
    x = np.random.default_rng(0).random((5, 1, 6, 6)).astype(np.float32)
    y = np.zeros((5, 1))
    assert torch.equal(next(iter(Loader(x, y, 5, augment=Augment()))).x, torch.from_numpy(x))
    some = Loader(x, y, 2, augment=Augment(shift=0.2), prefetch=2)
    first = torch.cat([b.x for b in some])
    assert torch.equal(first, torch.cat([b.x for b in some.with_(prefetch=0)]))
    some.set_epoch(1)
    assert not torch.equal(first, torch.cat([b.x for b in some]))


def test_codes_are_augmented_only_once_they_are_an_image() -> None:
    codes = np.random.default_rng(0).random((2, 1, 36)).astype(np.float32)
    make = {"transform": lambda c: c.reshape(-1, 1, 6, 6), "augment": Augment(flip=True), "seed": 3}
    got = next(iter(Loader(codes, np.zeros((2, 1)), 2, **make))).x
    assert got.shape == (2, 1, 6, 6)


def test_what_does_not_go_together_is_refused() -> None:
    x = np.zeros((3, 1, 4), np.float32)
    with pytest.raises(ShapeError, match=r"y must be \(case, label\)"):
        Loader(x, np.zeros(3), 2)
    with pytest.raises(InputError, match="resolve uncertain labels"):
        Loader(x, np.array([[1.0], [-1.0], [0.0]]), 2)
    with pytest.raises(ShapeError, match="index"):
        Loader(x, np.zeros((3, 1)), 2, index=np.arange(2))
    with pytest.raises(ConfigError, match="too small"):
        Loader(x, np.zeros((3, 1)), 0)
    with pytest.raises(ConfigError, match="rank"):
        Loader(x, np.zeros((3, 1)), 2, rank=2, world=2)

"""The short way for plain grey files: it gives what the long way gives, or nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import PngImagePlugin

from translucid.io.fence import Fence
from translucid.io.framing import Framing
from translucid.io.limits import ReadPolicy
from translucid.io.plain_grey import content, read_plain_grey
from translucid.io.readers import read_image
from translucid.pipeline.gathering import Gathered, Shortcut, as_floats, round_into
from translucid.types import Box, Case


def picture(height: int, width: int, seed: int = 0) -> Pillow.Image:
    rng = np.random.default_rng(seed)
    values = 128 + rng.normal(size=(height, width)).cumsum(0).cumsum(1) / 4
    return Pillow.fromarray(values.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("jpg", {"quality": 95}),
        ("jpg", {"quality": 30, "progressive": True}),
        ("jpg", {"quality": 80, "restart_marker_blocks": 3, "comment": b"words"}),
        ("jpg", {"dpi": (72, 72), "optimize": True}),
        ("png", {}),
        ("png", {"dpi": (72, 72)}),
    ],
)
@pytest.mark.parametrize("space", [(64, 64), (37, 50), (1, 1)])
def test_it_gives_what_the_long_way_gives(
    tmp_path: Path, suffix: str, options: dict[str, Any], space: tuple[int, int]
) -> None:
    file = tmp_path / f"a.{suffix}"
    picture(*space).save(file, **options)
    wanted = read_image(file).pixels[0]
    slot = np.zeros(space, np.uint8)
    for given in (None, slot, np.zeros((9, 9), np.uint8)):
        found = read_plain_grey(content(str(file)), given)
        assert found is not None
        assert found.dtype == np.uint8
        assert np.array_equal(found, wanted)
    if suffix == "jpg":
        assert np.array_equal(slot, wanted)


def turned() -> Pillow.Exif:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    return exif


def words() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", "00")
    return info


@pytest.mark.parametrize(
    ("suffix", "mode", "options"),
    [
        ("jpg", "RGB", {}),
        ("jpg", "CMYK", {}),
        ("jpg", "L", {"exif": turned()}),
        ("png", "RGB", {}),
        ("png", "LA", {}),
        ("png", "P", {}),
        ("png", "1", {}),
        ("png", "I;16", {}),
        ("png", "L", {"transparency": 7}),
        ("png", "L", {"exif": turned()}),
        ("png", "L", {"pnginfo": words()}),
        ("tif", "L", {}),
        ("bmp", "L", {}),
    ],
)
def test_what_calls_for_a_decision_takes_the_long_way(
    tmp_path: Path, suffix: str, mode: str, options: dict[str, Any]
) -> None:
    file = tmp_path / f"a.{suffix}"
    picture(20, 20).convert(mode).save(file, **options)
    assert read_plain_grey(content(str(file))) is None


def test_damage_and_what_is_no_file_take_the_long_way(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    picture(64, 64).save(file, quality=90)
    data = file.read_bytes()
    for cut in range(0, len(data) - 2, 7):
        file.write_bytes(data[:cut])
        assert read_plain_grey(content(str(file))) is None, cut
    file.write_bytes(data)
    assert read_plain_grey(data, policy=ReadPolicy(max_samples=64)) is None
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path), str(tmp_path / "pipe"), str(tmp_path / "b.jpg"), "a\0b.jpg"):
        assert content(path) == b""
    assert content(str(file), ReadPolicy(max_file_bytes=9)) == b""
    assert read_plain_grey(b"") is None


FRAMINGS = [
    Framing("crop", 32),
    Framing("centre_crop", 40),
    Framing("letterbox", 52),
    Framing("resize", 24),
    Framing("none"),
    Framing("crop", 32, window=(10, 200)),
    Framing("crop", 32, channels=3),
]


@pytest.mark.parametrize("framing", FRAMINGS, ids=lambda f: f.kind)
@pytest.mark.parametrize("space", [(40, 40), (40, 52), (32, 32)])
def test_taken_and_added_images_are_the_same(tmp_path: Path, framing: Framing, space: tuple[int, int]) -> None:
    taken, added, long_ways = Gathered(framing, 8, 4), Gathered(framing, 8, 4), 0
    for i in range(4):
        picture(*space, seed=i).save(tmp_path / f"{i}.{'png' if i == 1 else 'jpg'}", quality=90)
        case = Case(f"{i}.{'png' if i == 1 else 'jpg'}", "p", boxes=(Box("mass", 15, 16, 8, 9),))
        framed = framing.apply(read_image(tmp_path / case.file))
        added.add(str(i), case, framed, None)
        if not taken.take(str(i), case, Fence(tmp_path)):
            taken.add(str(i), case, framed, None)
            long_ways += 1
    found, wanted = taken.block(), added.block()
    assert found is not None
    assert wanted is not None
    assert found.dtype == wanted.dtype == np.uint8
    assert np.array_equal(found, wanted)
    assert (taken.kept, taken.boxes) == (added.kept, added.boxes)
    cuts = framing.kind in ("crop", "none") or (framing.kind == "centre_crop" and min(space) == 40)
    assert long_ways == (0 if cuts and Shortcut.serves(framing) and framing.window is None else 4)


def test_a_file_outside_the_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    picture(32, 32).save(tmp_path / "out.jpg")
    (tmp_path / "in" / "link.jpg").symlink_to(tmp_path / "out.jpg")
    gathered = Gathered(Framing("none"), 8, 2)
    for file in ("../out.jpg", "link.jpg"):
        assert not gathered.take("x", Case(file, "p"), Fence(tmp_path / "in"))
    assert gathered.block() is None


@pytest.mark.parametrize("bits", [8, 16])
def test_whole_numbers_are_the_nearest_and_come_back(bits: int) -> None:
    levels = 2**bits - 1
    out = np.empty(5000, {8: np.uint8, 16: np.uint16}[bits])
    pixels = np.random.default_rng(0).random(5000, np.float32)
    round_into(out, pixels, bits)
    assert np.abs(out / levels - pixels).max() <= 0.5 / levels + 1e-7
    again = np.empty_like(out)
    round_into(again, as_floats(out), bits)
    assert np.array_equal(out, again)


def test_a_file_swapped_for_a_link_is_not_read(tmp_path: Path) -> None:
    root, near = tmp_path / "in", Framing(kind="crop", size=16)
    (root / "a").mkdir(parents=True)
    for file in (root / "a" / "x.jpg", tmp_path / "far.jpg"):
        Pillow.new("L", (16, 16), 51).save(file)
    fence, shortcut = Fence(root), Shortcut(near)
    assert shortcut.read(fence, Case("a/x.jpg", "-"), None) is not None
    (root / "a" / "x.jpg").unlink()
    (root / "a" / "x.jpg").symlink_to(tmp_path / "far.jpg")
    assert shortcut.read(fence, Case("a/x.jpg", "-"), None) is None
    (root / "a" / "y.jpg").symlink_to(root / "a" / "z.jpg")
    Pillow.new("L", (16, 16), 51).save(root / "a" / "z.jpg")
    assert shortcut.read(fence, Case("a/y.jpg", "-"), None) is not None
    (root / "b").symlink_to(tmp_path)
    assert shortcut.read(fence, Case("b/far.jpg", "-"), None) is None

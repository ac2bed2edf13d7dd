from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from PIL import ImageOps

from translucid.errors import UnreadableImage
from translucid.io.raster import read_mask
from translucid.io.readers import image_files, read_image

GREY8 = np.random.default_rng(0).integers(0, 256, (5, 7), np.uint8)
GREY16 = np.random.default_rng(1).integers(0, 65536, (5, 7), np.uint16)
RGB = np.random.default_rng(2).integers(0, 256, (5, 7, 3), np.uint8)


def save(path: Path, picture: Pillow.Image | np.ndarray, **options: Any) -> Path:
    picture = Pillow.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
@pytest.mark.parametrize("pixels", [GREY8, RGB], ids=["grey", "rgb"])
def test_eight_bits(tmp_path: Path, suffix: str, pixels: np.ndarray) -> None:
    image = read_image(save(tmp_path / f"a.{suffix}", pixels))
    np.testing.assert_array_equal(image.pixels, pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0))
    assert (image.low, image.high) == (0, 255)
    assert image.pixels.dtype == np.float32
    assert image.pixels.flags.c_contiguous


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits(tmp_path: Path, suffix: str) -> None:
    image = read_image(save(tmp_path / f"a.{suffix}", GREY16))
    np.testing.assert_array_equal(image.pixels[0], GREY16)
    assert (image.low, image.high) == (0, 65535)
    assert image.source["bits_stored"] == 16


def test_sixteen_bit_colour_says_that_it_lost_bits(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    wide = np.random.default_rng(3).integers(0, 65536, (5, 7, 3), np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(wide))
    image = read_image(tmp_path / "a.png")
    np.testing.assert_allclose(image.pixels, np.moveaxis(wide, -1, 0) / 257, atol=1)
    assert (image.high, image.source["bits_stored"], image.source["bits_kept"]) == (255, 16, 8)


def test_one_bit(tmp_path: Path) -> None:
    bits = GREY8 > 127
    image = read_image(save(tmp_path / "a.png", Pillow.fromarray(bits)))
    np.testing.assert_array_equal(image.pixels[0], bits)
    assert (image.low, image.high) == (0, 1)


def test_jpeg_is_as_pillow_decodes_it(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)
    path = save(tmp_path / "wrong_suffix.png", smooth, format="JPEG", quality=95)
    np.testing.assert_allclose(read_image(path).pixels[0], smooth, atol=3)


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_exif_orientation_is_applied_once(tmp_path: Path, turn: int, suffix: str) -> None:
    pixels = np.kron(np.array([[0, 90, 180], [30, 120, 250]], np.uint8), np.ones((8, 8), np.uint8))
    exif = Pillow.Exif()
    exif[0x0112] = turn
    path = save(tmp_path / f"a.{suffix}", pixels, exif=exif.tobytes() if suffix != "tif" else exif)
    flat = Pillow.fromarray(pixels)
    flat.getexif()[0x0112] = turn
    wanted = np.asarray(ImageOps.exif_transpose(flat))
    image = read_image(path)
    np.testing.assert_allclose(image.pixels[0], wanted, atol=4)
    assert image.source.get("exif_orientation", 1) == turn


def test_palette_of_greys_is_grey_and_of_colours_rgb(tmp_path: Path) -> None:
    for name, table, channels in (("grey", np.repeat(np.arange(256), 3), 1), ("rgb", np.arange(768) % 256, 3)):
        picture = Pillow.fromarray(GREY8)
        picture = picture.convert("P")
        picture.putpalette([int(v) for v in table])
        image = read_image(save(tmp_path / f"{name}.png", picture))
        wanted = table.reshape(256, 3)[GREY8]
        np.testing.assert_array_equal(image.pixels, np.moveaxis(wanted, -1, 0)[:channels])
        assert image.source["palette"] is True


def test_alpha_is_laid_over_black(tmp_path: Path) -> None:
    alpha = np.full((5, 7, 1), 255, np.uint8)
    image = read_image(save(tmp_path / "a.png", np.concatenate([RGB, alpha], -1)))
    np.testing.assert_array_equal(image.pixels, np.moveaxis(RGB, -1, 0))
    assert image.source["alpha"] == "opaque, dropped"
    alpha[:, :3] = 0
    image = read_image(save(tmp_path / "b.png", np.concatenate([RGB, alpha], -1)))
    np.testing.assert_array_equal(image.pixels, np.moveaxis(RGB * (alpha > 0), -1, 0))
    image = read_image(save(tmp_path / "c.png", Pillow.fromarray(np.stack([GREY8, alpha[..., 0]], -1), "LA")))
    np.testing.assert_array_equal(image.pixels[0], GREY8 * (alpha[..., 0] > 0))


def test_pages_of_a_tiff(tmp_path: Path) -> None:
    pages = [Pillow.fromarray(GREY8), Pillow.fromarray(255 - GREY8)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    image = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.pixels[0], np.stack([GREY8, 255 - GREY8]))
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif", frame=1).pixels[0], 255 - GREY8)
    with pytest.raises(UnreadableImage, match="frame 2 asked for; wanted 0 to 1"):
        read_image(tmp_path / "a.tif", frame=2)


def test_float_tiff_declares_no_range(tmp_path: Path) -> None:
    values = GREY8.astype(np.float32) / 10
    image = read_image(save(tmp_path / "a.tif", values))
    np.testing.assert_array_equal(image.pixels[0], values)
    assert np.isnan([image.low, image.high]).all()
    values[0, 0] = np.nan
    with pytest.raises(UnreadableImage, match="not finite"):
        read_image(save(tmp_path / "b.tif", values))


@pytest.mark.parametrize(("inside", "kind"), [(1, "L"), (255, "L"), (255, "1"), (255, "RGB")])
def test_masks(tmp_path: Path, inside: int, kind: str) -> None:
    region = np.zeros((6, 9), bool)
    region[2:4, 3:8] = True
    picture = Pillow.fromarray((region * inside).astype(np.uint8)).convert(kind)
    np.testing.assert_array_equal(read_mask(save(tmp_path / "m.png", picture)), region)


def test_mask_kept_as_jpeg_and_masks_that_are_none(tmp_path: Path) -> None:
    region = np.zeros((48, 64), bool)
    region[9:33, 18:41] = True
    path = save(tmp_path / "m.jpg", (region * 255).astype(np.uint8), quality=60)
    assert len(np.unique(np.asarray(Pillow.open(path)))) > 2
    np.testing.assert_array_equal(read_mask(path), region)
    with pytest.raises(UnreadableImage, match=r"^labels\.png: .*map of labels"):
        read_mask(save(tmp_path / "labels.png", (GREY8 % 4).astype(np.uint8)))
    with pytest.raises(UnreadableImage, match=r"^rgb\.png: .*coloured mask"):
        read_mask(save(tmp_path / "rgb.png", RGB))


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    for suffix in ("png", "jpg", "tif", "bmp"):
        path = save(tmp_path / f"whole.{suffix}", noise)
        cut = tmp_path / f"cut.{suffix}"
        cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UnreadableImage, match=rf"^cut\.{suffix}: "):
            read_image(cut)


def test_listing_looks_at_suffix_then_content(tmp_path: Path) -> None:
    save(tmp_path / "b.PNG", GREY8, format="PNG")
    save(tmp_path / "0001", GREY8, format="PNG")
    (tmp_path / "sub").mkdir()
    save(tmp_path / "sub" / "a.jpg", GREY8)
    for name in ("notes.txt", "0002", "DICOMDIR", ".hidden.png", "table.csv"):
        (tmp_path / name).write_bytes(b"text")
    assert [p.relative_to(tmp_path).as_posix() for p in image_files(tmp_path)] == ["0001", "b.PNG", "sub/a.jpg"]
    with pytest.raises(UnreadableImage, match="not a folder"):
        image_files(tmp_path / "none")

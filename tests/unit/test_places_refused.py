"""What is known of places and cannot be: boxes outside their image, names that nobody has, files that are gone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from translucid.config import build
from translucid.errors import ConfigError, UnreadableImage
from translucid.io.gaze import sigma_in_pixels
from translucid.io.manifest import Manifest
from translucid.io.places import boxes_on_cells
from translucid.io.placing import Transform, boxes_cut
from translucid.io.truth import truth_masks
from translucid.pipeline.places import check_known, sigma_of
from translucid.report.made import _kind
from translucid.study import PlacesSettings
from translucid.types import Box, Case

SIZE = 32
SAME = Transform((1.0, 1.0), (0.0, 0.0), (SIZE, SIZE), (SIZE, SIZE))


def truth_by_pixels(box: Box) -> np.ndarray:
    """Each pixel asked on its own: does the box cover any of it?"""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    across = (columns + 1 > box.x) & (columns < box.x + box.width)
    return across & (rows + 1 > box.y) & (rows < box.y + box.height)


@pytest.mark.parametrize(
    "box",
    [
        Box("mass", 100, 100, 10, 10),
        Box("mass", SIZE, 0, 4, 4),
        Box("mass", 0, SIZE, 4, 4),
        Box("mass", -4, 3, 4, 4),
        Box("mass", 3, -9, 4, 4),
    ],
)
def test_a_box_outside_is_refused_wherever_boxes_are_read(box: Box) -> None:
    assert not truth_by_pixels(box).any()
    told = rf"'mass' at x = {box.x:g}, y = {box.y:g}.*32 wide and 32 high"
    case = Case("a.png", "p", {"mass": 1.0}, boxes=(box,))
    with pytest.raises(UnreadableImage, match=told):
        boxes_on_cells([box], SAME, (4, 4))
    with pytest.raises(UnreadableImage, match=rf"^a\.png: .*{told}"):
        truth_masks(Manifest(Path(), (case,), ("mass",)), case, ["mass"], (SIZE, SIZE))


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        (Box("mass", 0, 0, SIZE, SIZE), 0),
        (Box("mass", 31.5, 31.5, 4, 4), 1),
        (Box("mass", -3, 4, 4, 4), 1),
        (Box("mass", 4, 4, 5, 5), 0),
    ],
)
def test_a_box_that_sticks_out_is_cut_and_counted(box: Box, cut: int) -> None:
    assert boxes_cut([box], (SIZE, SIZE)) == cut
    assert np.array_equal(boxes_on_cells([box], SAME, (SIZE, SIZE)) > 0, truth_by_pixels(box))


def test_places_of_some_cases_only_are_told() -> None:
    cases = (
        Case("a.png", "p", {"mass": 1.0}, masks={"heart": "h.png"}, boxes=(Box("mass", 1, 1, 2, 2),)),
        Case("b.png", "p", {"mass": 1.0}),
        Case("c.png", "p", {"mass": 0.0}),
    )
    settings = PlacesSettings(truth={"mass": "mass"}, regions={"mass": "heart"})
    said = check_known(settings, Manifest(Path(), cases, ("mass",)))
    assert said[0].startswith("places.truth.mass: 1 of 2 cases with 'mass'")
    assert said[1:] == ["places.regions: 2 of 3 cases have no mask 'heart'"]


def test_an_organ_that_no_threshold_finds_is_refused() -> None:
    settings = PlacesSettings(regions={"mass": "hart"}, organs="threshold")
    with pytest.raises(ConfigError, match="did you mean 'heart'"):
        check_known(settings, Manifest(Path(), (Case("a.png", "p"),), ()))


DEGREES = {"sigma": 1.5, "sigma_unit": "degrees", "mm_per_pixel": 0.2, "viewing_distance_mm": 600.0}


def test_sigma_in_degrees_is_the_angle_seen_from_the_chair() -> None:
    settings = build(PlacesSettings, DEGREES)
    assert sigma_of(settings) == sigma_in_pixels(1.5, 0.2, 600.0)
    assert sigma_of(settings) == pytest.approx(600 * np.tan(1.5 * np.pi / 180) / 0.2)
    assert sigma_of(PlacesSettings(sigma=7.0)) == 7.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mm_per_pixel": None}, "mm_per_pixel"),
        ({"viewing_distance_mm": 0.0}, "viewing_distance_mm"),
        ({"sigma_unit": "pixels"}, "sigma_unit = 'degrees'"),
        ({"sigma": 90.0}, "below 90"),
        ({"sigma_unit": "degree"}, "sigma_unit"),
    ],
)
def test_degrees_need_a_screen_and_pixels_none(change: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        build(PlacesSettings, DEGREES | change)


def test_the_report_tells_them_from_files_that_are_gone() -> None:
    box = "the file: the box 'mass' at x = 100, y = 100, 9 wide and 9 high lies outside the image, which is 32 wide"
    mask = "the file of the organ mask 'heart' cannot be used, the image's own can: no such file"
    words = [_kind(text) for text in (box, mask, "the file of the gaze cannot be used", "no such file")]
    beside = "a mask or fixations cannot be used"
    assert words == ["a box lies outside the image", beside, beside, "the file is not there"]

"""Lettering burnt into films: a side marker, a number, a confounding dot; five by seven dots a letter."""

from __future__ import annotations

import numpy as np

from translucid.phantom.shapes import Array

_ROWS = {
    "0": "01110 10001 10001 10001 10001 10001 01110",
    "1": "00100 01100 00100 00100 00100 00100 01110",
    "2": "01110 10001 00001 00110 01000 10000 11111",
    "3": "11110 00001 00001 01110 00001 00001 11110",
    "4": "00010 00110 01010 10010 11111 00010 00010",
    "5": "11111 10000 11110 00001 00001 10001 01110",
    "6": "00110 01000 10000 11110 10001 10001 01110",
    "7": "11111 00001 00010 00010 00100 00100 00100",
    "8": "01110 10001 10001 01110 10001 10001 01110",
    "9": "01110 10001 10001 01111 00001 00010 01100",
    "L": "10000 10000 10000 10000 10000 10000 11111",
    "R": "11110 10001 10001 11110 10100 10010 10001",
}


def glyphs(text: str, scale: int = 1) -> Array:
    """A line of text as a bool picture, 7·scale high and (6·letters − 1)·scale wide.

    Example:
        >>> print("\\n".join("".join(".#"[int(v)] for v in row) for row in glyphs("L")[:2]))
        #....
        #....
    """
    blank = np.zeros((7, 1), bool)
    parts: list[Array] = []
    for letter in text:
        rows = np.array([[c == "1" for c in row] for row in _ROWS[letter].split()])
        parts += [rows, blank]
    return np.kron(np.concatenate(parts[:-1], axis=1), np.ones((scale, scale), bool))


def stamp(image: Array, text: Array, row: int, column: int, shade: float) -> None:
    """Paint a bool picture into an image that is the caller's own; what does not fit is cut off."""
    part = image[row : row + text.shape[0], column : column + text.shape[1]]
    part[text[: part.shape[0], : part.shape[1]]] = shade


def label_films(images: Array, patients: Array, text: bool, marked: Array) -> Array:
    """The same films (n, h, w) with an "L" and the patient's number if `text`, and a ring where `marked`."""
    out = images.copy()
    size = images.shape[-1]
    scale = max(1, size // 128)
    edge = max(2, size // 40)
    for k, image in enumerate(out):
        if text:
            side, number = glyphs("L", scale), glyphs(f"{int(patients[k]):05d}", scale)
            stamp(image, side, edge, size - edge - side.shape[1], 1.0)
            stamp(image, number, size - edge - number.shape[0], edge, 0.97)
        if marked[k]:
            stamp(image, _ring(max(5, size // 20)), edge, edge, 1.0)
    return out


def _ring(width: int) -> Array:
    at = np.arange(width) - (width - 1) / 2
    far = np.hypot(at[:, None], at[None]) / (width / 2)
    return (far < 1) & (far > 0.55)

"""Agreement with PyWavelets: the same transform by another hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import pywt
import torch

from translucid.compress.packet import axis_packet, band, band_names, packet, unpacket

WORDS = {"A": "a", "V": "v", "H": "h", "D": "d"}
ALL = pywt.wavelist(kind="discrete")


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db5", "coif2", "bior2.2", "sym4", "rbio3.5"])
@pytest.mark.parametrize(("space", "levels"), [((16, 24), 1), ((32, 16), 3), ((4, 4), 2)])
def test_every_coefficient_of_the_periodic_packet(wavelet: str, space: tuple[int, int], levels: int) -> None:
    image = np.random.default_rng(0).normal(size=space)
    ours = packet(torch.from_numpy(image)[None, None], wavelet, levels)[0, 0].numpy()
    peer = pywt.WaveletPacket2D(image, wavelet, "periodization", maxlevel=levels)
    for name in band_names(levels):
        word = "".join(WORDS[letter] for letter in name)
        np.testing.assert_allclose(ours[band(name)], peer[word].data, atol=1e-10, err_msg=name)


def test_every_coefficient_of_a_volume() -> None:
    volume = np.random.default_rng(0).normal(size=(8, 12, 16))
    ours = packet(torch.from_numpy(volume)[None, None], "db2", 2)[0, 0].numpy()
    peer = pywt.WaveletPacketND(volume, "db2", "periodization", maxlevel=2)
    for i, name in enumerate(band_names(2, 3)):
        assert band(name, 3) == i
        np.testing.assert_allclose(ours[i], peer[name.replace(".", "")].data, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "coif2", "bior2.2"])
def test_the_published_packet_away_from_the_border(wavelet: str) -> None:
    """A correlation with a filter is the convolution with the turned one, so the peer is given turned filters."""
    w = pywt.Wavelet(wavelet)
    turned = pywt.Wavelet("turned", [f[::-1] for f in (w.dec_lo, w.dec_hi, w.rec_lo, w.rec_hi)])
    image = np.random.default_rng(0).normal(size=(96, 128))
    ours = packet(torch.from_numpy(image)[None, None], wavelet, 2, "published")[0, 0].numpy()
    peer = pywt.WaveletPacket2D(image, turned, "periodization", maxlevel=2)
    edge = 0 if wavelet == "haar" else w.dec_len
    inner = (slice(edge, 24 - edge), slice(edge, 32 - edge))
    for name in band_names(2):
        word = "".join(WORDS[letter] for letter in name)
        np.testing.assert_allclose(ours[band(name)][inner], peer[word].data[inner], atol=1e-10, err_msg=name)


def test_odd_sizes_with_haar_are_the_peer_without_its_zeros() -> None:
    image = np.random.default_rng(0).normal(size=(7, 9))
    ours = packet(torch.from_numpy(image)[None, None], "haar", 1)[0, 0].numpy()
    peer = pywt.WaveletPacket2D(image, "haar", "periodization", maxlevel=1)
    for name, word in WORDS.items():
        np.testing.assert_allclose(ours[band(name)], peer[word].data, atol=1e-10)


@pytest.mark.parametrize("wavelet", [w for w in ALL if w != "dmey"])
def test_every_discrete_wavelet_inverts_exactly_borders_included(wavelet: str) -> None:
    for size, levels in itertools.product((16, 31), (1, 2)):
        axis = axis_packet(size, wavelet, levels, "periodic")
        error = abs((axis.synthesis @ axis.analysis).toarray() - np.eye(size)).max()
        assert error < 1e-8, (wavelet, size, levels)


@pytest.mark.parametrize("boundary", ["published", "periodic"])
@pytest.mark.parametrize("space", [(320, 320), (61, 75), (7, 10, 9)])
def test_haar_inverts_to_six_digits_in_single_precision(boundary: str, space: tuple[int, ...]) -> None:
    x = torch.rand(1, 2, *space, generator=torch.Generator().manual_seed(0))
    back = unpacket(packet(x, "haar", 2, boundary), space, "haar", 2, boundary)
    assert float((back - x).abs().max()) < 1e-6

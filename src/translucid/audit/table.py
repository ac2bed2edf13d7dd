"""The attacks there are, and the ladders they form; a new attack is one line here."""

from __future__ import annotations

from typing import Any

from translucid.audit.adaptive import Denoised, Values
from translucid.audit.attributes import Attribute
from translucid.audit.learned import Contrastive, Cross, Siamese
from translucid.audit.linear import Distance, Lda
from translucid.audit.membership import Lira, LossThreshold
from translucid.audit.reconstruct import Decoder, Inverse, MeanImage, Nearest, Ridge

ATTACKS: dict[str, Any] = {
    "l2": Distance("l2"),
    "cosine": Distance("cosine"),
    "lda": Lda(),
    "siamese": Siamese(),
    "contrastive": Contrastive(),
    "cross": Cross(),
    "mean_image": MeanImage(),
    "nearest": Nearest(),
    "inverse": Inverse(),
    "ridge": Ridge(),
    "decoder": Decoder(),
    "values": Values(),
    "wiener": Denoised(),
    "averaged": Denoised(pools=True),
    "wiener_ridge": Denoised("redraw"),
    "averaged_ridge": Denoised("redraw", pools=True),
    "attribute_linear": Attribute("linear"),
    "attribute_mlp": Attribute("mlp"),
    "loss_threshold": LossThreshold(),
    "lira": Lira(),
}
"""Name → frozen dataclass with `fit(release, public, seed)`, whose answer has `guess(release)`."""

LADDERS: dict[str, tuple[str, ...]] = {
    "verification": ("l2", "cosine", "lda", "wiener", "siamese", "contrastive"),
    "linkage_same": ("l2", "cosine", "lda", "wiener", "siamese", "contrastive", "cross"),
    "linkage_other": ("l2", "cosine", "lda", "wiener", "averaged", "siamese", "contrastive", "cross"),
    "reconstruction": ("mean_image", "nearest", "inverse", "ridge", "wiener_ridge", "averaged_ridge", "decoder"),
    "attributes": ("attribute_linear", "attribute_mlp"),
    "text": ("inverse", "ridge"),
    "unlinkability": ("l2", "cosine", "values", "cross"),
    "membership": ("loss_threshold", "lira"),
}
"""Part of an audit → its rungs, weakest first."""

AGAINST_NOISE = ("wiener", "averaged", "wiener_ridge", "averaged_ridge")
"""Rungs for compressors that add noise; elsewhere they would repeat others."""

PARTS = (*(p for p in LADDERS if p != "membership"), "bounds")
"""Parts that work on records; membership works on a model and has a function of its own."""

"""Explanations: what each place of an image contributes to each label's logit.

Every explainer is called as `explainer(model, x, labels)` and returns a `translucid.tensors.Explanation`: raw, signed
maps in logit units on the grid where they were computed. Resizing and normalising are steps of their own
(`translucid.maps`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from translucid.explain.bias import average, bands, by_scale_and_orientation, edge_bias, spatial_bias
from translucid.explain.cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from translucid.explain.captum_adapter import Captum
from translucid.explain.codes import GradientTimesCode, carry_back, code_gradients, explain_codes
from translucid.explain.geometry import Window, trace_placement
from translucid.explain.gradients import Gradient, IntegratedGradients, SmoothGrad, SmoothIG
from translucid.explain.guided import GuidedBackprop, GuidedGradCAM
from translucid.explain.native import Native
from translucid.explain.occlusion import Occlusion
from translucid.explain.post_hoc import post_hoc
from translucid.explain.resolve import Candidate, Choice, candidates, resolve
from translucid.explain.split import split
from translucid.explain.xrai import XRAI

EXPLAINERS: Mapping[str, type[Any]] = {
    "hirescam": HiResCAM,
    "gradcam": GradCAM,
    "gradcam++": GradCAMPlusPlus,
    "layercam": LayerCAM,
    "native": Native,
    "gradient_times_code": GradientTimesCode,
    "gradient": Gradient,
    "smoothgrad": SmoothGrad,
    "integrated_gradients": IntegratedGradients,
    "smooth_ig": SmoothIG,
    "guided_backprop": GuidedBackprop,
    "guided_gradcam": GuidedGradCAM,
    "occlusion": Occlusion,
    "xrai": XRAI,
    "captum": Captum,
}

__all__ = [
    "EXPLAINERS",
    "HiResCAM",
    "GradCAM",
    "GradCAMPlusPlus",
    "LayerCAM",
    "Native",
    "GradientTimesCode",
    "Gradient",
    "SmoothGrad",
    "IntegratedGradients",
    "SmoothIG",
    "GuidedBackprop",
    "GuidedGradCAM",
    "Occlusion",
    "XRAI",
    "Captum",
    "Candidate",
    "Choice",
    "Window",
    "average",
    "bands",
    "by_scale_and_orientation",
    "candidates",
    "carry_back",
    "code_gradients",
    "edge_bias",
    "explain_codes",
    "post_hoc",
    "resolve",
    "spatial_bias",
    "split",
    "trace_placement",
]

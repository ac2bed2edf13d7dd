"""The eight usual post-hoc methods in one go, at one cost."""

from __future__ import annotations

from typing import Any

from translucid.errors import ConfigError
from translucid.explain.cam import GradCAM
from translucid.explain.gradients import Gradient, IntegratedGradients, SmoothGrad, SmoothIG
from translucid.explain.guided import GuidedBackprop, GuidedGradCAM
from translucid.explain.occlusion import Occlusion


def post_hoc(effort: int = 1, *, layer: str | None = None, output: str | int | None = None) -> dict[str, Any]:
    """Gradient, SmoothGrad, IG, smooth IG, guided backpropagation, Grad-CAM, guided Grad-CAM and occlusion, by name.

    With effort 1 they take about 26 gradients and 40 forward passes per image and label together; effort scales the
    samples, steps and windows of those that have any.

    Args:
        effort: 1 for a comparison of many images, 4 or more for pictures of a few.
        layer: for Grad-CAM; None takes the model's own seam, or what `resolve` finds.
        output: name or index of the logits in the model's output.

    Returns:
        Name → explainer, under the names of `EXPLAINERS`.

    Raises:
        ConfigError: no effort.

    Example:
        >>> list(post_hoc())
        ['gradient', 'smoothgrad', 'integrated_gradients', 'smooth_ig', 'guided_backprop', 'gradcam', ...]

    Source: Arun et al. 2021, doi:10.1148/ryai.2021200267, for the choice; occlusion stands in the place of `XRAI`,
    which is told by regions and can be asked for by name.

    Fails when: effort is low and the network is rough: what noise and quadrature leave then passes for evidence.
    """
    if effort < 1:
        raise ConfigError(f"effort = {effort}: at least 1")
    return {
        "gradient": Gradient(output),
        "smoothgrad": SmoothGrad(output, samples=5 * effort),
        "integrated_gradients": IntegratedGradients(output, steps=8 * effort),
        "smooth_ig": SmoothIG(output, samples=2 * effort, steps=5),
        "guided_backprop": GuidedBackprop(output),
        "gradcam": GradCAM(layer, output),
        "guided_gradcam": GuidedGradCAM(output, layer=layer),
        "occlusion": Occlusion(output, budget=36 * effort),
    }

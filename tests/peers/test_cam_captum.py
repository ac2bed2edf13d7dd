"""Agreement with captum on what both compute."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tiny_nets import CodeMlp, Net, Plain, images, seeded
from translucid.explain import GradCAM, GradientTimesCode, HiResCAM

attr = pytest.importorskip("captum.attr")


class Logits(nn.Module):
    """captum wants a plain tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize("head", ["fc", "gap", "mlp", "bn"])
def test_layer_grad_cam_and_layer_gradient_times_activation(head: str, axes: int) -> None:
    model, x = seeded(Net(head, axes)).float(), images(3, 1, *[6] * axes).float()
    plain = Logits(model)
    layer = model.body[3]
    for label in (0, 2):
        theirs = attr.LayerGradCam(plain, layer).attribute(x, target=label, relu_attributions=False)
        ours = GradCAM()(model, x, [label]).maps
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-5)
        theirs = attr.LayerGradientXActivation(plain, layer).attribute(x, target=label).sum(1, keepdim=True)
        ours = HiResCAM()(model, x, [label]).maps
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", ["conv1", "act", "conv2"])
def test_earlier_layers_of_a_network_without_a_seam(layer: str) -> None:
    model, x = seeded(Plain()), images(3, 1, 6, 6)
    module = getattr(model, layer)
    theirs = attr.LayerGradientXActivation(model, module).attribute(x, target=1).sum(1, keepdim=True)
    torch.testing.assert_close(HiResCAM(layer=layer)(model, x, [1]).maps, theirs.detach(), rtol=1e-5, atol=1e-8)


def test_integrated_gradients_on_codes() -> None:
    model, codes = seeded(CodeMlp(8, channels=2)), images(4, 2, 8)
    baseline = images(1, 2, 8, seed=5)
    theirs = attr.IntegratedGradients(Logits(model)).attribute(codes, baseline, target=2, n_steps=32)
    ours = GradientTimesCode(steps=32)(model, codes, [2], baseline)
    torch.testing.assert_close(ours.maps[:, 0], theirs, rtol=1e-5, atol=1e-8)
    theirs = attr.InputXGradient(Logits(model)).attribute(codes.clone().requires_grad_(True), target=2)
    torch.testing.assert_close(GradientTimesCode()(model, codes, [2]).maps[:, 0], theirs.detach(), rtol=1e-5, atol=1e-8)

"""Maps with `create_graph=True` stand in a loss: gradcheck, and gradients reach the backbone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tiny_nets import Net, Plain, images, seeded
from translucid.explain import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM

METHODS = [HiResCAM, GradCAM, GradCAMPlusPlus, LayerCAM]


def smooth(model: nn.Module) -> nn.Module:
    """Softplus for ReLU, so that finite differences mean something everywhere."""
    for name, child in model.named_children():
        if isinstance(child, nn.ReLU):
            setattr(model, name, nn.Softplus())
        else:
            smooth(child)
    return model


@pytest.mark.parametrize("head", ["fc", "gap", "mlp"])
@pytest.mark.parametrize("method", METHODS)
def test_gradcheck_with_respect_to_weights(method: type, head: str) -> None:
    model, x = smooth(seeded(Net(head, 2, size=4, labels=2))), images(1, 1, 4, 4)
    first = model.body[0]
    start = first.weight.detach().clone().requires_grad_(True)
    del first.weight  # a plain tensor in the parameter's place lets gradcheck vary it

    def maps(weight: Tensor) -> Tensor:
        first.weight = weight
        found = method(create_graph=True)(model, x, [0, 1])
        return torch.cat([found.maps.flatten(2), found.residual[..., None], found.bias[..., None]], 2)

    assert torch.autograd.gradcheck(maps, start, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("layer", [None, "body.3", "body.1"])
@pytest.mark.parametrize("head", ["fc", "mlp"])
def test_every_parameter_that_matters_gets_a_gradient(head: str, layer: str | None) -> None:
    model, x = seeded(Net(head)).train(), images(2, 1, 6, 6)
    found = HiResCAM(layer=layer, create_graph=True)(model, x, [0, 1, 2])
    found.maps.clamp(min=0).sum().backward()
    for name, p in model.named_parameters():
        wanted = (name.startswith("body") or name in ("fc.weight", "hidden.weight")) and name != "body.2.bias"
        assert (p.grad is not None and bool((p.grad != 0).any())) >= wanted, name
    plain = HiResCAM(layer=layer)(model, x, [0, 1, 2])
    torch.testing.assert_close(found.maps.detach(), plain.maps, rtol=0, atol=1e-12)
    assert found.placement == plain.placement


def test_a_map_can_be_trained_into_a_region() -> None:
    model, x = seeded(Net("fc")).float(), images(4, 1, 6, 6).float()
    outside = torch.ones(3, 3)
    outside[:, 0] = 0
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)

    def spilled() -> Tensor:
        maps = HiResCAM(create_graph=True)(model, x, [0]).maps
        return (maps.abs() * outside).sum() / maps.abs().sum()

    before = spilled().item()
    for _ in range(15):
        optimiser.zero_grad()
        loss = spilled()
        loss.backward()
        optimiser.step()
    assert spilled().item() < 0.5 * before


def test_hooked_network_with_batch_norm_and_in_place_activation() -> None:
    model, x = seeded(Plain()), images(2, 1, 6, 6)
    HiResCAM(layer="norm2", create_graph=True)(model, x, [0]).maps.pow(2).sum().backward()
    assert bool((model.conv1.weight.grad != 0).any())

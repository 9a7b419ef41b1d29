"""The network and its training step in PyTorch: a peer where it is installed."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap

FILTERS = (16, 16, 32, 32)


class Head(nn.Module):
    """One head, with the published widths; images have their channels first, as PyTorch wants."""

    def __init__(self, features: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = (3, *FILTERS)
        for number, (before, after) in enumerate(itertools.pairwise(channels)):
            layers += [nn.Conv2d(before, before, 3, groups=before, bias=False)]
            layers += [nn.Conv2d(before, after, 1), nn.ReLU()]
            if number % 2:
                layers += [nn.MaxPool2d(2), nn.Dropout(dropout)]
        self.image = nn.Sequential(*layers)
        self.dense = nn.Sequential(
            *(nn.Linear(features, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, 32), nn.ReLU())
        )
        self.join = nn.Sequential(nn.Linear(32 + FILTERS[-1], 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, features: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        image = self.image(images).mean((2, 3))
        return self.join(torch.cat([self.dense(features), image], 1))[:, 0]


def _adam(parameters: Any, rate: float, device: str) -> torch.optim.Adam:
    fused = {"fused": True} if device == "cuda" else {}
    return torch.optim.Adam(parameters, rate, eps=1e-7, amsgrad=True, **fused)


def programs(
    alerts: Any, heads: int, batch: int, rate: float, dropout: float, steps: int
) -> dict[str, Callable[[], None]]:
    """Ways to take a few steps of each head, each on a batch of its own.

    Args:
        alerts: features (n, f), triplets (n, h, w, c), positives (n,).
        heads: how many.
        batch: alerts of a step.
        rate: of learning.
        dropout: share that is dropped.
        steps: how many are taken before the device is waited for.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    features, triplets, positives = (np.asarray(each) for each in alerts)
    at_hand = (
        torch.tensor(features, device=device),
        torch.tensor(triplets, device=device).permute(0, 3, 1, 2),
        torch.tensor(positives, dtype=torch.float32, device=device),
    )
    rng = np.random.default_rng(1)
    rows = torch.tensor(rng.integers(0, len(features), (heads, batch)), device=device)
    entropy = nn.functional.binary_cross_entropy_with_logits

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def in_turn(compiled: bool) -> Callable[[], None]:
        of_heads = []
        for head in range(heads):
            model = Head(features.shape[1], dropout).to(device)
            adam = _adam(model.parameters(), rate, device)
            run: Any = torch.compile(model) if compiled else model

            def step(run: Any = run, adam: Any = adam, head: int = head) -> None:
                x, images, targets = (each[rows[head]] for each in at_hand)
                adam.zero_grad()
                entropy(run(x, images), targets).backward()
                adam.step()

            of_heads.append(step)

        def every() -> None:
            for _ in range(steps):
                for step in of_heads:
                    step()
            wait()

        return every

    def vmapped(compiled: bool) -> Callable[[], None]:
        models = [Head(features.shape[1], dropout).to(device) for _ in range(heads)]
        weights, buffers = stack_module_state(models)  # type: ignore[arg-type]
        one = models[0]

        def loss(weights: Any, x: Any, images: Any, targets: Any) -> torch.Tensor:
            return entropy(functional_call(one, (weights, buffers), (x, images)), targets)

        gradients: Any = vmap(grad(loss), randomness="different")
        gradients = torch.compile(gradients) if compiled else gradients
        adam = _adam(weights.values(), rate, device)

        def every() -> None:
            for _ in range(steps):
                found = gradients(weights, *(each[rows] for each in at_hand))
                for name, parameter in weights.items():
                    parameter.grad = found[name]
                adam.step()
            wait()

        return every

    ways = {
        "PyTorch, in turn": in_turn(False),
        "PyTorch, vmapped": vmapped(False),
        "PyTorch, vmapped and compiled": vmapped(True),
    }
    if heads <= 5:  # each head would be compiled by itself
        ways["PyTorch, in turn, compiled"] = in_turn(True)
    return ways

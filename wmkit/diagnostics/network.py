"""The smallest network around a backbone: a linear map in, the backbone, a linear map out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wmkit.backbones import Backbone, ParameterGroup
from wmkit.diagnostics.base import Task


class Network(nn.Module):
    """answers_t = W backbone(E x)_t + b.

    E is a linear map of numbers; of symbols an embedding for each place of the input, side by side.
    """

    def __init__(self, task: Task, backbone: Backbone) -> None:
        super().__init__()
        width = backbone.input_dim
        self.task, self.backbone = task, backbone
        if task.symbols:
            shares = [len(part) for part in torch.arange(width).tensor_split(len(task.symbols))]
            self.embeddings = nn.ModuleList(
                nn.Embedding(kinds, share) for kinds, share in zip(task.symbols, shares, strict=True)
            )
        else:
            self.into = nn.Linear(task.numbers, width)
        self.readout = nn.Linear(backbone.feature_dim, task.answers * (task.classes or 1))

    def features(self, inputs: Tensor) -> Tensor:
        """Inputs (B, T, F) -> features (B, T, D)."""
        if self.task.symbols:
            x = torch.cat([part(inputs[..., place]) for place, part in enumerate(self.embeddings)], dim=-1)
        else:
            x = self.into(inputs)
        return self.backbone.scan(x, return_state=False)[0]

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (B, T, F) -> logits (B, T, G, C), or numbers (B, T, G)."""
        said: Tensor = self.readout(self.features(inputs))
        return said.reshape(*said.shape[:2], self.task.answers, -1) if self.task.classes else said

    def parameter_groups(self) -> list[ParameterGroup]:
        """The backbone's."""
        return self.backbone.parameter_groups()

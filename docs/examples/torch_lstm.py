"""`torch.nn.LSTM` as a backbone: `python recipes/memory_maze.py plugins=torch_lstm backbone=torch_lstm`."""

import dataclasses

import torch

from wmkit import Backbone, BackboneConfig, register_backbone


@dataclasses.dataclass(kw_only=True)
class TorchLSTMConfig(BackboneConfig):
    hidden: int = 256
    layers: int = 2


@register_backbone("torch_lstm", TorchLSTMConfig)
class TorchLSTM(Backbone):
    def __init__(self, input_dim, config=None):
        super().__init__()
        config = config or TorchLSTMConfig()
        self.input_dim, self.feature_dim = input_dim, config.hidden
        self.lstm = torch.nn.LSTM(input_dim, config.hidden, config.layers, batch_first=True)
        self.start = torch.nn.Parameter(torch.zeros(2, config.layers, config.hidden))

    def initial_state(self, batch_size):
        return {"h": self.start[0].repeat(batch_size, 1, 1), "c": self.start[1].repeat(batch_size, 1, 1)}

    def step(self, x, state):
        features, state = self.scan(x[:, None], state)
        return features[:, 0], state

    def scan(self, x, state=None, is_first=None, return_state=True):
        if is_first is not None:  # the fused cell knows no resets
            return super().scan(x, state, is_first, return_state)
        state = self.initial_state(len(x)) if state is None else state
        h, c = (state[key].transpose(0, 1).contiguous() for key in "hc")  # (layers, B, hidden), as the cell wants it
        with torch.autocast(x.device.type, enabled=False):  # else it would round h and c at every step
            features, (h, c) = self.lstm(x.to(h.dtype), (h, c))
        return features, {"h": h.transpose(0, 1), "c": c.transpose(0, 1)} if return_state else None

"""Hugging Face's Mamba as a backbone: `python recipes/memory_maze.py plugins=hf_mamba backbone=hf_mamba`."""

import dataclasses

from torch import nn
from transformers import DynamicCache, MambaConfig, MambaModel

from wmkit import Backbone, BackboneConfig, register_backbone


@dataclasses.dataclass(kw_only=True)
class HFMambaConfig(BackboneConfig):
    layers: int = 2  # as wide as input_dim


@register_backbone("hf_mamba", HFMambaConfig)
class HFMamba(Backbone):
    def __init__(self, input_dim, config):
        super().__init__()
        self.input_dim = self.feature_dim = input_dim
        self.mamba = MambaModel(MambaConfig(hidden_size=input_dim, num_hidden_layers=config.layers, vocab_size=1))
        self.mamba.embeddings = nn.Identity()  # x is no word

    def initial_state(self, batch_size):  # of each layer: the last 3 inputs of its convolution, its recurrent state
        return [[b.mixer.D.new_zeros(batch_size, 2 * self.input_dim, n) for n in (3, 16)] for b in self.mamba.layers]

    def step(self, x, state):
        features, state = self.scan(x[:, None], state)
        return features[:, 0], state

    def scan(self, x, state=None, is_first=None, return_state=True):
        if is_first is not None or (state is not None and x.shape[1] > 1):  # Mamba scans from zeros alone
            return super().scan(x, state, is_first, return_state)
        cache = DynamicCache(config=self.mamba.config)  # Mamba writes into it: what goes there is copied
        for own, (conv, ssm) in zip(cache.layers, self.initial_state(len(x)) if state is None else state, strict=True):
            own.update_conv_state(nn.functional.pad(conv, (1, 0)))
            own.update_recurrent_state(ssm.double())  # Mamba reads a float32 copy, which backward finds unwritten
        features = self.mamba(x, cache=cache).last_hidden_state
        last = [[own.conv_states[0][..., 1:], own.recurrent_states[0].to(ssm.dtype)] for own in cache.layers]
        return features, last if return_state else None

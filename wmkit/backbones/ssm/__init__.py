"""What the state space backbones share: residual blocks, tables computed from parameters, initial systems."""

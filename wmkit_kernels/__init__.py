"""Tensor functions with a backward and no parameters; knows nothing of wmkit, imports Triton only on first use."""

"""What does each level of a clockwork hierarchy hold? Analyses of CW-VAE (2021) and TALD (2020), each a function of a
model and held-out clips: `kl.py`, `entropy.py`, `reset.py`, `samples.py`; over several runs `speeds.py`, `times.py`.

Levels are counted from 1, the bottom one, as in the papers.
"""

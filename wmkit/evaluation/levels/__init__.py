"""What does each level of a clockwork hierarchy hold, and what does it cost? Analyses of CW-VAE (2021) and TALD (2020).

Every module of this folder but `base.py` and `reading.py` is one analysis, and importing the folder registers them.
Levels are counted from 1, the bottom one, as in the papers.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

"""The tasks of wmkit: every module of this folder has one or more, and importing the folder registers them."""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

"""A single step of the DPLR recurrence in one pass over the state, compiled by Numba: `why_not` and `step`.

Everything that is private to PyTorch, OpenMP or LLVM stays in this folder. The environment variable
`WMKIT_NUMBA_STEP=0` turns it off: steps are then PyTorch's operations.
"""

from wmkit_kernels.dplr_scan.cpu.compiled_step import step as step
from wmkit_kernels.dplr_scan.cpu.compiled_step import why_never as why_never
from wmkit_kernels.dplr_scan.cpu.compiled_step import why_not as why_not

"""Convolution kernels of diagonal-plus-low-rank state space models."""

from wmkit_kernels.dplr_kernel.op import dplr_kernel as dplr_kernel
from wmkit_kernels.dplr_kernel.op import why_not_triton as why_not_triton

"""Tensor functions with a backward and no parameters; knows nothing of wmkit, imports Triton only on first use."""

from wmkit_kernels.dplr_kernel import dplr_kernel as dplr_kernel
from wmkit_kernels.dplr_kernel import dplr_response as dplr_response
from wmkit_kernels.fft_conv import fft_conv as fft_conv

"""Tensor functions with a backward and no parameters; knows nothing of wmkit, loads Triton and Numba on first use."""

from wmkit_kernels.common.series import column as column
from wmkit_kernels.common.series import row as row
from wmkit_kernels.diagonal_scan import diagonal_readout as diagonal_readout
from wmkit_kernels.diagonal_scan import diagonal_readout_step as diagonal_readout_step
from wmkit_kernels.diagonal_scan import diagonal_scan as diagonal_scan
from wmkit_kernels.diagonal_scan import prepare_readout as prepare_readout
from wmkit_kernels.diagonal_scan import prepare_readout_step as prepare_readout_step
from wmkit_kernels.dplr_kernel import dplr_kernel as dplr_kernel
from wmkit_kernels.dplr_scan import dplr_prepared_scan as dplr_prepared_scan
from wmkit_kernels.dplr_scan import dplr_scan as dplr_scan
from wmkit_kernels.dplr_scan import dplr_step as dplr_step
from wmkit_kernels.dplr_scan import prepare_scan as prepare_scan
from wmkit_kernels.dplr_scan import prepare_step as prepare_step
from wmkit_kernels.fft_conv import fft_conv as fft_conv
from wmkit_kernels.vandermonde import vandermonde as vandermonde

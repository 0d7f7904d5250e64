"""The diagonal recurrence over time: all its states, or what is read out of them."""

from wmkit_kernels.diagonal_scan.op import diagonal_scan as diagonal_scan
from wmkit_kernels.diagonal_scan.readout import RESET_SPAN as RESET_SPAN
from wmkit_kernels.diagonal_scan.readout import SPAN as SPAN
from wmkit_kernels.diagonal_scan.readout import TRAINED_SPAN as TRAINED_SPAN
from wmkit_kernels.diagonal_scan.readout import ReadoutStep as ReadoutStep
from wmkit_kernels.diagonal_scan.readout import ReadoutTables as ReadoutTables
from wmkit_kernels.diagonal_scan.readout import diagonal_readout as diagonal_readout
from wmkit_kernels.diagonal_scan.readout import diagonal_readout_step as diagonal_readout_step
from wmkit_kernels.diagonal_scan.readout import prepare_readout as prepare_readout
from wmkit_kernels.diagonal_scan.readout import prepare_readout_step as prepare_readout_step

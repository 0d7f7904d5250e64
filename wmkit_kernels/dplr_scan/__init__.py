"""The DPLR recurrence: step by step and over time."""

from wmkit_kernels.dplr_scan.op import ScanTables as ScanTables
from wmkit_kernels.dplr_scan.op import dplr_prepared_scan as dplr_prepared_scan
from wmkit_kernels.dplr_scan.op import dplr_scan as dplr_scan
from wmkit_kernels.dplr_scan.op import prepare_scan as prepare_scan
from wmkit_kernels.dplr_scan.op import why_not_triton as why_not_triton
from wmkit_kernels.dplr_scan.step import StepTables as StepTables
from wmkit_kernels.dplr_scan.step import dplr_step as dplr_step
from wmkit_kernels.dplr_scan.step import prepare_step as prepare_step
from wmkit_kernels.dplr_scan.step import why_not_compiled_step as why_not_compiled_step

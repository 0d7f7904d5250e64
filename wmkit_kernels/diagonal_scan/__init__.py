"""The diagonal recurrence over time: all its states, or what is read out of them."""

from wmkit_kernels.diagonal_scan.op import diagonal_scan as diagonal_scan

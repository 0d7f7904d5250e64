"""Sums of exponentials: the convolution kernel of a diagonal state space model."""

from wmkit_kernels.vandermonde.op import vandermonde as vandermonde

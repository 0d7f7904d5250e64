"""Causal convolution by FFT."""

from wmkit_kernels.fft_conv.op import fft_conv as fft_conv

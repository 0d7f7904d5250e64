"""What the Triton kernels share: complex arithmetic and ahead-of-time compilation."""

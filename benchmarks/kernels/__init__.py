"""Times, memory and growth of the kernels on this CPU: `python -m benchmarks.kernels --help`."""

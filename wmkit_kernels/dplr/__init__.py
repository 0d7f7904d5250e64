"""Diagonal-plus-low-rank systems: discretisation, Krylov series, chunked maps."""

"""Episodes on disk: zarr archives, the memory-mapped cache that training reads, and what writes the two."""

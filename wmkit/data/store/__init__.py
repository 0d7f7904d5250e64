"""Episodes on disk: zarr archives, their writer, and the memory-mapped cache that training reads."""

"""A single step of the DPLR recurrence in one pass over the state, compiled by Numba."""

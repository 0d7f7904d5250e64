"""What several ops share: dispatch, states as pairs, power series, geometric sums, running inside custom ops."""

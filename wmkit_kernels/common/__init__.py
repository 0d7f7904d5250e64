"""What several ops share: power series, geometric sums, custom ops."""

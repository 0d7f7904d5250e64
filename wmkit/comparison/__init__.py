"""Comparisons: systems x worlds x seeds x learning rates under one budget, and the report about them."""

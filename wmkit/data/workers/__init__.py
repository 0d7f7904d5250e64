"""Processes that load or generate episodes; they import neither torch nor wmkit's models."""

"""Worlds that are watched only: Moving MNIST, Bouncing Balls."""

"""Mazes and rooms in 3D: scenes, walkers, policies, ground truth and the ray caster."""

"""Mazes and rooms in 3D: scenes and who walks in them, ground truth, and the ray caster."""

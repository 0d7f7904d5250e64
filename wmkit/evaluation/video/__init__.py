"""Predicted video: similarity of frames over the horizon, beside floors that know nothing."""

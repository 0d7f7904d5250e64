"""Which digits does a frame, or a state of a model, show, and where? Probes for worlds of moving digits."""

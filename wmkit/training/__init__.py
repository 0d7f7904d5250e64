"""Training: from a `RunConfig` to a run folder that says everything."""

from wmkit.training.checkpoints import CheckpointCorrupt as CheckpointCorrupt

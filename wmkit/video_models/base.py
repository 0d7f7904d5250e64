"""The contract of video models: latents through time with an encoder and a decoder of their own."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor

from wmkit.dynamics.base import Dynamics, Inputs, Observed


class VideoModel(Dynamics):
    """A whole system for video, for decoders that see more than a memory h and a latent z: `svg_lp`, `vta`.

    A `Dynamics` that also reads and draws the frames. Its h may hold whatever its decoder asks for beside z, such as
    the last frame that was seen, so that `decode(features)` needs nothing else. In a `WorldModel` it stands for
    encoder, dynamics and decoder; that model's `observe`, `imagine`, `decode` and `loss` are those of any other:

        embed = encode(image)    seen, state = observe(Inputs(embed=embed, ...), state)    image = decode(seen.features)
        h, z, state = imagine(action, noise=..., state=state)                              image = decode([h, z])
        loss = sum of the image loss of reconstruct(seen, inputs) and kl_scale times every term of kl(seen, ...)

    Registered by `register_backbone(name, Config, kind="video_model")` and built as
    `cls(config, image_shape=(C, H, W), action_dim=A)`: networks and latents are chosen in its own config, loss and
    heads in the model's. Its initial weights are drawn by `initialise`.

    Laws, checked by `wmkit.testing.check_video_model`: the ten of `Dynamics`, of images in place of embeddings, and of
    what is decoded as well as of h and z; and

    11. Every frame is encoded and decoded by itself, whatever axes and frames stand around it: features hold all that
        `decode` reads, and no call leaves anything for it.
    12. What the loss compares (`reconstruct`) is (B, T, C, H, W), or (B, K, C, H, W) for K requested steps; nothing of
        a later frame enters it beyond what `observe` knows, no other row and nothing from before an `is_first`. Its
        gradients reach the frames, and every parameter that those of `decode` reach.

    In train() a batch may be normalised by its own statistics (`nn.BatchNorm2d`), which mixes its frames and writes
    buffers: the laws are then those of eval().
    """

    image_shape: tuple[int, int, int]
    """(C, H, W)."""
    foretells_first: bool = True
    """Whether an episode's first frame is predicted; else `first_step` cannot be `model`."""

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """Images (..., C, H, W), uint8 or float in [0, 1], -> (..., embed_dim), all that `observe` reads of them."""

    @abstractmethod
    def decode(self, features: Tensor) -> Tensor:
        """Features (..., feature_dim) -> mean images (..., C, H, W), in [0, 1] where the model is right."""

    def after_update(self) -> None:
        """Called after every step of the optimiser, without gradients: see `Backbone.after_update`."""
        return None

    def check_statistics(self, frames: int) -> None:
        """Raise `ValueError` for a single frame in train(), of whose code BatchNorm can make no statistics."""
        if self.training and frames < 2:
            raise ValueError(
                "one frame in train(), where BatchNorm normalises a batch by its own statistics: expected 2 or more; "
                "give more rows or steps, or call model.eval()"
            )

    def reconstruct(self, seen: Observed, inputs: Inputs, frames: Tensor | None = None) -> Tensor:
        """Images (B, T, C, H, W) that the loss compares with those that were read; `frames` (K,) int64: of these steps.

        What the features decode to, unless a model is trained on something else.
        """
        features = seen.features if frames is None else seen.features[:, frames]
        return self.decode(features)

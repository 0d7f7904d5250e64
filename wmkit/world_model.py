"""The world model: images and actions in; latents, imagined futures and every loss term (B, T) out."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from wmkit import tree
from wmkit.backbones.base import Backbone, ParameterGroup, all_prepared, collected_losses
from wmkit.batch import Batch, check_type
from wmkit.checks import check_between, check_integer, check_tensor
from wmkit.config import ModelConfig
from wmkit.dynamics import Dynamics, Inputs, Observed
from wmkit.networks.base import FrameDecoder, FrameEncoder, Head, initialise, to_unit
from wmkit.networks.packed import packed
from wmkit.tree import State
from wmkit.video_models.base import VideoModel

LOGGED = ("loss", "grad_norm", "lr", "skipped")
"""Figures that a run's log has beside the metrics of a loss."""

PIECE = 1024
"""Frames that are computed again together (`ModelConfig.recompute`)."""
UNIT_SLACK = 0.01
"""How far a float image may leave [0, 1]: resampled pictures overshoot, and rounding in bf16 does."""


@dataclasses.dataclass(frozen=True)
class LossOutput:
    """What one pass over a batch gives to the training loop."""

    total: Tensor
    """() the training loss: the mean of the summed terms over the steps that count, nats per observation, and what
    backbones add (`Backbone.add_loss`)."""
    terms: dict[str, Tensor]
    """Each loss term (B, T), already weighted, zero where the step does not count."""
    state: State
    """State after the last step, still attached to the graph; None when it was not asked for."""
    metrics: dict[str, Tensor]
    """Detached scalars for the log."""


@dataclasses.dataclass(frozen=True)
class Imagined:
    """An imagined future."""

    features: Tensor
    """(B, H, F) concat[h, z] for `decode` and the heads."""
    state: State
    """State after the last imagined step."""
    action: Tensor
    """(B, H, A) the actions that led to them."""


class WorldModel(nn.Module):
    """A latent-variable model of image sequences with actions.

    Trained on the negative evidence lower bound (S4WM, eq. 5; DreamerV2):

        sum_t  - ln p(x_t | h_t, z_t)  +  KL_balanced(q(z_t | ...) || p(z_t | h_t))

    Built by `build_world_model`. `forward` is `loss`, so that wrappers for distributed training see it.

    Dynamics that are a `VideoModel` bring encoder and decoder: those of this model are then None.
    """

    def __init__(
        self,
        encoder: FrameEncoder | None,
        dynamics: Dynamics,
        decoder: FrameDecoder | None,
        config: ModelConfig,
    ) -> None:
        super().__init__()
        self.encoder, self.dynamics, self.decoder, self.config = encoder, dynamics, decoder, config
        whose = dynamics if isinstance(dynamics, VideoModel) else encoder
        assert whose is not None, "dynamics that are no video model need an encoder and a decoder"
        self.image_shape, self.action_dim = whose.image_shape, dynamics.action_dim
        self.built_as: tuple[Any, str] | None = None
        """Config of the backbone and size, from which `build_world_model` makes such a model again; None: it cannot."""
        self.first_step = config.first_step or dynamics.first_step
        self.reward = Head(dynamics.feature_dim, config.units, 1) if config.reward_head else None
        self.continues = Head(dynamics.feature_dim, config.units, 1) if config.continue_head else None
        # Each part draws its own initial weights; the backbones have theirs already.
        if encoder is not None:
            encoder.initialise()
        if decoder is not None:
            decoder.initialise(self.dynamics.memory_dim)
        self.dynamics.initialise()
        for head in (self.reward, self.continues):
            if head is not None:
                head.apply(initialise)

    @property
    def feature_dim(self) -> int:
        """Width of concat[h, z]."""
        return self.dynamics.feature_dim

    def parameter_groups(self) -> list[ParameterGroup]:
        """Parameters with optimiser settings of their own, as the backbone asks."""
        return self.dynamics.parameter_groups()

    @torch.no_grad()
    def after_update(self) -> None:
        """Tell every backbone, and a video model, that the optimiser made a step. The trainer calls it."""
        for module in self.modules():
            if isinstance(module, Backbone | VideoModel):
                module.after_update()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return next(self.parameters()).dtype

    def initial_state(self, batch_size: int, context: int | None = None) -> State:
        """The state before an episode's first step.

        `context=C`: imagination goes on after C steps from here, so that dynamics that read frames in windows
        (clockwork) let the last window end there; others do not mind. Raises `ValueError` for a context or a number of
        rows below 1.
        """
        if not torch.compiler.is_compiling():  # sizes of a graph are symbols
            check_integer("batch_size", batch_size, 1)
            if context is not None:
                check_integer("context", context, 1)
        return self.dynamics.initial_state(batch_size, context)

    @contextlib.contextmanager
    def prepared(self) -> Iterator[None]:
        """A block in which no parameter changes: see `Backbone.prepared`.

        `observe` and `imagine` enter one for their own steps; one around many calls, as in acting step by step, spares
        each of them computing the same tables.
        """
        with all_prepared(self):
            yield

    def draw_noise(self, batch_size: int, length: int, generator: torch.Generator | None = None) -> Tensor:
        """Noise (B, T, noise_dim) for `observe`, `imagine` and `loss`: drawn on the CPU, put on the model's device.

        Raises `ValueError` for sizes that are no whole numbers, and for what is no generator.
        """
        if not torch.compiler.is_compiling():
            check_integer("batch_size", batch_size, 0)
            check_integer("length", length, 0)
        if generator is not None and not isinstance(generator, torch.Generator):
            raise ValueError(
                f"generator: expected a torch.Generator, got {generator!r}; torch.Generator().manual_seed makes one"
            )
        return self.dynamics.draw_noise((batch_size, length), generator).to(self.device)

    def observe(
        self,
        image: Tensor,
        action: Tensor,
        is_first: Tensor | None = None,
        *,
        state: State | None = None,
        noise: Tensor | None = None,
        return_state: bool = True,
        return_states: bool | Sequence[int] = False,
    ) -> tuple[Observed, State | None]:
        """Read image (B, T, C, H, W) and action (B, T, A) -> (what was inferred at each step, state after the last).

        `is_first` (B, T) bool; None: an episode begins at column 0 if `state` is None, and nowhere else.
        `state`: what an earlier call returned; before a context from whose end to imagine, `initial_state(B, context)`.
        `noise` (B, T, noise_dim) from `draw_noise`; None takes the mode of every latent.
        `return_states`: in place of the last state those after every step, or after the K steps that are named, oldest
        first: leaves (B, K, ...), of which `tree.flatten` makes B K rows, so that imagination can begin anywhere. The
        sequence is read in pieces between these steps: all T of them take as long as T steps, and a Transformer-XL's
        states are large.
        Raises `ValueError` for shapes, types or devices other than these, for a `state` that is not this model's, and
        for steps that do not exist or at which the dynamics cannot be cut.
        """
        self._check_image(image)
        if isinstance(is_first, dict):
            raise ValueError("is_first: expected (B, T) bool, got a dict; a state is given by name, state=...")
        inner_reset = is_first is not None
        if is_first is None:
            is_first = torch.zeros(image.shape[:2], dtype=torch.bool, device=image.device)
            is_first[:, 0] = state is None
        self._check_state(state, image.shape[0])
        inputs = self._inputs(image, action, is_first, noise, None, inner_reset)
        with self.prepared():
            if return_states is False:
                return self.dynamics.observe(inputs, state, return_state=return_state)
            return self._observe_in_pieces(inputs, state, return_states)

    def encode(self, batch: Batch, noise: Tensor | None = None) -> Inputs:
        """What `dynamics.observe` reads of a batch: its images embedded, everything but a state checked.

        `noise` (B, T, noise_dim) from `draw_noise`; None takes the mode of every latent.
        Raises `ValueError` for shapes or types other than the model's.
        """
        check_type(batch)
        self._check_image(batch.image)
        return self._inputs(batch.image, batch.action, batch.is_first, noise, batch.mask, batch.inner_reset)

    def imagine(
        self,
        action: Tensor | None = None,
        state: State | None = None,
        *,
        policy: Callable[[Tensor], Tensor] | None = None,
        horizon: int | None = None,
        features: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Imagined:
        """Follow action (B, H, A) from `state` (as `observe` returns it) on prior samples; nothing is decoded.

        Or follow a policy: `policy(features (B, F)) -> action (B, A)` is asked `horizon` times, first with `features`
        (B, F), those of the step that `state` comes after, then with what it led to. Gradients flow through actions and
        latents alike, so that a policy can be trained by back-propagation through what is imagined.

        `noise` (B, H, noise_dim) from `draw_noise`; None takes the mode of every latent.
        Raises `ValueError` for shapes or devices other than these, for a `state` that is not this model's, and unless
        there is either `action`, or `policy`, `horizon` and `features`.
        """
        if policy is not None:
            if action is not None:
                raise ValueError("imagine: expected actions or a policy, got both")
            return self._follow(policy, horizon, features, state, noise)
        if action is None or horizon is not None or features is not None:
            raise ValueError(
                "imagine: expected action (B, H, A); or policy=, with horizon= and features= of the step before it"
            )
        check_tensor("action", action, self.device)
        if action.ndim < 2 or 0 in action.shape[:2]:
            raise ValueError(f"action: expected (B, H, A) with a row and a step at least, got {tuple(action.shape)}")
        if state is None:
            raise ValueError("state: imagination needs one; give what observe returned, or initial_state(batch_size)")
        self._check_state(state, action.shape[0])
        action = self._checked(action, noise, action.shape[:2])
        with self.prepared():
            h, z, state = self.dynamics.imagine(action, noise=noise, state=state)  # (B, H, ...) each
        return Imagined(torch.cat([h, z], -1), state, action)

    def decode(self, features: Tensor, chunk: int = 512) -> Tensor:
        """Mean images (..., C, H, W) of features (..., F), `chunk` frames at a time to bound memory.

        Raises `ValueError` for features that are not this model's.
        """
        self._check_features(features)
        flat = features.reshape(-1, self.feature_dim)  # (N, F)
        parts = torch.split(flat, check_integer("chunk", chunk, 1))
        decode = self.dynamics.decode if isinstance(self.dynamics, VideoModel) else self.decoder
        assert decode is not None, "built with one"
        images = torch.cat([decode(part) for part in parts])  # (N, C, H, W)
        return images.reshape(*features.shape[:-1], *self.image_shape)

    def predict_reward(self, features: Tensor) -> Tensor:
        """Mean rewards (...) of features (..., F).

        Raises `ValueError` for a model without a reward head, and for features that are not this model's.
        """
        if self.reward is None:
            raise ValueError("This model predicts no rewards: build it with reward_head=True (model.reward_head=true)")
        self._check_features(features)
        return self.reward(features).squeeze(-1).float()

    def predict_continue(self, features: Tensor) -> Tensor:
        """Probabilities (...) that the episode goes on after steps with features (..., F): sigmoid of the head's logit.

        Raises `ValueError` for a model without a continue head, and for features that are not this model's.
        """
        if self.continues is None:
            raise ValueError("This model predicts no ends: build it with continue_head=True (model.continue_head=true)")
        self._check_features(features)
        return torch.sigmoid(self.continues(features).squeeze(-1).float())

    def forward(self, *args: Any, **kwargs: Any) -> LossOutput:
        """`loss`, by the name that wrappers for distributed training see."""
        return self.loss(*args, **kwargs)

    def loss(
        self,
        batch: Batch,
        state: State | None = None,
        noise: Tensor | None = None,
        *,
        frames: Tensor | None = None,
        return_state: bool = True,
    ) -> LossOutput:
        """The loss of a batch, continuing from `state` (None: from the initial one).

        Steps that count: `batch.mask`, less the first step of an episode where `first_step` is `condition`; where none
        does, every term is 0. `frames` (K,) int64: different time steps to decode, None for all. With a random choice
        the image term, scaled by T / K, stays an unbiased estimate at K / T of the decoder's cost, which is half of a
        step's on small models.
        What backbones add by `Backbone.add_loss` enters the total and the metrics, but no term: it has no steps.
        Raises `ValueError` for shapes, types or devices other than these, and for a `state` that is not this model's.
        """
        inputs = self.encode(batch, noise)
        self._check_state(state, batch.shape[0])
        if frames is not None:
            self._check_frames(frames, batch.shape[1])
        with collected_losses() as of_backbones:
            seen, after = self.dynamics.observe(inputs, state, return_state=return_state)
        counts = batch.mask & ~batch.is_first if self.first_step == "condition" else batch.mask
        features = seen.features  # (B, T, F)
        squared_error = self._squared_error(seen, inputs, batch.image, frames)  # (B, T)
        kl = self.dynamics.kl(seen, self.config.kl_balance, self.config.free_bits)
        terms = {
            "image": self._image_loss(squared_error),
            **{name: self.config.kl_scale * term for name, term in kl.items()},
            **self._head_losses(features, batch),
        }
        terms = {name: term * counts for name, term in terms.items()}
        number = counts.sum().clamp(min=1)
        total = torch.stack([term.sum() for term in terms.values()]).sum() / number
        metrics = {name: (term.sum() / number).detach() for name, term in terms.items()}
        metrics["kl"] = torch.stack([metrics[name] for name in kl]).sum()
        metrics |= self._diagnostics(seen, squared_error, counts, number)
        added = of_backbones()
        for name, value in added.items():
            if name in (*metrics, *LOGGED):
                raise ValueError(f"add_loss({name!r}, ...): the log has a figure of that name; choose another")
            total, metrics[name] = total + value, value.detach()
        return LossOutput(total, terms, after, metrics)

    def _squared_error(self, seen: Observed, inputs: Inputs, image: Tensor, frames: Tensor | None) -> Tensor:
        """Sum over C, H, W of (decoded - image)^2 on [0, 1]: (B, T), in float32 or better.

        With `frames` only those are decoded, weighted by T / K; the others are zero.
        """

        def error(decoded: Tensor, image: Tensor) -> Tensor:
            target = to_unit(image, torch.promote_types(decoded.dtype, torch.float32))  # (B, K, C, H, W)
            return (decoded - target).square().sum((-3, -2, -1))

        features, chosen = seen.features, image
        if frames is not None:
            features, chosen = features[:, frames], image[:, frames]
        if isinstance(self.dynamics, VideoModel):
            found = error(self.dynamics.reconstruct(seen, inputs, frames), chosen)  # (B, K)
        else:
            decoder = self.decoder
            assert decoder is not None, "built with one"
            found = self._in_pieces(lambda features, image: error(decoder(features), image), features, chosen)
        if frames is None:
            return found
        weight = image.shape[1] / len(frames)
        return found.new_zeros(image.shape[:2]).index_copy(1, frames, found * weight)

    def _in_pieces(self, function: Callable[..., Tensor], *sequences: Tensor) -> Tensor:
        """`function` of sequences (B, T, ...), which it maps frame by frame: with `recompute` some steps at a time, of
        which nothing is kept for the backward pass but what went in.
        """
        if not (self.config.recompute and torch.is_grad_enabled()):
            return function(*sequences)
        steps = max(1, PIECE // max(1, len(sequences[0])))
        pieces = zip(*(torch.split(sequence, steps, dim=1) for sequence in sequences), strict=True)
        return torch.cat([checkpoint(function, *piece, use_reentrant=False) for piece in pieces], dim=1)

    def _image_loss(self, squared_error: Tensor) -> Tensor:
        """The image term of a squared error in the unit that `image_loss` names."""
        if self.config.image_loss == "mse":
            return squared_error / math.prod(self.image_shape)
        if self.config.image_loss == "gaussian":
            constant = math.log(self.config.image_std) + 0.5 * math.log(2 * math.pi)
            return 0.5 * squared_error / self.config.image_std**2 + constant * math.prod(self.image_shape)
        return squared_error * (0.5 if self.config.image_loss == "nll" else 1.0)

    def _head_losses(self, features: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Reward: 0.5 squared error times `reward_scale`; continue: Bernoulli; each (B, T)."""
        losses = {}
        if self.reward is not None:
            error = self.predict_reward(features) - batch.reward
            losses["reward"] = 0.5 * self.config.reward_scale * error.square()
        if self.continues is not None:
            logit = self.continues(features).squeeze(-1).float()
            losses["continue"] = F.binary_cross_entropy_with_logits(
                logit, (~batch.is_terminal).to(logit.dtype), reduction="none"
            )
        return losses

    @torch.no_grad()
    def _diagnostics(self, seen: Observed, squared_error: Tensor, counts: Tensor, number: Tensor) -> dict[str, Tensor]:
        def mean(x: Tensor) -> Tensor:
            return (x * counts).sum() / number

        entropies = self.dynamics.entropies(seen)
        return {"squared_error": mean(squared_error), **{name: mean(term) for name, term in entropies.items()}}

    def _observe_in_pieces(
        self, inputs: Inputs, state: State | None, wanted: bool | Sequence[int]
    ) -> tuple[Observed, State]:
        """See `observe`: read up to each step whose state is wanted, and the rest."""
        length, period = inputs.embed.shape[1], 1 if self.dynamics.causal else self.dynamics.period
        steps = list(range(period - 1, length, period)) if wanted is True else list(wanted or ())
        for step in steps:
            check_between("return_states", step, 0, length - 1)
        if not steps or steps != sorted(set(steps)) or any((step + 1) % period for step in steps):
            cut = f", each before a multiple of {period}, where these dynamics can be cut" if period > 1 else ""
            raise ValueError(f"return_states: expected True or rising steps{cut}, got {steps}")
        parts: list[Observed] = []
        states: list[State] = []
        start = 0
        for end in dict.fromkeys([*(step + 1 for step in steps), length]):
            seen, state = self.dynamics.observe(inputs.window(start, end), state)
            parts.append(seen)
            states.append(state)
            start = end
        return parts[0].joined(parts), tree.map_tree(lambda *leaves: torch.stack(leaves, 1), *states[: len(steps)])

    def _follow(
        self,
        policy: Callable[[Tensor], Tensor],
        horizon: int | None,
        features: Tensor | None,
        state: State | None,
        noise: Tensor | None,
    ) -> Imagined:
        """See `imagine`: one step for each answer of the policy."""
        if horizon is None or features is None or state is None:
            raise ValueError("imagine: with a policy give horizon=, and state= with the features= of its step, as in "
                             "seen, state = model.observe(...); features=seen.features[:, -1]")  # fmt: skip
        self._check_features(features)
        if features.ndim != 2:
            raise ValueError(f"features: expected (B, F) of one step, got {tuple(features.shape)}")
        found, actions = [features], []
        with self.prepared(), packed(self.dynamics, check_integer("horizon", horizon, 1)):
            for t in range(horizon):
                action = policy(found[-1])[:, None]  # (B, 1, A)
                step = self.imagine(action, state, noise=None if noise is None else noise[:, t : t + 1])
                state = step.state
                found.append(step.features[:, 0])
                actions.append(step.action)
        return Imagined(torch.stack(found[1:], 1), state, torch.cat(actions, 1))

    def _inputs(
        self,
        image: Tensor,
        action: Tensor,
        is_first: Tensor,
        noise: Tensor | None,
        mask: Tensor | None,
        inner_reset: bool,
    ) -> Inputs:
        action = self._checked(action, noise, image.shape[:2])
        encode = self.dynamics.encode if isinstance(self.dynamics, VideoModel) else self.encoder
        assert encode is not None, "built with one"
        return Inputs(
            embed=self._in_pieces(encode, image),
            action=action,
            is_first=is_first,
            noise=noise,
            mask=mask,
            inner_reset=inner_reset,
        )

    def _check_image(self, image: Tensor) -> None:
        check_tensor("image", image, self.device)
        if image.ndim != 5 or tuple(image.shape[2:]) != tuple(self.image_shape):
            raise ValueError(
                f"image: expected (B, T, C, H, W) with (C, H, W) = {tuple(self.image_shape)}, got {tuple(image.shape)}"
            )
        if not image.is_floating_point() and image.dtype != torch.uint8:
            raise ValueError(f"image: expected uint8 in 0..255 or floats in [0, 1], got {image.dtype}")
        if 0 in image.shape[:2]:
            raise ValueError(f"image: expected a row and a step at least, got (B, T) = {tuple(image.shape[:2])}")
        # Elsewhere than on the CPU the host would have to wait for the answer; a graph cannot branch on it.
        if image.is_floating_point() and image.device.type == "cpu" and not torch.compiler.is_compiling():
            low, high = (x.item() for x in image.detach().aminmax())
            if not (low >= -UNIT_SLACK and high <= 1 + UNIT_SLACK):  # so put that NaN does not pass
                raise ValueError(
                    f"image: expected floats in [0, 1], got values from {low:.4g} to {high:.4g}; give uint8 in 0..255, "
                    "or scale and clip them"
                )

    def _check_state(self, state: State, rows: int) -> None:
        """Raise `ValueError` unless `state` (None: there is none) is one of this model's, for `rows` rows."""
        if state is None:
            return
        with torch.no_grad():
            expected = self.initial_state(1)
        tree.check_like(state, expected, rows)

    def _check_features(self, features: Tensor) -> None:
        """Raise `ValueError` unless `features` (..., F) are as `Observed` and `Imagined` hold them."""
        if isinstance(features, Observed | Imagined):
            raise ValueError(f"features: expected a tensor, got an {type(features).__name__}; give its .features")
        check_tensor("features", features, self.device)
        if features.ndim < 1 or features.shape[-1] != self.feature_dim:
            raise ValueError(
                f"features: expected (..., F) with F = {self.feature_dim}, [h, z] as observe and imagine give it, "
                f"got {tuple(features.shape)}"
            )
        if features.dtype != self.dtype and not torch.is_autocast_enabled(features.device.type):
            raise ValueError(
                f"features: expected {self.dtype} as the model's weights, got {features.dtype}; "
                "convert them by .to(model.dtype)"
            )

    def _check_frames(self, frames: Tensor, length: int) -> None:
        """Raise `ValueError` unless `frames` (K,) are different steps below `length`; of equal ones one counts."""
        check_tensor("frames", frames, self.device)
        if frames.ndim != 1 or len(frames) == 0 or frames.dtype != torch.int64:
            raise ValueError(f"frames: expected (K,) int64 with K >= 1, got {tuple(frames.shape)} of {frames.dtype}")
        if frames.device.type == "cpu" and not torch.compiler.is_compiling():
            chosen = frames.tolist()
            if len(set(chosen)) < len(chosen) or not (min(chosen) >= 0 and max(chosen) < length):
                raise ValueError(f"frames: expected different steps from 0 to {length - 1}, got {chosen}")

    def _checked(self, action: Tensor, noise: Tensor | None, lead: torch.Size) -> Tensor:
        """The action in the model's precision, whether it came as integers, float32 or NumPy's float64.

        Noise of another shape would be broadcast: rows or numbers that share their noise.
        """
        check_tensor("action", action, self.device)
        wanted = (*lead, self.action_dim)
        if tuple(action.shape) != wanted:
            hint = (
                f"one-hot the numbers of actions are torch.nn.functional.one_hot(action, {self.action_dim})"
                if action.ndim == 2 and not action.is_floating_point()
                else f"this model was built with action_dim={self.action_dim}"
            )
            raise ValueError(f"action: expected (B, T, A) = {wanted}, got {tuple(action.shape)}; {hint}")
        if action.is_complex():
            raise ValueError(f"action: expected real numbers, got {action.dtype}; view_as_real gives both parts")
        if noise is not None:
            check_tensor("noise", noise, self.device)
        wanted = (*lead, self.dynamics.noise_dim)
        if noise is not None and (tuple(noise.shape) != wanted or not noise.is_floating_point()):
            raise ValueError(
                f"noise: expected (B, T, noise_dim) = {wanted} floats, as draw_noise gives it, got "
                f"{tuple(noise.shape)} of {noise.dtype}"
            )
        return action.to(self.dtype)

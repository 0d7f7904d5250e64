"""What the tile worlds hide: doors and keys of Multi Doors Keys, the sample of Distracting Memory."""

from __future__ import annotations

import numpy as np

from wmkit.data import Episode
from wmkit.probing.base import Array, Probe, register_probe, since_last
from wmkit.probing.view import places_in_view


@register_probe("doors")
class Doors(Probe):
    """Which of the N doors are open now."""

    keys = ("door_open", "doors_pos", "agent_pos")
    label = "doors told right, open or shut"

    def target(self, episode: Episode) -> Array:
        return episode["door_open"].astype(np.int64)

    def delay(self, episode: Episode) -> Array:
        return since_last(places_in_view(episode, episode["doors_pos"]))


@register_probe("inventory")
class Inventory(Probe):
    """How many keys of each of six colours are held. Nothing shows them: the delay counts from the last change."""

    keys = ("keys_held",)
    shown = False
    label = "numbers of keys told right"

    def target(self, episode: Episode) -> Array:
        return episode["keys_held"].astype(np.int64)

    def delay(self, episode: Episode) -> Array:
        held = episode["keys_held"].astype(np.int64)
        changed = np.diff(held, axis=0, prepend=held[:1]) != 0
        return since_last(changed)


@register_probe("sample_color")
class SampleColor(Probe):
    """The number of the sample's colour."""

    keys = ("sample_color", "sample_pos", "agent_pos")
    label = "colours of the sample told right"

    def target(self, episode: Episode) -> Array:
        return np.full(episode.length, int(episode["sample_color"]), np.int64)

    def delay(self, episode: Episode) -> Array:
        return since_last(places_in_view(episode, episode["sample_pos"]))

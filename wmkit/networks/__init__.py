"""Encoders, decoders and heads: `base.py` what they share, `dreamer.py` and `planet.py` two styles of them."""

from wmkit.networks.base import FrameDecoder as FrameDecoder
from wmkit.networks.base import FrameEncoder as FrameEncoder
from wmkit.networks.base import Head as Head
from wmkit.networks.base import NormLinear as NormLinear
from wmkit.networks.base import channels_last as channels_last
from wmkit.networks.base import halvings as halvings
from wmkit.networks.base import to_unit as to_unit
from wmkit.networks.dreamer import ImageDecoder as ImageDecoder
from wmkit.networks.dreamer import ImageEncoder as ImageEncoder
from wmkit.networks.planet import PlanetDecoder as PlanetDecoder
from wmkit.networks.planet import PlanetEncoder as PlanetEncoder

"""Systems for video that bring encoder and decoder of their own: `base.py` their contract, one file each."""

from wmkit.video_models.base import VideoModel as VideoModel
from wmkit.video_models.svg_lp import SvgLp as SvgLp
from wmkit.video_models.svg_lp import SvgLpConfig as SvgLpConfig

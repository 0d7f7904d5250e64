"""Systems for video that bring encoder and decoder of their own: `base.py` their contract, one file each."""

from wmkit.video_models.base import VideoModel as VideoModel
from wmkit.video_models.svg_lp import SvgLp as SvgLp
from wmkit.video_models.svg_lp import SvgLpConfig as SvgLpConfig
from wmkit.video_models.vta import Vta as Vta
from wmkit.video_models.vta import VtaConfig as VtaConfig
from wmkit.video_models.vta import VtaObserved as VtaObserved

"""One file per backbone; importing this package registers those that ship with wmkit."""

from wmkit.backbones.base import Backbone as Backbone
from wmkit.backbones.base import BackboneConfig as BackboneConfig
from wmkit.backbones.base import ParameterGroup as ParameterGroup
from wmkit.backbones.gru import GRU as GRU
from wmkit.backbones.gru import GRUConfig as GRUConfig
from wmkit.backbones.plain_gru import PlainGRU as PlainGRU
from wmkit.backbones.plain_gru import PlainGRUConfig as PlainGRUConfig
from wmkit.backbones.s4 import S4 as S4
from wmkit.backbones.s4 import S4Config as S4Config
from wmkit.backbones.transformer_xl import TransformerXL as TransformerXL
from wmkit.backbones.transformer_xl import TransformerXLConfig as TransformerXLConfig

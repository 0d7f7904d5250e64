"""One file per backbone; importing this package registers those that ship with wmkit."""

from wmkit.backbones.base import Backbone as Backbone
from wmkit.backbones.base import BackboneConfig as BackboneConfig
from wmkit.backbones.base import ParameterGroup as ParameterGroup
from wmkit.backbones.gru import GRU as GRU
from wmkit.backbones.gru import GRUConfig as GRUConfig
from wmkit.backbones.lru import LRU as LRU
from wmkit.backbones.lru import LRUConfig as LRUConfig
from wmkit.backbones.plain_gru import PlainGRU as PlainGRU
from wmkit.backbones.plain_gru import PlainGRUConfig as PlainGRUConfig
from wmkit.backbones.s4 import S4 as S4
from wmkit.backbones.s4 import S4Config as S4Config
from wmkit.backbones.s4d import S4D as S4D
from wmkit.backbones.s4d import S4DConfig as S4DConfig
from wmkit.backbones.s5 import S5 as S5
from wmkit.backbones.s5 import S5Config as S5Config
from wmkit.backbones.transformer_xl import TransformerXL as TransformerXL
from wmkit.backbones.transformer_xl import TransformerXLConfig as TransformerXLConfig

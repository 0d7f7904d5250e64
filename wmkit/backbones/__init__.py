"""One file per backbone; importing this package registers those that ship with wmkit."""

from wmkit.backbones.base import Backbone as Backbone
from wmkit.backbones.base import BackboneConfig as BackboneConfig
from wmkit.backbones.base import ParameterGroup as ParameterGroup

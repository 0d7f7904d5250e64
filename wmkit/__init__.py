"""wmkit: world models with interchangeable sequence backbones."""

from wmkit.backbones import Backbone as Backbone
from wmkit.backbones import BackboneConfig as BackboneConfig
from wmkit.batch import Batch as Batch
from wmkit.loading import load as load
from wmkit.registry import list_backbones as list_backbones
from wmkit.registry import register_backbone as register_backbone

__version__ = "0.1.0"

"""wmkit: world models with interchangeable sequence backbones."""

from wmkit.backbones import Backbone as Backbone
from wmkit.backbones import BackboneConfig as BackboneConfig
from wmkit.batch import Batch as Batch
from wmkit.build import build_world_model as build_world_model
from wmkit.config import ModelConfig as ModelConfig
from wmkit.loading import load as load
from wmkit.registry import list_backbones as list_backbones
from wmkit.registry import register_backbone as register_backbone
from wmkit.world_model import WorldModel as WorldModel

__version__ = "0.1.0"

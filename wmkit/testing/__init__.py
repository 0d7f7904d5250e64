"""The laws of backbones, dynamics and video models as checks that anyone can run on parts of their own."""

from wmkit.testing.checker import ContractViolation as ContractViolation
from wmkit.testing.checker import LawResult as LawResult
from wmkit.testing.checker import check_backbone as check_backbone
from wmkit.testing.checker import examine_backbone as examine_backbone
from wmkit.testing.dynamics_checker import check_dynamics as check_dynamics
from wmkit.testing.dynamics_checker import examine_dynamics as examine_dynamics
from wmkit.testing.video_model_checker import check_video_model as check_video_model
from wmkit.testing.video_model_checker import examine_video_model as examine_video_model

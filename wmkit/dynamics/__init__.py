"""How latents and backbones make a state-space model: `base.py` the contract, `latents.py` the distributions,
`single.py` one level, `clockwork.py` a hierarchy.
"""

from wmkit.dynamics.base import Dynamics as Dynamics
from wmkit.dynamics.base import Observed as Observed
from wmkit.dynamics.clockwork import ClockworkDynamics as ClockworkDynamics
from wmkit.dynamics.clockwork_config import ClockworkConfig as ClockworkConfig
from wmkit.dynamics.latents import CategoricalLatent as CategoricalLatent
from wmkit.dynamics.latents import GaussianLatent as GaussianLatent
from wmkit.dynamics.latents import Latent as Latent
from wmkit.dynamics.single import LatentDynamics as LatentDynamics

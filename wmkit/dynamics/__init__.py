"""How latents and backbones make a state-space model: `base.py` the contract, `latents.py` the distributions,
`latent_dynamics.py` one level, `clockwork/` a hierarchy.
"""

from wmkit.dynamics.base import Dynamics as Dynamics
from wmkit.dynamics.base import Inputs as Inputs
from wmkit.dynamics.base import Observed as Observed
from wmkit.dynamics.clockwork.config import ClockworkConfig as ClockworkConfig
from wmkit.dynamics.clockwork.dynamics import ClockworkDynamics as ClockworkDynamics
from wmkit.dynamics.latent_dynamics import LatentDynamics as LatentDynamics
from wmkit.dynamics.latents import CategoricalLatent as CategoricalLatent
from wmkit.dynamics.latents import GaussianLatent as GaussianLatent
from wmkit.dynamics.latents import Latent as Latent

"""How latents and a backbone make a state-space model: `single.py` one level, `latents.py` the distributions."""

from wmkit.dynamics.latents import CategoricalLatent as CategoricalLatent
from wmkit.dynamics.latents import GaussianLatent as GaussianLatent
from wmkit.dynamics.latents import Latent as Latent
from wmkit.dynamics.single import LatentDynamics as LatentDynamics
from wmkit.dynamics.single import Observed as Observed

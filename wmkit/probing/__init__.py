"""Probes of memory: what is in the state of a trained world model, for how long, and how much of it was seen."""

from wmkit.probing.base import INPUTS as INPUTS
from wmkit.probing.base import NEVER as NEVER
from wmkit.probing.base import Probe as Probe
from wmkit.probing.base import all_probes as all_probes
from wmkit.probing.base import find_probes as find_probes
from wmkit.probing.base import register_probe as register_probe
from wmkit.probing.base import since_last as since_last
from wmkit.probing.features import ROWS as ROWS
from wmkit.probing.measure import HEADS as HEADS
from wmkit.probing.measure import Plan as Plan
from wmkit.probing.measure import chosen_probes as chosen_probes
from wmkit.probing.measure import measure_probes as measure_probes
from wmkit.probing.networks import Fit as Fit
from wmkit.probing.networks import mlp as mlp
from wmkit.probing.readers import ForeignModel as ForeignModel
from wmkit.probing.readers import Reader as Reader
from wmkit.probing.readers import WorldModelReader as WorldModelReader
from wmkit.probing.readers import fingerprint as fingerprint
from wmkit.probing.results import Horizon as Horizon
from wmkit.probing.results import ProbeMeasurements as ProbeMeasurements
from wmkit.probing.results import ProbeResults as ProbeResults
from wmkit.probing.results import effective_horizon as effective_horizon
from wmkit.probing.results import systems_tables as systems_tables
from wmkit.probing.run import probe as probe
from wmkit.probing.run import probe_run as probe_run

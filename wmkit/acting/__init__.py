"""Acting: reading observations one by one, and environments that are imagined."""

from wmkit.acting.environment import ImaginedVectorEnv as ImaginedVectorEnv
from wmkit.acting.filter import Filter as Filter

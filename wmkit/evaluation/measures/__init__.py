"""The measures of wmkit: importing this registers them, in the order of tables."""

from wmkit.evaluation.measures import frames as frames  # isort: skip
from wmkit.evaluation.measures import doors as doors  # isort: skip
from wmkit.evaluation.measures import rewards as rewards  # isort: skip
from wmkit.evaluation.measures import similarity as similarity  # isort: skip
from wmkit.evaluation.measures import digits as digits  # isort: skip

"""Diagnostics of a bare backbone: sequence tasks with a linear readout, and the memory card made of them."""

from wmkit.diagnostics.base import NOT_ASKED as NOT_ASKED
from wmkit.diagnostics.base import Sequences as Sequences
from wmkit.diagnostics.base import StateTracking as StateTracking
from wmkit.diagnostics.base import Task as Task
from wmkit.diagnostics.base import all_tasks as all_tasks
from wmkit.diagnostics.base import delayed as delayed
from wmkit.diagnostics.base import find_tasks as find_tasks
from wmkit.diagnostics.base import register_task as register_task
from wmkit.diagnostics.card import Card as Card
from wmkit.diagnostics.card import shipped_cards as shipped_cards
from wmkit.diagnostics.runner import diagnose as diagnose

"""One file per task; importing this package registers those that ship with wmkit."""

from wmkit.diagnostics.tasks import associative_recall as associative_recall
from wmkit.diagnostics.tasks import delayed_recall as delayed_recall
from wmkit.diagnostics.tasks import group_words as group_words
from wmkit.diagnostics.tasks import memory_capacity as memory_capacity
from wmkit.diagnostics.tasks import overwrite as overwrite
from wmkit.diagnostics.tasks import parity as parity
from wmkit.diagnostics.tasks import path_integration as path_integration
from wmkit.diagnostics.tasks import repeat_first as repeat_first
from wmkit.diagnostics.tasks import selective_copy as selective_copy

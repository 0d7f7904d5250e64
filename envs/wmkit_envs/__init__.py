"""Memory worlds as Gymnasium environments and as scripted episode generators, and videos."""

from wmkit_envs.grid.distracting_memory import DistractingMemory as DistractingMemory
from wmkit_envs.grid.hidden_motion import HiddenMotion as HiddenMotion
from wmkit_envs.grid.multi_doors_keys import MultiDoorsKeys as MultiDoorsKeys
from wmkit_envs.maze3d.hidden_motion import RayHiddenMotion as RayHiddenMotion
from wmkit_envs.maze3d.look_around import LookAround as LookAround
from wmkit_envs.maze3d.worlds import MemoryMaze as MemoryMaze
from wmkit_envs.maze3d.worlds import RayMaze as RayMaze
from wmkit_envs.maze3d.worlds import Rooms as Rooms
from wmkit_envs.video.bouncing_balls import BouncingBalls as BouncingBalls
from wmkit_envs.video.moving_mnist import MovingMnist as MovingMnist
from wmkit_envs.world import Episode as Episode
from wmkit_envs.world import World as World
from wmkit_envs.worlds import ENVIRONMENTS as ENVIRONMENTS
from wmkit_envs.worlds import FAMILIES as FAMILIES
from wmkit_envs.worlds import PUBLISHED as PUBLISHED
from wmkit_envs.worlds import WORLDS as WORLDS
from wmkit_envs.worlds import find_world as find_world
from wmkit_envs.worlds import generate as generate

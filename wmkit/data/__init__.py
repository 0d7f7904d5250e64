"""Episodes: found, generated, stored, and sampled into batches."""

from wmkit.batch import check_batch as check_batch
from wmkit.data.episode import Episode as Episode
from wmkit.data.episode import check_episode as check_episode
from wmkit.data.loader import WorkerError as WorkerError
from wmkit.data.samplers import PersistentWindows as PersistentWindows
from wmkit.data.samplers import RandomWindows as RandomWindows
from wmkit.data.samplers import Sampler as Sampler
from wmkit.data.samplers import WholeEpisodes as WholeEpisodes
from wmkit.data.sources import EpisodeSource as EpisodeSource
from wmkit.data.sources import GeneratedEpisodes as GeneratedEpisodes
from wmkit.data.sources import open_source as open_source
from wmkit.data.sources import unseen_episodes as unseen_episodes
from wmkit.data.store.archive import CorruptArchive as CorruptArchive
from wmkit.data.store.archive import EpisodeStore as EpisodeStore
from wmkit.data.store.cache import CachedEpisodes as CachedEpisodes
from wmkit.data.store.cache import CorruptCache as CorruptCache
from wmkit.data.store.tiles import render_tiles as render_tiles
from wmkit.data.store.writers import EpisodeWriter as EpisodeWriter
from wmkit.data.store.writers import build_cache as build_cache
from wmkit.data.store.writers import write_archive as write_archive
from wmkit.data.worlds import World as World
from wmkit.data.worlds import describe_world as describe_world
from wmkit.data.worlds import find_world as find_world
from wmkit.data.worlds import list_worlds as list_worlds
from wmkit.data.worlds import register_world as register_world
from wmkit.data.worlds import restore_world as restore_world

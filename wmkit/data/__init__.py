"""Episodes: found, generated, stored, and sampled into batches."""

from wmkit.data.collate import check_batch as check_batch
from wmkit.data.episode import Episode as Episode
from wmkit.data.episode import check_episode as check_episode
from wmkit.data.persistent_windows import PersistentWindows as PersistentWindows
from wmkit.data.random_windows import RandomWindows as RandomWindows
from wmkit.data.sampler import Sampler as Sampler
from wmkit.data.source import EpisodeSource as EpisodeSource
from wmkit.data.source import GeneratedEpisodes as GeneratedEpisodes
from wmkit.data.sources import open_source as open_source
from wmkit.data.store.archive import CorruptArchive as CorruptArchive
from wmkit.data.store.archive import EpisodeStore as EpisodeStore
from wmkit.data.store.archive_writer import EpisodeWriter as EpisodeWriter
from wmkit.data.store.archive_writer import write_archive as write_archive
from wmkit.data.store.cache import CachedEpisodes as CachedEpisodes
from wmkit.data.store.cache import CorruptCache as CorruptCache
from wmkit.data.store.cache import build_cache as build_cache
from wmkit.data.store.tiles import render_tiles as render_tiles
from wmkit.data.unseen import unseen_episodes as unseen_episodes
from wmkit.data.whole_episodes import WholeEpisodes as WholeEpisodes
from wmkit.data.workers.client import WorkerError as WorkerError
from wmkit.data.worlds import World as World
from wmkit.data.worlds import describe_world as describe_world
from wmkit.data.worlds import find_world as find_world
from wmkit.data.worlds import list_worlds as list_worlds
from wmkit.data.worlds import register_world as register_world
from wmkit.data.worlds import restore_world as restore_world

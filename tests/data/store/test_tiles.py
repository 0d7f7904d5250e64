import dataclasses

import numpy as np
import pytest
import torch

import wmkit_envs.grid.atlas
from wmkit.data import (
    CachedEpisodes,
    Episode,
    EpisodeStore,
    GeneratedEpisodes,
    WholeEpisodes,
    build_cache,
    write_archive,
)
from wmkit.data.store.tiles import render_tiles, with_pictures, without_pictures
from wmkit_envs import DistractingMemory

WORLD = DistractingMemory(width=16, tile=4)


def test_stored_episodes_of_tiles_come_back_whole_without_their_pictures_on_disk(tmp_path):
    source = GeneratedEpisodes(WORLD, seed=0)
    store = write_archive(source, tmp_path / "archive", episodes=3)
    cache = build_cache(store, tmp_path / "cache")
    for stored in (store, cache, EpisodeStore(tmp_path / "archive"), CachedEpisodes(tmp_path / "cache")):
        assert stored.image_shape == source.image_shape == (3, 20, 20)
        for index in range(3):
            episode, expected = stored.episode(index), source.episode(index)
            assert episode.keys() == expected.keys()
            for key, value in expected.items():
                np.testing.assert_array_equal(episode[key], value, err_msg=key)
    assert not (tmp_path / "archive" / "image").exists()
    assert not (tmp_path / "cache" / "image.npy").exists()
    assert (tmp_path / "cache" / "tiles.npy").stat().st_size < 3 * 40 * 25 + 200
    assert store.verify() == []


def test_a_batch_is_the_same_from_the_world_the_archive_and_the_cache(tmp_path):
    source = GeneratedEpisodes(WORLD, seed=0, num_episodes=4)
    store = write_archive(source, tmp_path / "archive")
    batches = [
        next(WholeEpisodes(one, batch_size=4, seed=1, keys=["tiles", "atlas"]))
        for one in (source, store, build_cache(store, tmp_path / "cache"))
    ]
    for batch in batches[1:]:
        assert torch.equal(batch.image, batches[0].image)
    tiles, atlas = batches[0].extras["tiles"], batches[0].extras["atlas"][0, 0]
    assert torch.equal(render_tiles(tiles, atlas).permute(0, 1, 4, 2, 3), batches[0].image)


def test_pictures_that_their_tiles_do_not_make_are_refused(tmp_path):
    episode = GeneratedEpisodes(WORLD, seed=0).episode(0)
    bare = Episode({"image": episode["image"]}, dict(episode.constants))
    assert without_pictures(bare, "here") is bare
    stored = without_pictures(episode, "here")
    assert stored.keys() == episode.keys() - {"image"}
    np.testing.assert_array_equal(with_pictures(stored)["image"], episode["image"])
    for wrong in ({"image": 255 - episode["image"]}, {"tiles": episode["tiles"] + 30}):
        with pytest.raises(ValueError, match="Episode 3: image is not what tiles"):
            without_pictures(dataclasses.replace(episode, steps=episode.steps | wrong), "Episode 3")


@pytest.mark.parametrize("size", [4, 8])
def test_tiles_are_drawn_as_the_worlds_draw_them(size):
    tiles = np.random.default_rng(0).integers(30, size=(2, 3, 5, 5), dtype=np.uint8)
    atlas = wmkit_envs.grid.atlas.make_atlas(size).copy()
    expected = wmkit_envs.grid.atlas.render_tiles(tiles, atlas)
    np.testing.assert_array_equal(render_tiles(tiles, atlas), expected)
    np.testing.assert_array_equal(render_tiles(torch.from_numpy(tiles), torch.from_numpy(atlas)).numpy(), expected)

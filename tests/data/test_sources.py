import pytest

from wmkit.data import EpisodeSource, GeneratedEpisodes, open_source, sources, unseen_episodes, write_archive
from wmkit_envs import DistractingMemory, MultiDoorsKeys


def digest(episode):
    return episode["tiles"].tobytes() + episode["action"].tobytes()


def test_unseen_episodes_are_the_first_of_the_test_split_that_training_does_not_have():
    world = MultiDoorsKeys(keys=2, tile=4)  # 28 maps, which its splits share
    source = unseen_episodes(world, 20, beyond=300)
    assert isinstance(source, EpisodeSource)
    assert (source.image_shape, source.action_dim, source.num_episodes) == ((3, 20, 20), 7, 20)
    train, test = (GeneratedEpisodes(world, seed=0, split=split) for split in ("train", "test"))
    trained = {digest(train.episode(index)) for index in range(300)}
    tested = [digest(test.episode(index)) for index in range(60)]
    new = [index for index, one in enumerate(tested) if one not in trained][:20]
    assert [digest(source.episode(index)) for index in range(20)] == [tested[index] for index in new]
    assert trained & set(tested[: new[-1]])  # it had something to leave out
    assert source.episode_length(3) == world.episode_length


def test_a_world_that_has_no_unseen_episodes_is_told(monkeypatch):
    monkeypatch.setattr(sources, "LOOKED_AT", 60)
    with pytest.raises(ValueError, match="of the first 60 test episodes 0 are not among 5,000 of training"):
        unseen_episodes(MultiDoorsKeys(keys=2, tile=4), 40, beyond=5000)


@pytest.mark.reported(
    "names",
    "",
    "`--episodes-from camera`, the folder in which `wmkit import` wrote three archives; an empty path",
    "`ValueError`: say camera/test; expected the path of a folder",
)
def test_a_folder_of_archives_is_no_archive(tmp_path):
    for split in ("train", "test"):
        write_archive(GeneratedEpisodes(DistractingMemory(width=8, tile=4), seed=0, split=split), tmp_path / split, 1)
    for split, said in (("test", "test"), ("valid", "train")):
        with pytest.raises(ValueError, match=rf"holds the archives train, test, expected one: say .*{said}$"):
            open_source(tmp_path, split=split)
    assert len(open_source(tmp_path / "test", split="test")) == 1
    for empty in ("", "  "):
        with pytest.raises(ValueError, match="expected the path of a folder, got nothing"):
            write_archive(GeneratedEpisodes(DistractingMemory(width=8, tile=4), seed=0), empty, 1)

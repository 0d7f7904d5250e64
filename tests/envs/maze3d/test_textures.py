"""Wall and floor art: shapes, blur, colours."""

import numpy as np

from wmkit_envs.maze3d.textures import LEVELS, TEXELS, floor_textures, sky_rows, wall_textures


def test_textures_have_eight_styles_and_two_floors_at_every_blur() -> None:
    assert wall_textures().shape == (8, LEVELS, 48, TEXELS, 3)
    assert floor_textures().shape == (2, LEVELS, TEXELS, TEXELS, 3)


def test_every_wall_style_has_a_pattern_and_keeps_its_mean_when_blurred() -> None:
    art = wall_textures().astype(float)
    assert (art[:, 0].std((1, 2)).max(-1) > 5).all()
    np.testing.assert_allclose(art.mean((2, 3)), art[:, :1].mean((2, 3)).repeat(LEVELS, 1), atol=1.5)


def test_each_blur_level_is_smoother_than_the_last() -> None:
    for art in (wall_textures().astype(float), floor_textures().astype(float)):
        spread = art.std((2, 3)).sum(-1)
        assert (np.diff(spread, axis=1) <= 1e-9).all()


def test_textures_are_handed_out_as_copies() -> None:
    wall_textures()[:] = 0
    floor_textures()[:] = 0
    assert wall_textures().any()
    assert floor_textures().any()


def test_the_sky_is_palest_at_the_horizon() -> None:
    rows = sky_rows(3, np.array([0.8, 0.4, 0.0])).astype(int).sum(1)
    assert (np.diff(rows) > 0).all()

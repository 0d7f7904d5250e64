"""The rules of the tile worlds, compiled, for many episodes at once: what an action does and what is seen.

The actions are MiniGrid's: 0 turn left, 1 turn right, 2 forward, 3 pick up, 4 drop, 5 toggle, 6 done. The agent walks
on empty cells, squares and opened doors. Picking up takes the key in front; there is no limit to how many it carries.
Toggling a locked door in front spends one key of the door's colour and opens it for good. Drop and done do nothing. An
episode is over when the agent enters one of its two exits: reward 1 in the first, 0 in the second, 0 everywhere else.
With every action, whatever it is, what moves by itself takes the next cell of its path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.compiled import compiled
from wmkit_envs.grid.scene import (
    AGENT,
    EMPTY,
    FORWARD,
    KEY,
    LOCKED,
    NUM_COLORS,
    OPEN,
    PICK_UP,
    SQUARE,
    TOGGLE,
    TURN_LEFT,
    TURN_RIGHT,
    VIEW,
    WALL,
    GridScene,
)

MARGIN = VIEW // 2
"""Cells of wall around the map: what lies outside looks like one."""
_STEP_X, _STEP_Y = np.array([1, 0, -1, 0]), np.array([0, 1, 0, -1])


class State(NamedTuple):
    """B episodes in motion; every array is changed in place."""

    cells: NDArray[np.uint8]
    """(B, H + 4, W + 4) the map with its margin."""
    pose: NDArray[np.int64]
    """(B, 3) x, y, heading."""
    keys: NDArray[np.uint8]
    """(B, 6) keys held, by colour."""
    exits: NDArray[np.int64]
    """(B, 2, 2) x, y of the cells that end the episode, with reward 1 and with reward 0."""
    over: NDArray[np.bool_]
    """(B,) has it ended? Then actions do nothing."""
    movers: NDArray[np.int64]
    """(B, M, P, 2) the paths of what moves by itself."""
    time: NDArray[np.int64]
    """(B,) actions so far."""


class Record(NamedTuple):
    """What happened in B episodes over T observations."""

    tiles: NDArray[np.uint8]
    """(B, T, 5, 5) the view."""
    pose: NDArray[np.int64]
    """(B, T, 3)"""
    reward: NDArray[np.float32]
    """(B, T), 0 at the first."""
    terminal: NDArray[np.bool_]
    """(B, T)"""
    watched: NDArray[np.uint8]
    """(B, T, K) contents of the scenes' watched cells."""
    keys: NDArray[np.uint8]
    """(B, T, 6)"""


def begin(scenes: Sequence[GridScene]) -> State:
    """The episodes at their first observation; their maps are of one size."""
    cells = np.stack([scene.cells for scene in scenes])
    return State(
        cells=np.pad(cells, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)), constant_values=WALL),
        pose=np.array([scene.start for scene in scenes], np.int64),
        keys=np.zeros((len(scenes), NUM_COLORS), np.uint8),
        exits=np.array([scene.exits for scene in scenes], np.int64),
        over=np.zeros(len(scenes), np.bool_),
        movers=np.stack([scene.movers for scene in scenes]),
        time=np.zeros(len(scenes), np.int64),
    )


def play(scenes: Sequence[GridScene], actions: NDArray[np.int64]) -> Record:
    """Take the actions (B, T - 1) in the scenes, whose watched cells are the same."""
    watched = np.array(scenes[0].watched, np.int64).reshape(-1, 2)  # (K, 2)
    lead = actions.shape[0], actions.shape[1] + 1  # (B, T)
    record = Record(
        tiles=np.empty((*lead, VIEW, VIEW), np.uint8),
        pose=np.empty((*lead, 3), np.int64),
        reward=np.empty(lead, np.float32),
        terminal=np.empty(lead, np.bool_),
        watched=np.empty((*lead, len(watched)), np.uint8),
        keys=np.empty((*lead, NUM_COLORS), np.uint8),
    )
    _play(begin(scenes), np.ascontiguousarray(actions), watched, record)
    return record


@compiled
def advance(state: State, row: int, action: int) -> float:
    """Take one action in episode `row`; returns the reward."""
    if state.over[row]:
        return 0.0
    _move(state, row)
    x, y, heading = state.pose[row, 0], state.pose[row, 1], state.pose[row, 2]
    ahead_x, ahead_y = x + _STEP_X[heading], y + _STEP_Y[heading]
    ahead = state.cells[row, ahead_y + MARGIN, ahead_x + MARGIN]
    if action == TURN_LEFT:
        state.pose[row, 2] = (heading + 3) % 4
    elif action == TURN_RIGHT:
        state.pose[row, 2] = (heading + 1) % 4
    elif action == FORWARD:
        if ahead == EMPTY or SQUARE <= ahead < KEY or ahead >= OPEN:
            state.pose[row, 0], state.pose[row, 1] = ahead_x, ahead_y
            return _enter(state, row, ahead_x, ahead_y)
    elif action == PICK_UP and KEY <= ahead < LOCKED:
        state.keys[row, ahead - KEY] += 1
        state.cells[row, ahead_y + MARGIN, ahead_x + MARGIN] = EMPTY
    elif action == TOGGLE and LOCKED <= ahead < OPEN and state.keys[row, ahead - LOCKED]:
        state.keys[row, ahead - LOCKED] -= 1
        state.cells[row, ahead_y + MARGIN, ahead_x + MARGIN] = ahead - LOCKED + OPEN
    return 0.0


@compiled
def _move(state: State, row: int) -> None:
    """Let a step pass: what moves by itself goes on and leaves an empty cell behind."""
    state.time[row] += 1
    period = state.movers.shape[2]
    before, now = (state.time[row] - 1) % period, state.time[row] % period
    for number in range(state.movers.shape[1]):
        old_x, old_y = state.movers[row, number, before] + MARGIN
        new_x, new_y = state.movers[row, number, now] + MARGIN
        tile = state.cells[row, old_y, old_x]
        state.cells[row, old_y, old_x] = EMPTY
        state.cells[row, new_y, new_x] = tile


@compiled
def _enter(state: State, row: int, x: int, y: int) -> float:
    """End the episode in an exit; returns the reward."""
    for number in range(2):
        if state.exits[row, number, 0] == x and state.exits[row, number, 1] == y:
            state.over[row] = True
            return 1.0 - number
    return 0.0


@compiled
def look(state: State, row: int, view: NDArray[np.uint8]) -> None:
    """Write the (5, 5) cells around the agent to `view`; its own cell shows the agent alone."""
    x, y = state.pose[row, 0], state.pose[row, 1]
    view[:] = state.cells[row, y : y + VIEW, x : x + VIEW]
    view[MARGIN, MARGIN] = AGENT + state.pose[row, 2]


@compiled
def advance_all(
    state: State, actions: NDArray[np.int64], active: NDArray[np.bool_], rewards: NDArray[np.float64]
) -> None:
    """Take `actions` (B,), one in each `active` (B,) episode; writes `rewards` (B,)."""
    for row in range(len(actions)):
        rewards[row] = advance(state, row, actions[row]) if active[row] else 0.0


@compiled
def look_all(state: State, views: NDArray[np.uint8]) -> None:
    """Write what is seen in each episode to `views` (B, 5, 5)."""
    for row in range(len(views)):
        look(state, row, views[row])


@compiled
def _play(state: State, actions: NDArray[np.int64], watched: NDArray[np.int64], record: Record) -> None:
    """Take the actions (B, T - 1), and write what there is at every observation, the first one too, to `record`."""
    for row in range(actions.shape[0]):
        for time in range(actions.shape[1] + 1):
            record.reward[row, time] = advance(state, row, actions[row, time - 1]) if time else 0.0
            record.terminal[row, time] = state.over[row]
            record.pose[row, time] = state.pose[row]
            record.keys[row, time] = state.keys[row]
            look(state, row, record.tiles[row, time])
            for number in range(len(watched)):
                x, y = watched[number, 0] + MARGIN, watched[number, 1] + MARGIN
                record.watched[row, time, number] = state.cells[row, y, x]

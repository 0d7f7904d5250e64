"""The rolling ball of Memory Maze: MuJoCo's equations of motion and contact for the five degrees of freedom it has.

A wheel under a head slides along x, y, z, steers about the vertical and rolls about its axle. Per substep of 5 ms,
with generalised velocity v = (forward, left, up, steer, roll) in the body's frame, its constant mass matrix M and
applied force f (motors, damping, gravity, the pull of what turns off the axle), the acceleration is what MuJoCo
computes:

    a = argmin 1/2 (a - M^-1 f)^T M (a - M^-1 f) + sum over contacts of s(J a - r)

where J maps v to each contact's velocity (across the surface, twice along it, spin about its normal), r is the
reference acceleration of a damped spring in the contact, and s is quadratic inside an elliptic friction cone and the
distance to it outside. Then friction alone is solved again without its softness ("no slip"), five sweeps.

A wheel that is pressed against a wall at an angle must slip sideways on the floor to follow the wall, so it sticks.

Lengths are world units here, two to a cell. Source of the numbers: dm_control's RollingBallWithHead as Memory Maze
changes it; of the equations: MuJoCo's documentation, chapter Computation (elliptic cones, Newton, no-slip, Euler).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wmkit_envs.compiled import compiled

SUBSTEPS = 50
"""Of 5 ms in one step of 0.25 s."""
UNITS_PER_CELL = 2.0
BALL_RADIUS = 0.2

_DT = 0.005
_MASS = 22.00001
_LEVER = 0.15
"""Mass times distance ahead of the axle, of the camera."""
_MASSES = np.diag([_MASS, _MASS, _MASS, 1.18533229, 0.016])
_MASSES[1, 3] = _MASSES[3, 1] = _LEVER
_INVERSE = np.linalg.inv(_MASSES)
_STEER_TORQUE, _ROLL_TORQUE = 30.0, 50.0
_STEER_DAMPING, _ROLL_DAMPING = 20.0, 5.0
_INTEGRATOR = np.linalg.inv(_MASSES + _DT * np.diag([0, 0, 0, _STEER_DAMPING, _ROLL_DAMPING])) @ _MASSES
"""Euler's step is implicit in the damping: v += dt (M + dt D)^-1 M a."""
_GRAVITY = 9.81
_FRICTION = np.array([1.0, 1.0, 0.02])
"""Along the surface twice, and spin about its normal (in units of length)."""
_INVERSE_WEIGHT = 0.04546761
"""MuJoCo's `body_invweight0` of the wheel, by which the softness of its contacts is scaled."""
_SPRING, _DAMPER = 1 / (0.95 * 0.02) ** 2, 2 / (0.95 * 0.02)
"""Of a contact's reference acceleration: time constant 0.02 s, critical damping."""
_NEWTON_STEPS, _SEARCH_STEPS, _NO_SLIP_SWEEPS = 50, 20, 5
_CONVERGED = 1e-12
"""Square of the gradient's length."""
_MOST_CONTACTS = 9

Floats = NDArray[np.float64]


class _Contacts(NamedTuple):
    """Of one substep: what is known of every contact, and what the solver writes about it."""

    jacobian: Floats
    """(contacts, 4, 5) from velocity to across the surface, twice along it, spin about its normal."""
    reference: Floats
    """(contacts, 4) acceleration of a damped spring."""
    hardness: Floats
    """(contacts,) stiffness of the cost."""
    slack: Floats
    """(contacts, 4) J a - r."""
    along: Floats
    """(contacts, 4) J times the direction of a step."""
    ahead: Floats
    """(contacts, 4) the slack after a step."""
    force: Floats
    """(contacts, 4)"""
    curvature: Floats
    """(contacts, 4, 4) second derivative of the cost."""
    weighted: Floats
    """(contacts, 4, 5) J M^-1."""


@compiled
def _room_for_contacts() -> _Contacts:
    most = _MOST_CONTACTS
    return _Contacts(
        np.zeros((most, 4, 5)), np.zeros((most, 4)), np.zeros(most), np.zeros((most, 4)),
        np.zeros((most, 4)), np.zeros((most, 4)), np.zeros((most, 4)), np.zeros((most, 4, 4)), np.zeros((most, 4, 5)),
    )  # fmt: skip


@compiled
def roll(
    position: Floats, velocity: Floats, drive: float, steer: float, walls: NDArray[np.bool_], path: Floats
) -> None:
    """Move `position` and `velocity` (5,) in place by `SUBSTEPS`; `path` (SUBSTEPS, 2) gets the x, y of each.

    `position` is x, y in units from the corner of the outer maze, height, heading and roll; motors turn by `drive` and
    `steer` in -1..1; `walls` (rows, columns) is true for wall cells, the outer wall included.
    """
    contacts = _room_for_contacts()
    work, acceleration, moving, free = np.zeros((7, 5)), np.zeros(5), np.zeros(5), np.zeros(5)
    for substep in range(SUBSTEPS):
        cos, sin = math.cos(position[3]), math.sin(position[3])
        moving[0], moving[1] = cos * velocity[0] + sin * velocity[1], cos * velocity[1] - sin * velocity[0]
        moving[2], moving[3], moving[4] = velocity[2], velocity[3], velocity[4]
        steering = _STEER_TORQUE * steer - _STEER_DAMPING * velocity[3]
        free[0] = _LEVER * velocity[3] ** 2 / _MASS
        free[1] = _INVERSE[1, 3] * steering
        free[2] = -_GRAVITY
        free[3] = _INVERSE[3, 3] * steering
        free[4] = _INVERSE[4, 4] * (_ROLL_TORQUE * drive - _ROLL_DAMPING * velocity[4])
        count = _touch(position, moving, cos, sin, walls, contacts)
        if count == 0:
            _copy(free, acceleration)
        elif count > 1 or position[2] > 0 or not _roll_freely(contacts, free, acceleration):
            _constrain(count, contacts, free, acceleration, work)
        left = _INTEGRATOR[1, 1] * acceleration[1] + _INTEGRATOR[1, 3] * acceleration[3]
        velocity[0] += _DT * (cos * acceleration[0] - sin * left)
        velocity[1] += _DT * (sin * acceleration[0] + cos * left)
        velocity[2] += _DT * acceleration[2]
        velocity[3] += _DT * (_INTEGRATOR[3, 1] * acceleration[1] + _INTEGRATOR[3, 3] * acceleration[3])
        velocity[4] += _DT * _INTEGRATOR[4, 4] * acceleration[4]
        for axis in range(5):
            position[axis] += _DT * velocity[axis]
        path[substep, 0], path[substep, 1] = position[0], position[1]


@compiled
def _copy(from_there: Floats, to: Floats) -> None:
    """What `to[:] = from_there` does, whose check of shapes takes seconds to compile."""
    for axis in range(5):
        to[axis] = from_there[axis]


@compiled
def _touch(
    position: Floats, moving: Floats, cos: float, sin: float, walls: NDArray[np.bool_], contacts: _Contacts
) -> int:
    """Find the contacts and fill their rows; returns how many there are.

    The wheel touches the floor, the faces of the walls beside it, and a corner where both walls that could hide it are
    absent.
    """
    count = 0
    if position[2] <= 0:
        _contact(0, 0.0, 0.0, 1.0, position[2], moving, contacts)
        count = 1
    column, row = int(position[0] / UNITS_PER_CELL), int(position[1] / UNITS_PER_CELL)
    across = position[0] / UNITS_PER_CELL - column, position[1] / UNITS_PER_CELL - row
    for down in range(-1, 2):
        for right in range(-1, 2):
            if not walls[row + down, column + right] or (right == 0 and down == 0):
                continue
            if right != 0 and down != 0 and (walls[row + down, column] or walls[row, column + right]):
                continue
            away_x = across[0] if right < 0 else 1 - across[0] if right > 0 else 0.0
            away_y = across[1] if down < 0 else 1 - across[1] if down > 0 else 0.0
            away = UNITS_PER_CELL * math.hypot(away_x, away_y)
            if away < BALL_RADIUS:
                x, y = -right * away_x * UNITS_PER_CELL / away, -down * away_y * UNITS_PER_CELL / away
                _contact(count, cos * x + sin * y, cos * y - sin * x, 0.0, away - BALL_RADIUS, moving, contacts)
                count += 1
    return count


@compiled
def _contact(
    number: int, forward: float, left: float, up: float, gap: float, moving: Floats, contacts: _Contacts
) -> None:
    """Fill in the contact `number`, whose normal (forward, left, up) is either horizontal or upright."""
    jacobian, reference = contacts.jacobian[number], contacts.reference[number]
    arm = BALL_RADIUS + gap / 2
    jacobian[:] = 0
    if up:
        jacobian[0, 2] = 1
        jacobian[1, 0], jacobian[1, 4] = 1, -arm
        jacobian[2, 1] = 1
        jacobian[3, 3] = 1
    else:
        jacobian[0, 0], jacobian[0, 1] = forward, left
        jacobian[1, 0], jacobian[1, 1], jacobian[1, 3] = -left, forward, -arm
        jacobian[2, 2], jacobian[2, 4] = 1, arm * forward
        jacobian[3, 4] = left
    depth = min(-gap / 0.001, 1.0)
    impedance = 0.9 + 0.05 * (2 * depth**2 if depth < 0.5 else 1 - 2 * (1 - depth) ** 2)
    for row in range(4):
        speed = 0.0
        for axis in range(5):
            speed += jacobian[row, axis] * moving[axis]
        reference[row] = -_DAMPER * speed
    reference[0] -= _SPRING * impedance * gap
    contacts.hardness[number] = impedance / ((1 - impedance) * _INVERSE_WEIGHT)


@compiled
def _constrain(count: int, contacts: _Contacts, free: Floats, acceleration: Floats, work: Floats) -> None:
    """Write the constrained `acceleration` (5,): Newton's method on the soft cones, then friction without softness.

    It begins at the `acceleration` that is there, the last substep's. `work` (7, 5) is room for it.
    """
    jacobian, force, curvature = contacts.jacobian, contacts.force, contacts.curvature
    hessian, gradient, direction = work[:5], work[5], work[6]
    for _ in range(_NEWTON_STEPS):
        for axis in range(5):
            gradient[axis] = 0.0
            for other in range(5):
                gradient[axis] += _MASSES[axis, other] * (acceleration[other] - free[other])
        for contact in range(count):
            for row in range(4):
                total = -contacts.reference[contact, row]
                for axis in range(5):
                    total += jacobian[contact, row, axis] * acceleration[axis]
                contacts.slack[contact, row] = total
            _cone(contacts.slack[contact], contacts.hardness[contact], force[contact], curvature[contact])
            for row in range(4):
                for axis in range(5):
                    gradient[axis] -= jacobian[contact, row, axis] * force[contact, row]
        size = 0.0
        for axis in range(5):
            size += gradient[axis] ** 2
        if size < _CONVERGED:
            break
        for axis in range(5):
            _copy(_MASSES[axis], hessian[axis])
        for contact in range(count):
            for row in range(4):
                for axis in range(5):
                    weight = 0.0
                    for other in range(4):
                        weight += curvature[contact, row, other] * jacobian[contact, other, axis]
                    if weight:
                        for other in range(5):
                            hessian[other, axis] += jacobian[contact, row, other] * weight
        _descend(hessian, gradient, direction)
        step = _search(count, contacts, free, acceleration, direction)
        for axis in range(5):
            acceleration[axis] += step * direction[axis]
    _no_slip(count, contacts, free, acceleration)


@compiled
def _roll_freely(contacts: _Contacts, free: Floats, acceleration: Floats) -> bool:
    """Away from walls: what `_constrain` finds, by Newton's method on one number; False where that does not apply.

    With forces f = (n, t) on the floor, minimise 1/2 f^T (J M^-1 J^T + softness) f + f^T (J free - r) in the cone. On
    its surface a multiplier x adds -x to the normal's diagonal and x / friction^2 to the others'.
    """
    arm, softness = -contacts.jacobian[0, 1, 4], 1 / contacts.hardness[0]
    reference = contacts.reference[0]
    normal, stiff = free[2] - reference[0], 1 / _MASS + softness
    if normal >= 0:
        return False
    forward, left, spin = free[0] - arm * free[4] - reference[1], free[1] - reference[2], free[3] - reference[3]
    spin_friction = _FRICTION[2]
    along = 1 / _MASS + arm * arm * _INVERSE[4, 4]
    across, mixed = _INVERSE[1, 1], _INVERSE[1, 3] * spin_friction
    turning = _INVERSE[3, 3] * spin_friction**2
    spin *= spin_friction
    low, high, multiplier = 0.0, stiff, 0.0
    for _ in range(_NEWTON_STEPS):
        soft = softness + multiplier
        determinant = (across + soft) * (turning + soft) - mixed * mixed
        x = forward / (along + soft)
        y = ((turning + soft) * left - mixed * spin) / determinant
        z = ((across + soft) * spin - mixed * left) / determinant
        length, limit = math.sqrt(x * x + y * y + z * z), -normal / (stiff - multiplier)
        if (multiplier == 0.0 and length <= limit) or abs(length - limit) < 1e-10 * limit:
            break
        if length > limit:
            low = multiplier
        else:
            high = multiplier
        bend = (
            x * x / (along + soft)
            + ((turning + soft) * y * y - 2 * mixed * y * z + (across + soft) * z * z) / determinant
        )
        multiplier += (length - limit) / (bend / length + limit / (stiff - multiplier))
        if not low < multiplier < high:
            multiplier = (low + high) / 2
    force, matrix, constant = contacts.force[0], contacts.curvature[0, :3, :3], contacts.slack[0, :3]
    force[0] = -normal / (stiff - multiplier)
    matrix[:] = 0
    matrix[0, 0], matrix[1, 1], matrix[2, 2] = along, across, _INVERSE[3, 3]
    matrix[1, 2] = matrix[2, 1] = _INVERSE[1, 3]
    constant[0], constant[1], constant[2] = forward, left, spin / spin_friction
    _friction(matrix, constant, force[0], force[1:])
    acceleration[0] = free[0] + force[1] / _MASS
    acceleration[1] = free[1] + _INVERSE[1, 1] * force[2] + _INVERSE[1, 3] * force[3]
    acceleration[2] = free[2] + force[0] / _MASS
    acceleration[3] = free[3] + _INVERSE[3, 1] * force[2] + _INVERSE[3, 3] * force[3]
    acceleration[4] = free[4] - arm * _INVERSE[4, 4] * force[1]
    return True


@compiled
def _cone(slack: Floats, hardness: float, force: Floats, curvature: Floats) -> None:
    """A contact's force (4,) and the second derivative (4, 4) of its cost at `slack` = J a - r.

    With n the slack across the surface and t the length of what is along it in units of friction: nothing where
    n >= t, a quadratic where n <= -t, and hardness / 4 (n - t)^2 between, the distance to the cone.
    """
    curvature[:] = 0
    normal, tangent = slack[0], 0.0
    for row in range(3):
        tangent += (_FRICTION[row] * slack[row + 1]) ** 2
    tangent = math.sqrt(tangent)
    if normal >= tangent:
        force[:] = 0
    elif normal <= -tangent:
        force[0], curvature[0, 0] = -hardness * normal, hardness
        for row in range(3):
            weight = hardness * _FRICTION[row] ** 2
            force[row + 1], curvature[row + 1, row + 1] = -weight * slack[row + 1], weight
    else:
        weight, outside = hardness / 2, normal - tangent
        force[0], curvature[0, 0] = -weight * outside, weight
        for row in range(3):
            first = _FRICTION[row] ** 2 * slack[row + 1] / tangent
            force[row + 1] = weight * outside * first
            curvature[0, row + 1] = curvature[row + 1, 0] = -weight * first
            for other in range(3):
                second = _FRICTION[other] ** 2 * slack[other + 1] / tangent
                curvature[row + 1, other + 1] = weight * (1 + outside / tangent) * first * second
            curvature[row + 1, row + 1] -= weight * outside * _FRICTION[row] ** 2 / tangent


@compiled
def _search(count: int, contacts: _Contacts, free: Floats, start: Floats, direction: Floats) -> float:
    """The step from `start` along `direction` at which the cost is about least: Newton kept between two bounds."""
    along, force, curvature = contacts.along, contacts.force, contacts.curvature
    linear, quadratic = 0.0, 0.0
    for axis in range(5):
        for other in range(5):
            linear += direction[axis] * _MASSES[axis, other] * (start[other] - free[other])
            quadratic += direction[axis] * _MASSES[axis, other] * direction[other]
    steepest = -linear
    for contact in range(count):
        for row in range(4):
            along[contact, row] = 0.0
            for axis in range(5):
                along[contact, row] += contacts.jacobian[contact, row, axis] * direction[axis]
            steepest += force[contact, row] * along[contact, row]
    low, high, step = 0.0, math.inf, 1.0
    for _ in range(_SEARCH_STEPS):
        slope, bend = linear + step * quadratic, quadratic
        for contact in range(count):
            for row in range(4):
                contacts.ahead[contact, row] = contacts.slack[contact, row] + step * along[contact, row]
            _cone(contacts.ahead[contact], contacts.hardness[contact], force[contact], curvature[contact])
            for row in range(4):
                slope -= force[contact, row] * along[contact, row]
                for other in range(4):
                    bend += along[contact, row] * curvature[contact, row, other] * along[contact, other]
        if abs(slope) <= 0.1 * steepest:
            break
        if slope < 0:
            low = step
        else:
            high = step
        step -= slope / bend
        if not low < step < high:
            step = (low + high) / 2 if high < math.inf else 2 * low
    return step


@compiled
def _descend(matrix: Floats, gradient: Floats, out: Floats) -> None:
    """Solve `matrix` (5, 5) @ `out` = -`gradient` by Cholesky's factor, which overwrites the matrix."""
    for column in range(5):
        for row in range(column, 5):
            total = matrix[row, column]
            for inner in range(column):
                total -= matrix[row, inner] * matrix[column, inner]
            matrix[row, column] = math.sqrt(total) if row == column else total / matrix[column, column]
    for row in range(5):
        total = -gradient[row]
        for inner in range(row):
            total -= matrix[row, inner] * out[inner]
        out[row] = total / matrix[row, row]
    for row in range(4, -1, -1):
        total = out[row]
        for inner in range(row + 1, 5):
            total -= matrix[inner, row] * out[inner]
        out[row] = total / matrix[row, row]


@compiled
def _no_slip(count: int, contacts: _Contacts, free: Floats, acceleration: Floats) -> None:
    """Solve each contact's friction again as if it were hard, normal forces kept, five times round."""
    jacobian, weighted, force, reference = contacts.jacobian, contacts.weighted, contacts.force, contacts.reference
    _copy(free, acceleration)
    for contact in range(count):
        for row in range(4):
            for axis in range(5):
                weighted[contact, row, axis] = 0.0
                for other in range(5):
                    weighted[contact, row, axis] += jacobian[contact, row, other] * _INVERSE[other, axis]
                acceleration[axis] += weighted[contact, row, axis] * force[contact, row]
    matrix, constant, friction, change = np.zeros((3, 3)), np.zeros(3), np.zeros(3), np.zeros(3)
    for _ in range(_NO_SLIP_SWEEPS if count > 1 else 1):  # one contact is solved at once
        for contact in range(count):
            for row in range(3):
                constant[row] = -reference[contact, row + 1]
                for axis in range(5):
                    constant[row] += jacobian[contact, row + 1, axis] * acceleration[axis]
                for other in range(3):
                    matrix[row, other] = 0.0
                    for axis in range(5):
                        matrix[row, other] += weighted[contact, row + 1, axis] * jacobian[contact, other + 1, axis]
                    constant[row] -= matrix[row, other] * force[contact, other + 1]
            _friction(matrix, constant, force[contact, 0], friction)
            cost = 0.0
            for row in range(3):
                change[row] = friction[row] - force[contact, row + 1]
                cost += change[row] * constant[row]
                for other in range(3):
                    cost += change[row] * matrix[row, other] * (friction[other] + force[contact, other + 1]) / 2
            if cost > 1e-10:  # Newton's method on the multiplier has not come to its end: MuJoCo keeps what was there
                continue
            for row in range(3):
                force[contact, row + 1] = friction[row]
                for axis in range(5):
                    acceleration[axis] += weighted[contact, row + 1, axis] * change[row]


@compiled
def _friction(matrix: Floats, constant: Floats, normal: float, out: Floats) -> None:
    """argmin 1/2 x^T A x + b^T x in the ellipsoid |x / friction| <= normal, by Newton on its multiplier; x is (3,)."""
    out[:] = 0
    a = matrix[0, 0] * _FRICTION[0] ** 2
    b = matrix[1, 1] * _FRICTION[1] ** 2
    c = matrix[2, 2] * _FRICTION[2] ** 2
    d = matrix[0, 1] * _FRICTION[0] * _FRICTION[1]
    e = matrix[0, 2] * _FRICTION[0] * _FRICTION[2]
    f = matrix[1, 2] * _FRICTION[1] * _FRICTION[2]
    u, v, w = constant[0] * _FRICTION[0], constant[1] * _FRICTION[1], constant[2] * _FRICTION[2]
    multiplier, x, y, z = 0.0, 0.0, 0.0, 0.0
    for _ in range(20):
        p, q, r = a + multiplier, b + multiplier, c + multiplier
        qr, pr, pq = q * r - f * f, p * r - e * e, p * q - d * d
        de, df, ef = e * f - d * r, d * f - e * q, d * e - f * p
        determinant = p * qr + d * de + e * df
        if determinant < 1e-10:
            return
        x = -(qr * u + de * v + df * w) / determinant
        y = -(de * u + pr * v + ef * w) / determinant
        z = -(df * u + ef * v + pq * w) / determinant
        excess = x * x + y * y + z * z - normal * normal
        if excess < 1e-10:
            break
        slope = -2 * (qr * x * x + pr * y * y + pq * z * z + 2 * (de * x * y + df * x * z + ef * y * z)) / determinant
        change = -excess / slope
        if change < 1e-10:
            break
        multiplier += change
    scale = normal / math.sqrt(x * x + y * y + z * z) if multiplier else 1.0
    out[0], out[1], out[2] = scale * x * _FRICTION[0], scale * y * _FRICTION[1], scale * z * _FRICTION[2]

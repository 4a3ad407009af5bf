"""What a portrait takes of a driver's motion.

Shape letters: B frames, E expression coefficients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..common.errors import ConfigError
from ..common.rotations import axis_angle_to_matrix, matrix_to_axis_angle, to_yaw_pitch_roll
from ..head.adjust import TURNS
from ..head.attributes import FaceAttributes, compose_each
from ..head.axes import EXPRESSION_AXES, check_names
from ..vocabulary import FRAMINGS, TAKEABLE

REGIONS = {"eyes": ("eye",), "mouth": ("mouth", "jaw", "tongue", "cheekPuff")}  # region -> how its coefficients' names begin
ROWS = {"eyes": (3, 4), "mouth": (2,)}  # of the rotations
GROUPS = ("pose", "expression")


@dataclass(frozen=True)
class Motion:
    """What of a driver's face a portrait takes, and how.

    take       groups, of vocabulary.TAKEABLE
    strengths  group -> 0..1, how far to go towards the driver
    relative   add how far the driver went from a frame of theirs to the portrait's own numbers, instead of setting the driver's
    factors    number -> what the driver's motion is multiplied by: a turn, an expression axis or coefficient, or "pose" or "expression" for
               all of them
    only       "eyes" or "mouth": of the expression this alone, and no pose
    framing    "query" moves the head in the frame as the driver does, too

    Raises:
        ConfigError: an unknown name.
    """

    take: tuple[str, ...] = GROUPS
    strengths: Mapping[str, float] = field(default_factory=dict)
    relative: bool = False
    factors: Mapping[str, float] = field(default_factory=dict)
    only: str | None = None
    framing: str = FRAMINGS[0]

    def __post_init__(self) -> None:
        check_names("take", self.take, TAKEABLE)
        check_names("multiply", self.factors, (*GROUPS, *TURNS, *EXPRESSION_AXES))
        check_names("framing", [self.framing], FRAMINGS)
        if self.only is not None:
            check_names("only", [self.only], REGIONS)

    def targets(
        self, source: FaceAttributes, driver: FaceAttributes, rest: FaceAttributes, expression_names: Sequence[str]
    ) -> FaceAttributes:
        """The portrait's numbers in every frame.

        Args:
            source: one face, the portrait's own.
            driver: of B frames.
            rest: one frame of the driver, from which relative motion is counted.
            expression_names: of the E coefficients.

        Raises:
            ConfigError: the head model lacks an expression that a factor names.
        """
        source, rest = source.expand(len(driver)), rest.expand(len(driver))
        factors = self._expression_factors(driver.expression, expression_names)
        moved = replace(
            source,
            pose=self._pose(source, driver, rest),
            camera=_camera(source, driver, rest) if self.relative else driver.camera,
            expression=self._expression(source, driver, rest, factors),
            light=source.light + driver.light - rest.light if self.relative else driver.light,
        )
        take = self.take if self.only is None else tuple(name for name in self.take if name != "pose")
        givers: dict[str, tuple[FaceAttributes | None, float]] = {name: (moved, self.strengths.get(name, 1.0)) for name in take}
        return self._limited(source, compose_each(source, givers, self.framing == FRAMINGS[0]), expression_names)

    def _pose(self, source: FaceAttributes, driver: FaceAttributes, rest: FaceAttributes) -> Tensor:
        """(B,5,3): the neck takes all of the head's turn, as in `head.adjust`."""
        all_turns = self.factors.get("pose", 1.0)
        factors = torch.tensor([all_turns * self.factors.get(name, 1.0) for name in TURNS]).to(driver.pose)
        angles = factors * _angles(driver)
        if self.relative:
            angles = _angles(source) + angles - factors * _angles(rest)
        whole = axis_angle_to_matrix(source.pose[:, 0])
        neck = matrix_to_axis_angle(whole.transpose(-1, -2) @ _turn(angles))
        rows = driver.pose[:, 2:]
        if self.relative:
            turns = axis_angle_to_matrix(rows) @ axis_angle_to_matrix(rest.pose[:, 2:]).transpose(-1, -2)
            rows = matrix_to_axis_angle(turns @ axis_angle_to_matrix(source.pose[:, 2:]))
        return torch.cat([source.pose[:, :1], neck[:, None], rows], 1)

    def _expression(self, source: FaceAttributes, driver: FaceAttributes, rest: FaceAttributes, factors: Tensor) -> Tensor:
        """(B,E), within 0..1 or where the driver or the portrait has them outside."""
        if not self.relative and not self.factors:
            return driver.expression
        own, theirs = source.expression, driver.expression
        wanted = own + factors * (theirs - rest.expression) if self.relative else factors * theirs
        return wanted.clamp(min=torch.minimum(own, theirs).clamp_max(0), max=torch.maximum(own, theirs).clamp_min(1))

    def _expression_factors(self, expression: Tensor, names: Sequence[str]) -> Tensor:
        """(E,)"""
        factors = torch.full_like(expression[0], self.factors.get("expression", 1.0))
        for name, factor in self.factors.items():
            axis = EXPRESSION_AXES.get(name)
            for coefficient in () if axis is None else {**axis.positive, **axis.negative}:
                if coefficient not in names:
                    raise ConfigError(f"multiply: this head model has no expression {coefficient}, which {name} needs")
                factors[list(names).index(coefficient)] *= factor
        return factors

    def _limited(self, source: FaceAttributes, target: FaceAttributes, names: Sequence[str]) -> FaceAttributes:
        """The target in the eyes or the mouth alone."""
        if self.only is None or target is source:
            return target
        kept = torch.tensor([name.startswith(REGIONS[self.only]) for name in names], device=target.expression.device)
        if not bool(kept.any()):
            raise ConfigError(f"only: this head model's expressions do not say which are of the {self.only}; leave it out")
        pose = source.pose.clone()
        rows = list(ROWS[self.only])
        pose[:, rows] = target.pose[:, rows]
        return replace(target, pose=pose, expression=torch.where(kept, target.expression, source.expression))


def _angles(face: FaceAttributes) -> Tensor:
    """(B,3) yaw, pitch and roll of the head in the world, in degrees."""
    turn = axis_angle_to_matrix(face.pose[:, 0]) @ axis_angle_to_matrix(face.pose[:, 1])
    return to_yaw_pitch_roll(matrix_to_axis_angle(turn))


def _turn(angles: Tensor) -> Tensor:
    """(B,3) yaw, pitch and roll in degrees -> (B,3,3), as `rotations.from_yaw_pitch_roll`."""
    axes = torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, -1]]).to(angles)
    yaw, pitch, roll = (axis_angle_to_matrix(torch.deg2rad(angles[:, i : i + 1]) * axes[i]) for i in range(3))
    return yaw @ pitch @ roll


def _camera(source: FaceAttributes, driver: FaceAttributes, rest: FaceAttributes) -> Tensor:
    """(B,3): as much nearer and as far to the side, in sizes of the head, as the driver went."""
    scale = source.camera[:, :1] * driver.camera[:, :1] / rest.camera[:, :1]
    went = (driver.camera[:, :1] * driver.camera[:, 1:] - rest.camera[:, :1] * rest.camera[:, 1:]) / rest.camera[:, :1]
    place = source.camera[:, :1] * (source.camera[:, 1:] + went)
    return torch.cat([scale, place / scale], 1)

"""The morphable head (paper Eq. 2): template, shape, expression, linear blend skinning, albedo. FLAME and the open head are two files.

Shape letters: B batch, V vertices, F faces, T uv coordinates, S shape, E expression, A albedo, J joints (5), N landmarks (478),
R texels along a side of the albedo map, H and W image height and width.
Axes: x right in the image (the subject's left), y up, z to the viewer; metres; rotations are axis-angle in radians.
The arithmetic is FLAME's (decalib/models/lbs.py): blend shapes, joints regressed from the unposed head, optional pose
correctives, rigid chain [global, neck, jaw, left eye, right eye] with parents [-1, 0, 1, 1, 1].
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..common.checkpoint import asset_path, load_checkpoint
from ..common.errors import AttributeShapeError, CheckpointError
from ..common.rotations import axis_angle_to_matrix
from .rasterizer import Raster, interpolate_corners

PARENTS = (-1, 0, 1, 1, 1)
LABELS = ("face", "scalp", "neck", "shoulders", "ears", "lips", "mouth", "teeth", "tongue", "eyes", "sockets")
FACE_MESH = 468  # landmarks of MediaPipe's face mesh without the ten of the irises
BUNDLED = "open_head.safetensors"
REQUIRED = ("template", "shape_basis", "expression_basis", "joint_regressor", "skin_weights", "faces")


class HeadModel(nn.Module):
    """One morphable head.

    Tensors (a file may lack those marked *):
      template (V,3), shape_basis (S,V,3), expression_basis (E,V,3), joint_regressor (J,V), skin_weights (V,J), faces (F,3)
      pose_basis* (36,V,3)  correctives for the rotation matrices of joints 1..4 minus identity (FLAME's posedirs)
      uvs* (T,2) with v up, uv_faces* (F,3); albedo_mean* (3,R,R), albedo_basis* (A,3,r,r), sRGB values 0..1, row 0 at the top (v = 1)
      labels* (V,) and face_labels* (F,): index into LABELS
      landmark_faces* (N,), landmark_bary* (N,3): MediaPipe's 478 landmarks on the mesh (FLAME with DECA's embedding: the 68 of iBUG)
      static_faces* (51,), static_bary* (51,3), contour_faces* (79,17), contour_bary* (79,17,3): FLAME's landmarks inside the face, and
      its contour for each degree of yaw (`contour_landmarks`)
      uv_detail_mask* (R,R) where a detail displacement acts, fixed_displacement* (R,R) metres, uv_face_mask* (R,R): DECA's UV maps
      mirror* (V,), landmark_mirror* (N,): permutations of the left-right reflection; shape_parity* (S,), albedo_parity* (A,): +1 or -1,
      the sign of a coefficient under reflection; expression_mirror* (E,): permutation of the expressions
    All are buffers that are not saved with a module's state: a head is data, not a trained part of another model.
    Config: name, expression_names, albedo_space ("srgb"), albedo_range (lowest, highest) or None, landmarks ("mediapipe-478", "ibug-68").

    Raises:
        CheckpointError: a tensor is missing, or does not fit the others.
    """

    template: Tensor
    shape_basis: Tensor
    expression_basis: Tensor
    joint_regressor: Tensor
    skin_weights: Tensor
    faces: Tensor
    pose_basis: Tensor
    uvs: Tensor
    uv_faces: Tensor
    albedo_mean: Tensor
    albedo_basis: Tensor
    labels: Tensor
    face_labels: Tensor
    landmark_faces: Tensor
    landmark_bary: Tensor
    landmark_mirror: Tensor
    static_faces: Tensor
    static_bary: Tensor
    contour_faces: Tensor
    contour_bary: Tensor
    uv_detail_mask: Tensor
    fixed_displacement: Tensor
    mirror: Tensor
    shape_parity: Tensor
    albedo_parity: Tensor
    expression_mirror: Tensor

    def __init__(self, config: dict, tensors: dict[str, Tensor], license: str = "") -> None:
        super().__init__()
        self.license = license
        missing = [name for name in REQUIRED if name not in tensors]
        if missing:
            raise CheckpointError(f"head model '{config.get('name')}': lacks {', '.join(missing)}; convert it again")
        self.config = config
        self.name: str = config["name"]
        self.expression_names: tuple[str, ...] = tuple(config["expression_names"])
        t = dict(tensors)
        if "albedo_mean" in t and t["albedo_mean"].dtype == torch.uint8:
            t["albedo_mean"] = t["albedo_mean"].float() / 255
        parities = ("shape_parity", "albedo_parity")
        t = {k: v if v.is_floating_point() else v.float() if k in parities else v.long() for k, v in t.items()}
        v, f = t["template"].shape[0], t["faces"].shape[0]
        t.setdefault("labels", torch.zeros(v, dtype=torch.long))
        t.setdefault("face_labels", t["labels"][t["faces"][:, 0]])
        t.setdefault("uvs", torch.zeros(1, 2))
        t.setdefault("uv_faces", torch.zeros(f, 3, dtype=torch.long))
        t.setdefault("albedo_mean", torch.full((3, 2, 2), 0.6))
        t.setdefault("albedo_basis", torch.zeros(0, 3, 2, 2))
        t.setdefault("landmark_faces", torch.zeros(0, dtype=torch.long))
        t.setdefault("landmark_bary", torch.zeros(0, 3))
        t.setdefault("landmark_mirror", torch.arange(t["landmark_faces"].shape[0]))
        t.setdefault("mirror", torch.zeros(0, dtype=torch.long))
        t.setdefault("shape_parity", torch.ones(t["shape_basis"].shape[0]))
        t.setdefault("albedo_parity", torch.ones(t["albedo_basis"].shape[0]))
        t.setdefault("expression_mirror", torch.arange(t["expression_basis"].shape[0]))
        for name, tensor in t.items():
            self.register_buffer(name, tensor, persistent=False)
        self.has_pose_basis = "pose_basis" in t
        self.has_contour = "contour_faces" in t and "static_faces" in t
        self.has_detail_maps = "uv_detail_mask" in t and "fixed_displacement" in t and "uvs" in tensors
        self._check_sizes()

    def _check_sizes(self) -> None:
        v = self.template.shape[0]
        wrong = [
            name
            for name, size in (
                ("shape_basis", self.shape_basis.shape[1]),
                ("expression_basis", self.expression_basis.shape[1]),
                ("joint_regressor", self.joint_regressor.shape[1]),
                ("skin_weights", self.skin_weights.shape[0]),
            )
            if size != v
        ]
        joints = (self.joint_regressor.shape[0], self.skin_weights.shape[1])
        wrong += ["joint_regressor and skin_weights"] if joints != (len(PARENTS), len(PARENTS)) else []
        wrong += ["uv_faces"] if self.uv_faces.shape != self.faces.shape or int(self.uv_faces.max()) >= len(self.uvs) else []
        wrong += ["landmark_faces"] if len(self.landmark_faces) and int(self.landmark_faces.max()) >= len(self.faces) else []
        if wrong or len(self.expression_names) != self.expression_basis.shape[0] or int(self.faces.max()) >= v:
            raise CheckpointError(
                f"head model '{self.name}': {', '.join(wrong) or 'names or faces'} do not fit its {v} vertices; convert it again"
            )

    @staticmethod
    def load(path: str | Path | None = None) -> HeadModel:
        """A head from a file.

        Args:
            path: a file of kind "head"; None is the bundled open head.

        Raises:
            CheckpointError: the file cannot be read, or holds something else.
        """
        path = asset_path(BUNDLED) if path is None else Path(path)
        checkpoint = load_checkpoint(path, kind="head")
        tensors = dict(checkpoint.tensors)
        if "expression_pairs" in tensors:
            tensors = expand_pairs(tensors)
        return HeadModel(checkpoint.config, tensors, checkpoint.license)

    @property
    def shape_count(self) -> int:
        """Number of shape coefficients (S)."""
        return self.shape_basis.shape[0]

    @property
    def expression_count(self) -> int:
        """Number of expressions (E)."""
        return self.expression_basis.shape[0]

    @property
    def albedo_count(self) -> int:
        """Number of albedo coefficients (A)."""
        return self.albedo_basis.shape[0]

    @property
    def vertex_count(self) -> int:
        """Number of vertices (V)."""
        return self.template.shape[0]

    def unposed(self, shape: Tensor, expression: Tensor) -> Tensor:
        """The head before skinning. Fewer coefficients than S or E mean zeros.

        Args:
            shape: (B,S).
            expression: (B,E).

        Returns:
            vertices (B,V,3) in metres.

        Raises:
            AttributeShapeError: more coefficients than the head has.
        """
        s, e = shape.shape[1], expression.shape[1]
        if s > self.shape_count or e > self.expression_count:
            raise AttributeShapeError(
                f"attributes: {s} shape and {e} expression numbers, but head model '{self.name}' has {self.shape_count} and "
                f"{self.expression_count}; estimate them with this head"
            )
        offsets = shape @ self.shape_basis[:s].flatten(1) + expression @ self.expression_basis[:e].flatten(1)
        return self.template + offsets.view(-1, self.vertex_count, 3)

    def joints(self, shape: Tensor, expression: Tensor | None = None) -> Tensor:
        """Rest joints (B,5,3). FLAME regresses them from the shaped and expressed head; without expression it is the neutral face."""
        if expression is None:
            expression = shape.new_zeros(shape.shape[0], 0)
        return torch.einsum("jv,bvk->bjk", self.joint_regressor, self.unposed(shape, expression))

    def posed_joints(self, shape: Tensor, expression: Tensor, pose: Tensor) -> Tensor:
        """Joints after posing (B,5,3); arguments as `forward`."""
        return torch.stack(_chain(axis_angle_to_matrix(pose), self.joints(shape, expression))[1], 1)

    def forward(
        self, shape: Tensor, expression: Tensor, pose: Tensor, offsets: Tensor | None = None, joints: Tensor | None = None
    ) -> Tensor:
        """The posed head, M of Eq. 2.

        Args:
            shape: (B,S).
            expression: (B,E).
            pose: (B,5,3) axis-angle in radians of global, neck, jaw, left eye, right eye.
            offsets: (B,V,3) metres, added to the unposed vertices; the joints stay.
            joints: (B,5,3) rest joints to turn around; None for those of the expressed head, as FLAME does.

        Returns:
            vertices (B,V,3) in metres; x right in the image, y up, z to the viewer.

        Raises:
            AttributeShapeError: more coefficients than the head has.

        >>> import torch
        >>> from difffae.head.morphable import HeadModel
        >>> head = HeadModel.load()
        >>> head(torch.zeros(1, head.shape_count), torch.zeros(1, head.expression_count), torch.zeros(1, 5, 3)).shape
        torch.Size([1, 5829, 3])
        """
        # Eq. 2, M = W(T_P, J, pose, weights): T_P is `rest`, to which the pose adds its correctives, J the joints
        rest = self.unposed(shape, expression)
        joints = torch.einsum("jv,bvk->bjk", self.joint_regressor, rest) if joints is None else joints
        if offsets is not None:
            rest = rest + offsets
        rotations = axis_angle_to_matrix(pose)  # (B,5,3,3)
        if self.has_pose_basis:
            feature = (rotations[:, 1:] - torch.eye(3, dtype=rest.dtype, device=rest.device)).flatten(1)
            rest = rest + (feature @ self.pose_basis.flatten(1)).view_as(rest)
        return skinned(rest, self.skin_weights, joint_motion(rotations, joints))

    @property
    def has_face_mesh(self) -> bool:
        """Whether the landmarks are MediaPipe's face mesh, with or without irises, and not iBUG's 68 or none."""
        return len(self.landmark_faces) >= FACE_MESH

    def vertex_mask(self, *names: str) -> Tensor:
        """(V,) bool: vertices of the parts of these names (see LABELS)."""
        return labelled(self.labels, *names)

    def landmarks(self, vertices: Tensor) -> Tensor:
        """vertices (B,V,3) -> the file's landmarks (B,N,3) in the same space: MediaPipe's 478, or iBUG's 68 on FLAME."""
        corners = vertices[:, self.faces[self.landmark_faces]]  # (B,N,3,3)
        return (corners * self.landmark_bary[..., None]).sum(2)

    def contour_landmarks(self, vertices: Tensor, pose: Tensor) -> Tensor:
        """iBUG's 68 landmarks as they are seen in a picture.

        The 17 of the jaw line slide along the cheek with the yaw of global and neck rotation in whole
        degrees, -39 to 39, the other 51 stay on their triangles (DECA's landmarks2d).

        Args:
            vertices: (B,V,3) in any space.
            pose: (B,5,3).

        Returns:
            (B,68,3) in the vertices' space.

        Raises:
            CheckpointError: a head without these tables.
        """
        if not self.has_contour:
            raise CheckpointError(f"head model '{self.name}': has no contour table; convert it again with DECA's landmark_embedding.npy")
        turn = axis_angle_to_matrix(pose[:, :2])
        total = turn[:, 0] @ turn[:, 1]
        yaw = torch.atan2(-total[:, 2, 0], torch.hypot(total[:, 0, 0], total[:, 1, 0]))
        degrees = torch.rad2deg(yaw).clamp(max=39).round().long()
        # rows 0..39 are the yaws 0..39, rows 40..78 the yaws -1..-39
        row = torch.where(degrees < 0, torch.where(degrees < -39, 78, 39 - degrees), degrees)
        b = vertices.shape[0]
        number = torch.cat([self.contour_faces[row], self.static_faces.expand(b, -1)], 1)  # (B,68)
        bary = torch.cat([self.contour_bary[row], self.static_bary.expand(b, -1, -1)], 1)
        corner = self.faces[number].flatten(1)[..., None].expand(-1, -1, vertices.shape[2])
        corners = vertices.gather(1, corner).unflatten(1, (-1, 3))  # (B,68,3,3)
        return (corners * bary[..., None]).sum(2)

    def albedo(self, coefficients: Tensor) -> Tensor:
        """(B,A) -> albedo map (B,3,R,R), sRGB values; row 0 is v = 1."""
        count = coefficients.shape[1]
        offset = torch.einsum("ba,achw->bchw", coefficients, self.albedo_basis[:count])
        size = self.albedo_mean.shape[-2:]
        if offset.shape[-2:] != size:
            offset = F.interpolate(offset, size, mode="bilinear", align_corners=False)
        return self._limit(self.albedo_mean + offset)

    def _limit(self, albedo: Tensor) -> Tensor:
        limits = self.config.get("albedo_range")
        return albedo if limits is None else albedo.clamp(*limits)

    def uv_grid(self, raster: Raster) -> Tensor:
        """Sampling grid (B,H,W,2) for grid_sample of albedo maps; any value where the mask is empty."""
        uv = interpolate_corners(raster, self.uvs[self.uv_faces])  # (B,2,H,W)
        return torch.stack([uv[:, 0] * 2 - 1, 1 - uv[:, 1] * 2], -1)

    def albedo_samples(self, raster: Raster) -> tuple[Tensor, Tensor]:
        """The albedo model at each pixel: mean (B,3,H,W) and basis (B,A,3,H,W), zero outside the mesh."""
        grid = self.uv_grid(raster)
        b, h, w = raster.face.shape
        inside = (raster.face >= 0)[:, None]
        mean = F.grid_sample(self.albedo_mean.expand(b, -1, -1, -1), grid, padding_mode="border", align_corners=False) * inside
        flat = self.albedo_basis.flatten(0, 1)
        if not len(flat):
            return mean, mean.new_zeros(b, 0, 3, h, w)
        basis = F.grid_sample(flat.expand(b, -1, -1, -1), grid, padding_mode="border", align_corners=False) * inside
        return mean, basis.view(b, -1, 3, h, w)

    def label_map(self, raster: Raster) -> Tensor:
        """(B,H,W) index into LABELS, -1 outside the mesh."""
        labels = self.face_labels[raster.face.clamp_min(0)]
        return torch.where(raster.face >= 0, labels, torch.full_like(labels, -1))

    def part_mask(self, raster: Raster, *names: str) -> Tensor:
        """(B,H,W) bool: pixels whose label is one of `names` (see LABELS)."""
        chosen = F.pad(labelled(self.face_labels, *names), (1, 0))  # the first is for pixels without a face
        return chosen.index_select(0, (raster.face + 1).flatten()).view_as(raster.face)

    def skin_mask(self, raster: Raster) -> Tensor:
        """(B,H,W) bool: bare skin of face and ears, where a photograph shows albedo times light."""
        return self.part_mask(raster, "face", "ears")


def _chain(rotations: Tensor, joints: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Per joint: world rotation (B,3,3), place (B,3), shift = place - rotation @ rest place (B,3).

    rotations (B,J,3,3) are relative to the parent's, joints (B,J,3) the rest places.
    """
    turns: list[Tensor] = []
    places: list[Tensor] = []
    shifts: list[Tensor] = []
    for j, parent in enumerate(PARENTS):
        turn = rotations[:, j] if parent < 0 else turns[parent] @ rotations[:, j]
        joint = joints[:, j]
        place = joint if parent < 0 else shifts[parent] + (turns[parent] @ joint[..., None])[..., 0]
        turns.append(turn)
        places.append(place)
        shifts.append(place - (turn @ joint[..., None])[..., 0])
    return turns, places, shifts


def joint_motion(rotations: Tensor, joints: Tensor) -> Tensor:
    """What posing does to every joint, less the identity: (B,J,3,4); arguments as `_chain`."""
    turns, _, shifts = _chain(rotations, joints)
    identity = torch.eye(3, dtype=joints.dtype, device=joints.device)
    return torch.cat([torch.stack(turns, 1) - identity, torch.stack(shifts, 1)[..., None]], -1)


def skinned(rest: Tensor, weights: Tensor, motion: Tensor) -> Tensor:
    """Points that follow the joints: W of Eq. 2.

    The offset of a point is the sum over the joints of weight * (moved - rest): exactly zero at the
    neutral pose.

    Args:
        rest: (B,P,3), the points before posing (T_P of Eq. 2).
        weights: (P,J).
        motion: (B,J,3,4) of `joint_motion`.

    Returns:
        (B,P,3).
    """
    blended = (weights @ motion.flatten(2)).view(rest.shape[0], -1, 3, 4)
    return rest + (blended[..., :3] @ rest[..., None])[..., 0] + blended[..., 3]


def label_index(name: str) -> int:
    """Index of a part in LABELS. Raises ValueError for a name that is none."""
    return LABELS.index(name)


def labelled(labels: Tensor, *names: str) -> Tensor:
    """Of indices into LABELS (...): whether they are of one of `names`, bool (...)."""
    found = torch.zeros_like(labels, dtype=torch.bool)
    for name in names:
        found |= labels == label_index(name)
    return found


def expand_pairs(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo the file's compact storage: mirrored expressions are stored once.

    Args:
        tensors: with expression_basis (E',V,3), the stored ones, and expression_pairs (E,2): for each
            expression its row and whether it is that row's left-right reflection.

    Returns:
        the tensors with expression_basis (E,V,3) and without the pairs.
    """
    out = dict(tensors)
    pairs = out.pop("expression_pairs").long()
    stored, mirror = out["expression_basis"], out["mirror"].long()
    chosen = stored[pairs[:, 0]]
    flipped = chosen[:, mirror] * torch.tensor([-1.0, 1.0, 1.0])
    out["expression_basis"] = torch.where(pairs[:, 1].bool()[:, None, None], flipped, chosen)
    return out

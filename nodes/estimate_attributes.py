"""Estimate pose, expression, light, shape and skin colour of a face as numbers of the 3D head."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..difffae.vocabulary import ESTIMATORS
from .sockets import AttributesSocket, BundleSocket, CropSocket


class DiffFAEEstimateAttributes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAEEstimateAttributes",
            display_name="Estimate Face Attributes (DiffFAE)",
            category="DiffFAE/attributes",
            description="Reads head pose, expression, light, shape and skin colour off a face, as numbers of a 3D head. Wire the source through "
            "Crop Face; a reference picture can be wired directly.",
            search_aliases=["head pose", "expression", "lighting estimation", "face 3D", "DECA", "FLAME", "3DMM"],
            inputs=[
                BundleSocket.Input("difffae", tooltip="From Load DiffFAE."),
                io.Image.Input("image", tooltip="Crops of Crop Face, or any pictures: those are cropped around their largest face first."),
                CropSocket.Input(
                    "crop",
                    optional=True,
                    tooltip="From the same Crop Face as the image: its landmarks are used and no face is searched again.",
                ),
                io.Combo.Input(
                    "estimator",
                    options=list(ESTIMATORS),
                    default=ESTIMATORS[0],
                    optional=True,
                    tooltip="fit follows the face's landmarks and light closest. network is many times faster, for long videos.",
                ),
            ],
            outputs=[AttributesSocket.Output("attributes", display_name="attributes", tooltip="One set of numbers per frame.")],
        )

    @classmethod
    def execute(cls, difffae, image, crop=None, estimator="fit") -> io.NodeOutput:
        from ..difffae.edit.analysing import estimated
        from .analysis import faces_of
        from .frames import to_pictures

        reader = difffae.network if estimator == "network" else difffae.estimator
        return io.NodeOutput(estimated(difffae, faces_of(difffae, to_pictures(image), crop), reader))

"""Cut the square around a face out of every frame."""

from __future__ import annotations

from comfy_api.v0_0_2 import io

from ..difffae.vocabulary import MISSING_FACE
from .sockets import BundleSocket, CropSocket, LandmarksSocket, SegsSocket


class DiffFAECropFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAECropFace",
            display_name="Crop Face (DiffFAE)",
            category="DiffFAE",
            description="Finds a face and cuts out the square that the model edits: hair and shoulders come along. A batch is a video: the "
            "same face is followed from frame to frame. DiffFAE Paste Back is its inverse.",
            search_aliases=["crop face", "face detect", "align face", "face crop", "extract face"],
            inputs=[
                BundleSocket.Input("difffae", tooltip="From Load DiffFAE."),
                io.Image.Input("image", tooltip="Picture, or frames of a video. A fourth channel is transparency, as mask is."),
                io.Int.Input(
                    "face", default=0, min=0, max=63, tooltip="Which face, if there are several: 0 is the largest, 1 the next ..."
                ),
                io.Combo.Input(
                    "missing_face",
                    options=list(MISSING_FACE),
                    default=MISSING_FACE[0],
                    advanced=True,
                    tooltip="Frames that do not show the person: stop with an error that names the frame, or pass them unchanged; what they give to "
                    "other videos is then interpolated between the frames around, or repeated.",
                ),
                io.Float.Input(
                    "smoothing",
                    default=0.0,
                    min=0.0,
                    max=30.0,
                    step=0.5,
                    advanced=True,
                    tooltip="Frames over which the square's place and size are averaged in a video; 0 follows the face exactly and may jitter.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Of a cut-out: Load Image's mask, 1 where it is transparent. The transparency then moves with the person.",
                ),
                LandmarksSocket.Input(
                    "face_landmarks", optional=True, tooltip="Faces of ComfyUI's MediaPipe node; then our detector is not run."
                ),
                io.BoundingBox.Input(
                    "bboxes", optional=True, force_input=True, tooltip="Boxes around faces; then only they are looked at, in their order."
                ),
                SegsSocket.Input(
                    "segs",
                    optional=True,
                    tooltip="Faces found by a detector of Impact Pack; then only their boxes are looked at, in their order.",
                ),
                io.Boolean.Input(
                    "all_faces",
                    default=False,
                    optional=True,
                    advanced=True,
                    tooltip="On: all faces of one picture as a batch, the largest first, which Paste Back puts back one after another.",
                ),
            ],
            outputs=[
                io.Image.Output("crop_image", display_name="crop", tooltip="The squares, at the model's size."),
                io.Mask.Output("known", display_name="known", tooltip="1 where the square shows the picture, 0 where it left it."),
                CropSocket.Output(
                    "crop", display_name="crop_info", tooltip="Where the squares were, for Estimate Attributes, Carry and Paste Back."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, difffae, image, face, missing_face, smoothing, mask=None, face_landmarks=None, bboxes=None, segs=None, all_faces=False
    ) -> io.NodeOutput:
        from ..difffae.edit.analysing import Choice
        from .analysis import chosen_faces
        from .frames import to_image, to_mask

        choice = Choice(face, missing_face, smoothing)
        crop = chosen_faces(difffae, image, mask, choice, all_faces, face_landmarks, bboxes, segs)
        return io.NodeOutput(to_image(crop.picture), to_mask(crop.inside_picture), crop)

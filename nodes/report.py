"""Measure how well an edit kept the person and took what it should."""

from __future__ import annotations

from comfy_api.v0_0_2 import io, ui

from .sockets import BundleSocket, CropSocket, ReportSocket


class DiffFAEReport(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="DiffFAEReport",
            display_name="Report (DiffFAE)",
            category="DiffFAE",
            description="Measures the result on the pictures themselves: is it still the same person, and how much of the reference's pose, expression "
            "and light arrived. The paper's CSIM, APD, AED and ALD, for your own pictures.",
            search_aliases=["identity distance", "face similarity", "measure edit", "CSIM", "evaluate face"],
            is_output_node=True,
            inputs=[
                BundleSocket.Input("difffae", tooltip="From Load DiffFAE."),
                io.Image.Input("source", tooltip="The portrait before the edit."),
                io.Image.Input("result", tooltip="The portrait after it."),
                io.Image.Input("reference", optional=True, tooltip="The portrait it took from. Without one only the identity is measured."),
                CropSocket.Input(
                    "crop",
                    optional=True,
                    tooltip="From the Crop Face of the edit: says which face of a group picture or video is measured.",
                ),
                io.Int.Input(
                    "face",
                    default=0,
                    min=0,
                    max=63,
                    optional=True,
                    advanced=True,
                    tooltip="Without a crop: which face of the source was edited, 0 is the largest.",
                ),
            ],
            outputs=[
                io.String.Output("text", display_name="text", tooltip="All numbers, one a line."),
                io.Float.Output(
                    "identity_distance",
                    display_name="identity_distance",
                    tooltip="Mean over frames; with the bundled identity network the same person is up to 0.43.",
                ),
                io.Float.Output(
                    "pose_error", display_name="pose_error", tooltip="Degrees, mean of yaw, pitch and roll; NaN without a reference."
                ),
                io.Float.Output(
                    "expression_quotient",
                    display_name="expression_quotient",
                    tooltip="Error left over error before: 0 all arrived, 1 nothing.",
                ),
                io.Float.Output(
                    "light_quotient", display_name="light_quotient", tooltip="Error left over error before: 0 all arrived, 1 nothing."
                ),
                ReportSocket.Output("report", display_name="report", tooltip="For Save Image with Recipe."),
            ],
        )

    @classmethod
    def execute(cls, difffae, source, result, reference=None, crop=None, face=0) -> io.NodeOutput:
        from .measuring import measure_frames

        report = measure_frames(difffae, source, result, reference, face if crop is None else crop)
        text = report.text()
        means = (report.mean("identity"), report.mean("yaw_error", "pitch_error", "roll_error"))
        quotients = (report.mean("expression_quotient"), report.mean("light_quotient"))
        return io.NodeOutput(text, *means, *quotients, report, ui=ui.PreviewText(text))

"""Chains of nodes that every workflow needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workflow_graph import Graph, Node, Out

# what nobody saw is repaired, and the rest of the carried photograph stays; a swap by tokens alone needs 1
EDIT_DENOISE = 0.2


@dataclass
class Face:
    """A portrait and what was read from it."""

    picture: Out
    crop: Node
    attributes: Out
    slots: Node
    identity: Out
    nodes: list[Node]


class Chains:
    """Nodes that every workflow needs, on one graph with one loader."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.loader = graph.node("DiffFAELoader")
        self.model, self.vae, self.difffae = self.loader["MODEL"], self.loader["VAE"], self.loader["difffae"]

    def example(self, picture: str, title: str) -> Node:
        return self.graph.node("DiffFAEExamplePortrait", picture=picture, title=title)

    def face(self, picture: Out, **crop_options: Any) -> Face:
        """Everything that is read from the portrait to edit."""
        node = self.graph.node
        crop = node("DiffFAECropFace", difffae=self.difffae, image=picture, **crop_options)
        attributes = node("DiffFAEEstimateAttributes", difffae=self.difffae, image=crop["crop"], crop=crop["crop_info"])
        slots = node("DiffFAEEncodeSlots", difffae=self.difffae, image=crop["crop"])
        identity = node("DiffFAEIdentityToken", difffae=self.difffae, image=crop["crop"], crop=crop["crop_info"])
        return Face(picture, crop, attributes["attributes"], slots, identity["identity"], [crop, attributes, slots, identity])

    def attributes(self, picture: Out, title: str | None = None) -> Node:
        """Of a reference: it needs no crop of its own."""
        return self.graph.node("DiffFAEEstimateAttributes", difffae=self.difffae, image=picture, title=title)

    def tokens(self, picture: Out, title: str) -> list[Node]:
        """Crop and tokens of a reference whose hair, clothes or background are wanted."""
        crop = self.graph.node("DiffFAECropFace", difffae=self.difffae, image=picture, title=f"Crop: {title}")
        shown = {"image": crop["crop"], "crop": crop["crop_info"]}
        return [crop, self.graph.node("DiffFAEEncodeSlots", difffae=self.difffae, **shown, title=f"Tokens: {title}")]

    def condition(self, face: Face, target: Out, slots: Out | None = None) -> tuple[Node, Node, Node]:
        """Render, carried photograph, conditioning."""
        node, slots = self.graph.node, slots or face.slots["slots"]
        render = node("DiffFAERenderFace", difffae=self.difffae, attributes=target)
        carry = node(
            "DiffFAECarryPhoto",
            **{"difffae": self.difffae, "image": face.crop["crop"], "source": face.attributes, "target": target},
            **{"crop": face.crop["crop_info"], "slots": slots},
        )
        told = node("DiffFAEConditioning", vae=self.vae, slots=slots, identity=face.identity, render=render["render"], carry=carry["carry"])
        return render, carry, told

    def paint(self, face: Face, told: Node, carry: Node, **settings: Any) -> tuple[Node, Node]:
        """Sampler and paste back."""
        told_all = {"model": self.model, "vae": self.vae, "positive": told["positive"], "latent": told["latent"]}
        sampler = self.graph.node("DiffFAESampler", **told_all, **{"denoise": EDIT_DENOISE} | settings)
        return sampler, self.paste(face, sampler["image"], carry)

    def paste(self, face: Face, edited: Out, carry: Node) -> Node:
        return self.graph.node("DiffFAEPasteBack", original=face.picture, edited=edited, crop=face.crop["crop_info"], carry=carry["carry"])

    def closer(self, face: Face, pasted: Node) -> list[Node]:
        """The square before and after."""
        squares = {"Before": face.crop["crop"], "After": pasted["crop"]}
        return [self.graph.node("PreviewImage", images=out, title=title) for title, out in squares.items()]

    def report(self, face: Face, result: Out, reference: Out | None = None) -> list[Node]:
        more = {} if reference is None else {"reference": reference}
        report = self.graph.node("DiffFAEReport", difffae=self.difffae, source=face.picture, result=result, **more)
        return [report, self.graph.node("PreviewAny", source=report["text"], title="Numbers")]

    def save(self, result: Out, prefix: str, target: Out, report: Node | None = None) -> Node:
        more = {} if report is None else {"report": report["report"]}
        return self.graph.node(
            "DiffFAESaveImage", images=result, filename_prefix=prefix, difffae=self.difffae, attributes=target, **more, title="Result"
        )

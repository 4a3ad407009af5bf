"""Draw the pictures of the node pages, web/docs/<node id>.webp, by running the nodes on the two bundled portraits in ComfyUI.

.comfyui/venv/bin/python scripts/node_pictures.py [NODE_ID ...]      by default of all nodes
"""

from __future__ import annotations

import needs  # noqa: F401  # isort: skip

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "comfy")]

from client import Comfy, Result  # noqa: E402
from flame_table import flame_table  # noqa: E402
from picture_sheets import Cell, chart, rows, sheet, with_text  # noqa: E402
from server import running  # noqa: E402

from difffae.common.rotations import axis_angle_to_matrix, matrix_to_axis_angle, to_yaw_pitch_roll  # noqa: E402
from difffae.head.attributes import FaceAttributes  # noqa: E402
from difffae.vocabulary import REGIONS, SWAPPABLE, TAKEABLE  # noqa: E402

LIMIT = 21_500  # bytes of a picture; all that users install is 55 MB at most (tests/test_package.py)
Link = list


class Graph:
    """An API prompt that grows, and runs in ComfyUI; results of equal nodes come from its cache."""

    def __init__(self, comfy: Comfy) -> None:
        self.comfy = comfy
        self.prompt: dict[str, Any] = {}
        self.always: dict[str, Link] = {}  # what the inputs of these names get
        model = self.add("DiffFAELoader")
        self.always = {"model": model, "vae": [model[0], 1], "difffae": [model[0], 2]}
        self.source, self.query = self._analyse("astronaut"), self._analyse("naval officer")

    def add(self, kind: str, **given: Any) -> Link:
        """A node; the link to its first output. Inputs that are not given have their defaults."""
        known = self.comfy.object_info(kind)["input"]
        inputs = {name: self.always[name] for name in known["required"] if name in self.always}
        inputs |= {name: spec[1]["default"] for name, spec in known["required"].items() if "default" in spec[-1]}
        name = str(len(self.prompt) + 1)
        self.prompt[name] = {"class_type": kind, "inputs": inputs | given}
        return [name, 0]

    def _analyse(self, name: str) -> dict[str, Link]:
        picture = self.add("DiffFAEExamplePortrait", picture=name)
        crop = self.add("DiffFAECropFace", image=picture)
        where = [crop[0], 2]
        return {
            **{"picture": picture, "crop": crop, "where": where},
            "attributes": self.add("DiffFAEEstimateAttributes", image=crop, crop=where),
            "slots": self.add("DiffFAEEncodeSlots", image=crop),
            "identity": self.add("DiffFAEIdentityToken", image=crop, crop=where),
        }

    def adjust(self, attributes: Link, **values: Any) -> Link:
        return self.add("DiffFAEAdjustAttributes", attributes=attributes, **values)

    def compose(self, **groups: Link) -> Link:
        return self.add("DiffFAEComposeAttributes", source=self.source["attributes"], **groups)

    def render(self, attributes: Link, shading: str = "textured") -> Link:
        return self.add("DiffFAERenderFace", attributes=attributes, shading=shading)

    def carry(self, target: Link, slots: Link | None = None) -> Link:
        about = {"image": self.source["crop"], "source": self.source["attributes"], "crop": self.source["where"]}
        return self.add("DiffFAECarryPhoto", target=target, slots=slots or self.source["slots"], **about)

    def sample(self, target: Link, carry: Link | None, slots: Link | None = None, **settings: Any) -> Link:
        about = {"slots": slots or self.source["slots"], "identity": self.source["identity"], "render": self.render(target)}
        conditions = self.add("DiffFAEConditioning", **about, **carried(carry))
        return self.add("DiffFAESampler", positive=conditions, latent=[conditions[0], 2], **settings)

    def paste(self, edited: Link, carry: Link | None) -> Link:
        about = {"original": self.source["picture"], "crop": self.source["where"]}
        return self.add("DiffFAEPasteBack", edited=edited, **about, **carried(carry))

    def edit(self, target: Link, slots: Link | None = None, **settings: Any) -> Link:
        """The node Paste Back; its second output is the finished square. settings: of the sampler."""
        carry = self.carry(target, slots)
        return self.paste(self.sample(target, carry, slots, **settings), carry)

    def run(self) -> Result:
        return self.comfy.wait(self.comfy.queue(self.prompt), timeout=3600)

    def pictures(self, shown: dict[str, Link]) -> dict[str, list[Image.Image]]:
        """Pictures of IMAGE links, and of MASK links whose name ends with '*'."""
        nodes = {}
        for name, link in shown.items():
            link = self.add("MaskToImage", mask=link) if name.endswith("*") else link
            nodes[name] = self.add("PreviewImage", images=link)[0]
        result = self.run()
        return {name: result.images(node) for name, node in nodes.items()}

    def cells(self, **shown: Link) -> list[Cell]:
        """The first picture of every link under its name, '_' read as a space."""
        return [(name.rstrip("*").replace("_", " "), pictures[0]) for name, pictures in self.pictures(shown).items()]


def carried(carry: Link | None) -> dict[str, Link]:
    """The input of a node that can do without a carried photograph."""
    return {} if carry is None else {"carry": [carry[0], 2]}


def clip_rows(graph: Graph, **videos: Link) -> Image.Image:
    """Three frames of each clip in a row of its own."""
    shown = graph.pictures({name: graph.add("GetVideoComponents", video=video) for name, video in videos.items()})
    cells = {name: [frames[round(share * (len(frames) - 1))] for share in (0, 0.5, 1)] for name, frames in shown.items()}
    return rows(
        *(sheet([(name.replace("_", " "), frames[0]), ("later", frames[1]), ("at its end", frames[2])]) for name, frames in cells.items())
    )


def along(*keys: dict[str, float]) -> str:
    """Keyframes as text."""
    return json.dumps({"keys": keys})


def all_of_query(graph: Graph) -> Link:
    return graph.compose(**dict.fromkeys(TAKEABLE, graph.query["attributes"]))


def loader(graph: Graph) -> Image.Image:
    edited = graph.edit(all_of_query(graph))[0]
    return sheet(graph.cells(portrait=graph.source["crop"], reference=graph.query["crop"], edited=[edited, 1]))


def crop_face(graph: Graph) -> Image.Image:
    source = graph.source
    red = graph.add("EmptyImage", width=256, height=256, batch_size=1, color=0xFF0000)
    (_, whole), (_, marked), (_, crop) = graph.cells(picture=source["picture"], marked=graph.paste(red, None), crop=source["crop"])
    box = ImageChops.difference(whole.convert("RGB"), marked.convert("RGB")).convert("L").point(lambda value: 255 * (value > 2)).getbbox()
    assert box, "nothing was pasted"
    marked = whole.convert("RGB")
    ImageDraw.Draw(marked).rectangle(box, outline="#ff3b30", width=4)
    return sheet([("picture and square", marked), ("crop", crop)])


def estimate(graph: Graph) -> Image.Image:
    cells = []
    for face, label in ((graph.source, "portrait"), (graph.query, "another")):
        cells += graph.cells(**{label: face["crop"], "its_numbers,_in_clay": graph.render(face["attributes"], "clay")})
    return sheet(cells)


def compose(graph: Graph) -> Image.Image:
    query = graph.query["attributes"]
    cells = {"source": graph.source["crop"], "reference": graph.query["crop"]}
    for group in TAKEABLE:
        cells[f"only_its_{group}"] = [graph.edit(graph.compose(**{group: query}))[0], 1]
    return sheet(graph.cells(**cells, all_three=[graph.edit(all_of_query(graph))[0], 1]))


def adjust(graph: Graph) -> Image.Image:
    source = graph.source["attributes"]
    light = {"relight": True, "light_azimuth": -60.0}
    wanted = {"yaw_15": {"yaw": 15.0}, "pitch_10": {"pitch": 10.0}, "smile_-0.6": {"smile": -0.6}}
    wanted |= {"brow_up_1": {"brow_up": 1.0}, "jaw_open_0.5": {"jaw_open": 0.5}, "light_azimuth_-60": light}
    return sheet(graph.cells(**{name: [graph.edit(graph.adjust(source, **values))[0], 1] for name, values in wanted.items()}))


def sweep(graph: Graph) -> Image.Image:
    numbers = graph.add(
        "DiffFAESweepAttributes",
        **{"attributes": graph.source["attributes"], "number": "light_azimuth"},
        **{"start": -75.0, "end": 75.0, "frames": 6, "absolute": True},
    )
    pictures = graph.pictures({"sweep": [graph.edit(numbers)[0], 1]})["sweep"]
    return sheet([(f"{-75 + 30 * index} degrees", picture) for index, picture in enumerate(pictures)])


def smooth(graph: Graph) -> Image.Image:
    turning = graph.add(
        "DiffFAESweepAttributes",
        **{"attributes": graph.source["attributes"], "number": "yaw"},
        **{"start": -15.0, "end": 15.0, "frames": 32, "absolute": True},
    )
    noisy = graph.add("ImageAddNoise", image=graph.carry(turning), seed=0, strength=0.08)
    found = graph.add("DiffFAEEstimateAttributes", image=noisy)
    calm = graph.add("DiffFAESmoothAttributes", attributes=found, frames=1.5)
    saved = [
        graph.add("PreviewAny", source=graph.add("DiffFAESaveImage", images=noisy, filename_prefix="smooth", attributes=numbers))[0]
        for numbers in (found, calm)
    ]
    result = graph.run()
    lines = [yaw_of(json.loads(result.text(name)[0])["attributes"]) for name in saved]
    return chart({"as estimated from noisy frames": (lines[0], "#c9ccd3"), "smoothed over 1.5 frames": (lines[1], "#d0451b")})


def yaw_of(values: dict[str, Any]) -> list[float]:
    turns = axis_angle_to_matrix(FaceAttributes.from_json(json.dumps(values)).pose[:, :2])
    return to_yaw_pitch_roll(matrix_to_axis_angle(turns[:, 0] @ turns[:, 1]))[:, 0].tolist()


def render_face(graph: Graph) -> Image.Image:
    numbers = graph.adjust(graph.source["attributes"], yaw=20.0, relight=True, light_azimuth=60.0, light_strength=0.8)
    node, clay = graph.render(numbers)[0], graph.render(numbers, "clay")
    return sheet(graph.cells(textured=[node, 0], clay=clay, normals=[node, 2]))


def carry_photo(graph: Graph) -> Image.Image:
    node = graph.carry(graph.adjust(graph.source["attributes"], yaw=15.0, relight=True, light_azimuth=60.0, light_strength=0.7))[0]
    return sheet(graph.cells(**{"crop": graph.source["crop"], "image:_turned,_relit": [node, 0], "valid*": [node, 1]}))


def encode_slots(graph: Graph) -> Image.Image:
    node = graph.source["slots"][0]
    masks = {f"{name}*": [node, index] for index, name in enumerate(REGIONS, start=1)}
    cells = graph.cells(crop=graph.source["crop"], **masks)
    colours = ("#e8a27c", "#7a4b12", "#2d6cdf", "#9aa3ad")
    painted = Image.new("RGB", cells[0][1].size)
    for (_, mask), colour in zip(cells[1:], colours, strict=True):
        painted = ImageChops.add(painted, ImageChops.multiply(Image.new("RGB", mask.size, colour), mask.convert("RGB")))
    return sheet([*cells, ("all four", painted)])


def swap_slots(graph: Graph) -> Image.Image:
    own = graph.source["attributes"]
    cells = {"source": graph.source["crop"], "reference": graph.query["crop"]}
    names = SWAPPABLE
    for label in (*names, "all_three"):
        chosen = {name: label in (name, "all_three") for name in names}
        swap = graph.add("DiffFAESwapSlots", slots=graph.source["slots"], reference=graph.query["slots"], **chosen)
        cells[label if label == "all_three" else f"its_{label}"] = [graph.edit(own, slots=swap, denoise=0.2)[0], 1]
    return sheet(graph.cells(**cells))


def identity(graph: Graph) -> Image.Image:
    """Distances of tokens, as the node Report measures them with the same network."""
    source, query = graph.source, graph.query
    edited = graph.edit(graph.adjust(source["attributes"], yaw=10.0, smile=-0.4))
    pairs = {"edited": edited, "another": query["picture"]}
    nodes = [graph.add("DiffFAEReport", source=source["picture"], result=link)[0] for link in pairs.values()]
    cells = graph.cells(portrait=source["crop"], same=[edited[0], 1], other=query["crop"])
    result = graph.run()
    distances = [result.text(node)[0].split(":")[1].split()[0] for node in nodes]
    labels = ["portrait", *(f"{name.replace('_', ' ')}: {float(value):.2f}" for name, value in zip(pairs, distances, strict=True))]
    return sheet([(label, picture) for label, (_, picture) in zip(labels, cells, strict=True)])


def conditioning(graph: Graph) -> Image.Image:
    target = all_of_query(graph)
    sampled = {"with_carry": graph.sample(target, graph.carry(target)), "without_carry": graph.sample(target, None)}
    return sheet(graph.cells(render=graph.render(target), **sampled))


def sampler(graph: Graph) -> Image.Image:
    target = graph.adjust(graph.source["attributes"], yaw=18.0)
    carry = graph.carry(target)
    cells = {}
    for steps, share in ((1, 0.0), (4, 0.5), (10, 1.0)):
        cells[f"{steps}_step{'s' * (steps > 1)}"] = graph.sample(target, carry, steps=steps)
        cells[f"denoise_{share}"] = graph.sample(target, carry, denoise=share)
    return sheet(graph.cells(**cells))


def paste_back(graph: Graph) -> Image.Image:
    target = graph.adjust(graph.source["attributes"], yaw=12.0, relight=True, light_azimuth=60.0, light_strength=0.7)
    carry = graph.carry(target)
    edited = graph.sample(target, carry)
    node = graph.paste(edited, carry)[0]
    return sheet(graph.cells(**{"edited": edited, "crop:_sharp_again": [node, 1], "image": [node, 0]}))


def report(graph: Graph) -> Image.Image:
    source, query = graph.source["picture"], graph.query["picture"]
    result = graph.edit(all_of_query(graph))
    node = graph.add("DiffFAEReport", source=source, result=result, reference=query)[0]
    cells = graph.cells(source=source, reference=query, result=result)
    return with_text(cells, [line.split(" (")[0] for line in graph.run().text(node)[0].splitlines()])


def save_image(graph: Graph) -> Image.Image:
    target = graph.adjust(graph.source["attributes"], yaw=10.0, relight=True, light_azimuth=50.0)
    edited = graph.edit(target)
    node = graph.add("DiffFAESaveImage", images=edited, filename_prefix="recipe", difffae=graph.always["difffae"], attributes=target)
    shown = graph.add("PreviewAny", source=node)[0]
    cells = graph.cells(portrait=graph.source["picture"], saved_picture=edited)
    recipe = json.loads(graph.run().text(shown)[0])
    sampled = next(step for step in recipe["steps"] if step["node"] == "DiffFAESampler")
    version = f"DiffFAE {recipe['software']['difffae']}, ComfyUI {recipe['software']['comfyui']}"
    checkpoint = f"checkpoint {recipe['checkpoint']['name']}, sha256 {recipe['checkpoint']['sha256'][:12]} ..."
    settings = f"seed {sampled['seed']}, {sampled['steps']} steps, {sampled['sampler_name']}, {sampled['scheduler']}"
    numbers = f"attributes: yaw {yaw_of(recipe['attributes'])[0]:.1f} degrees, ..."
    return with_text(cells, ["In the file:", version, checkpoint, settings, numbers])


def load_recipe(graph: Graph) -> Image.Image:
    numbers = graph.adjust(graph.source["attributes"], yaw=-12.0, relight=True, light_azimuth=-60.0)
    saved = graph.edit(numbers)
    graph.source = graph.query  # what follows edits the other portrait
    applied = graph.edit(graph.compose(pose=numbers, light=numbers))
    cells = {"saved_with_a_recipe": [saved[0], 1], "another_portrait": graph.query["crop"], "its_pose_and_light": [applied[0], 1]}
    return sheet(graph.cells(**cells))


def example_portrait(graph: Graph) -> Image.Image:
    names = ("astronaut", "naval officer", "turned", "surprised", "side light")
    return sheet(graph.cells(**{name: graph.add("DiffFAEExamplePortrait", picture=name) for name in names}))


def edit_face(graph: Graph) -> Image.Image:
    photo, other = graph.source["picture"], graph.query["picture"]
    heads = (80, 0, 320, 240)  # of the photograph: the page is narrow, and what is edited is the head
    wanted: dict[str, dict[str, Any]] = {"yaw_15,_smile": {"yaw": 15.0, "smile": 0.4}, "eyes_closed": {"blink": 1.0}}
    wanted |= {"light_from_the_left": {"relight": True, "light_azimuth": -60.0}, "another's_pose": {"pose": other}}
    wanted["its_hair,_background"] = {"hair": other, "background": other}
    edits = {name: graph.add("DiffFAEEditFace", image=photo, **values) for name, values in wanted.items()}
    return sheet([(label, picture.crop(heads)) for label, picture in graph.cells(photograph=photo, **edits)])


def animate(graph: Graph) -> Image.Image:
    moves = along(
        {"time": 0, "yaw": -14, "smile": 0}, {"time": 0.3, "yaw": 0, "smile": 0, "brow_up": 0.6}, {"time": 0.6, "yaw": 14, "smile": 0.7}
    )
    clip = graph.add("DiffFAEAnimatePortrait", image=graph.query["picture"], keyframes=moves)
    driven = graph.add("DiffFAEAnimatePortrait", image=graph.source["picture"], driving=clip, relative=True)
    return clip_rows(graph, a_clip=clip, a_portrait_that_it_drives=driven)


def edit_video(graph: Graph) -> Image.Image:
    turns = along({"time": 0, "yaw": -12}, {"time": 0.6, "yaw": 12})
    clip = graph.add("DiffFAEAnimatePortrait", image=graph.query["picture"], keyframes=turns)
    wanted = along({"time": 0, "smile": 0.6, "light_azimuth": 60, "light_strength": 0.8})
    edited = graph.add("DiffFAEEditVideo", video=clip, keyframes=wanted)
    return clip_rows(graph, **{"a_clip": clip, "a_smile,_another_light": edited})


def packed(picture: Image.Image) -> bytes:
    """WebP, at the best quality that stays below LIMIT: a quarter smaller than JPEG."""
    for quality in range(85, 30, -3):
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=quality, method=6)
        if buffer.tell() < LIMIT:
            break
    return buffer.getvalue()


def main(*chosen: str) -> None:
    with running() as comfy:
        for name in chosen or PICTURES:
            picture = PICTURES[name](Graph(comfy))
            data = packed(picture)
            (ROOT / "web" / "docs" / f"{name}.webp").write_bytes(data)
            print(f"{name}.webp {picture.size} {len(data) // 1000} kB")


PICTURES: dict[str, Callable[[Graph], Image.Image]] = {
    "DiffFAEEditFace": edit_face,
    "DiffFAELoader": loader,
    "DiffFAEExamplePortrait": example_portrait,
    "DiffFAECropFace": crop_face,
    "DiffFAEEstimateAttributes": estimate,
    "DiffFAEComposeAttributes": compose,
    "DiffFAEAdjustAttributes": adjust,
    "DiffFAESweepAttributes": sweep,
    "DiffFAESmoothAttributes": smooth,
    "DiffFAEToFlameParams": lambda _: flame_table(),  # the page of From FLAME_PARAMS shows it, too
    "DiffFAEAnimatePortrait": animate,
    "DiffFAEEditVideo": edit_video,
    "DiffFAERenderFace": render_face,
    "DiffFAECarryPhoto": carry_photo,
    "DiffFAEEncodeSlots": encode_slots,
    "DiffFAESwapSlots": swap_slots,
    "DiffFAEIdentityToken": identity,
    "DiffFAEConditioning": conditioning,
    "DiffFAESampler": sampler,
    "DiffFAEPasteBack": paste_back,
    "DiffFAEReport": report,
    "DiffFAESaveImage": save_image,
    "DiffFAELoadRecipe": load_recipe,
}


if __name__ == "__main__":
    main(*sys.argv[1:])

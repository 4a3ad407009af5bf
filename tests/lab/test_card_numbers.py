"""The block "by numbers" of the model card, with editors and readers whose numbers are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from difffae.cli import main
from difffae.common.checkpoint import asset_path
from difffae.common.images import read_image, write_image
from difffae.edit.description import Edit, Portrait
from difffae.edit.moving import PreparedFaces
from difffae.edit.result import EditResult
from difffae.estimation.fit import FACE_OVAL
from difffae.faces.crop import FaceCrop
from difffae.head.adjust import Adjustments, adjust
from difffae.head.attributes import FaceAttributes
from difffae.head.axes import COEFFICIENTS, EXPRESSION_AXES
from difffae.lab.card import number_rows as rows
from difffae.lab.card.card import Card
from difffae.lab.card.numbers import AMOUNTS, SLIDERS, SPILLED, TURN_UNIT, Numbers, Reading, edit_name, plan, slider_values
from difffae.lab.card.rows import Record
from difffae.report.results import head_angles

SIDE = 256  # at which squares are moved as they are
Change = Callable[[Tensor, FaceAttributes], Tensor]


def portrait(name: str = "a", picture: Tensor | None = None, **coefficients: float) -> Portrait:
    """A face that looks at the viewer, on a square that is its own picture."""
    expression = torch.zeros(1, 52)
    for coefficient, value in coefficients.items():
        expression[0, COEFFICIENTS.index(coefficient)] = value
    codes = {key: torch.zeros(1, count) for key, count in (("shape", 75), ("albedo", 6), ("camera", 3))}
    light = torch.zeros(1, 9, 3)
    light[:, 0] = 1
    face = FaceAttributes("open-head", pose=torch.zeros(1, 5, 3), light=light, expression=expression, **codes)
    picture = torch.full((1, 3, SIDE, SIDE), 0.5) if picture is None else picture
    square = FaceCrop(0, 0, SIDE, SIDE, SIDE, SIDE)
    return Portrait(picture, torch.ones_like(picture[:, :1]), (square,), picture, landmarks(), torch.zeros(1, 52), face, name=name)


def landmarks() -> Tensor:
    """A face whose oval is a circle of radius 64 around the middle."""
    points = torch.full((1, 478, 3), SIDE / 2)
    angles = torch.arange(len(FACE_OVAL)) / len(FACE_OVAL) * 2 * torch.pi
    points[0, list(FACE_OVAL), :2] = SIDE / 2 + 64 * torch.stack([angles.sin(), -angles.cos()], -1)
    return points


def values_of(attributes: FaceAttributes, own: Portrait) -> dict[str, float]:
    named = dict(zip(COEFFICIENTS, attributes.expression[0].tolist(), strict=True))
    own = Portrait(own.picture, own.inside_picture, own.squares, own.original, own.landmarks, own.blendshapes, attributes)
    return slider_values(named, head_angles(own).tolist())


def measured(
    own: Portrait,
    share: float = 1.0,
    paint: Change = lambda picture, target: picture,
    turned_back: bool = False,
    leak: Mapping[str, float] | None = None,
    lost: bool = False,
) -> Record:
    """The record of an editor that lets a share of everything arrive, seen exactly; leaks are added after edits."""
    shown: list[FaceAttributes] = []

    def edit(prepared: PreparedFaces, change: Adjustments) -> EditResult:
        target = adjust(own.attributes, change, COEFFICIENTS)
        shown.append(target)
        crop = paint(own.picture, target)
        return EditResult(crop[0], crop, crop, None, target, crop, crop[:, :1], Edit(own, target))

    def read(crop: Tensor) -> Reading | None:
        start = values_of(own.attributes, own)
        if not shown:
            return Reading(start, start, landmarks())
        end = values_of(shown[-1], own)
        seen = {name: start[name] + share * (end[name] - start[name]) + (leak or {}).get(name, 0.0) for name in start}
        fitted = {name: start[name] + 0.5 * (end[name] - start[name]) for name in start}
        return None if lost else Reading(seen, fitted, landmarks())

    def matte(crop: Tensor) -> Tensor:
        person = torch.zeros(1, 1, SIDE, SIDE)
        person[..., 96:160, 96:160] = 1
        return person

    return Numbers(edit, read, matte, COEFFICIENTS).person(own, None, turned_back)  # type: ignore[arg-type]


def test_what_arrives_exactly_is_a_response_of_one():
    records = [measured(portrait("a")), measured(portrait("b"), turned_back=True)]
    for slider in SLIDERS:
        for amount in AMOUNTS[slider]:
            expected = 1 / rows.READ_SHARE.get(slider, 1.0)  # the reader here reads all of a pitch
            assert rows.response(slider, amount)(records) == pytest.approx(expected, abs=1e-3), (slider, amount)
        assert rows.rising(slider)(records) == 1
        assert max(rows.spills(records, slider).values()) < 1e-5
    assert records[0]["edits"]["yaw 16"]["asked"] == pytest.approx(16, abs=1e-3)
    assert records[1]["edits"]["yaw 16"]["asked"] == pytest.approx(-16, abs=1e-3)
    assert records[1]["edits"]["jaw_open 0.6"]["asked"] == pytest.approx(0.6)
    assert rows.seen("blink", 1.0)(records) == pytest.approx(1)
    assert rows.seen("blink", 0.5, 0.5)(records) == pytest.approx(0, abs=1e-6)
    assert rows.without_face(records) == 0


def test_a_share_that_arrives_is_the_response():
    records = [measured(portrait(), share=0.4)]
    assert rows.least_response("gaze_x")(records) == pytest.approx(0.4)
    assert rows.least_response("pitch")(records) == pytest.approx(0.4 / rows.READ_SHARE["pitch"], abs=1e-3)
    assert rows.seen("blink", 0.5, 0.5)(records) == pytest.approx(0.3)
    assert rows.response("smile", 1.0, "fitted")(records) == pytest.approx(0.5)


def test_expressions_count_only_of_heads_that_face_the_viewer():
    facing, away = measured(portrait("a")), measured(portrait("b"), share=0.4)
    away["turned"] = rows.READABLE + 1
    assert rows.response("smile", 1.0)([facing, away]) == pytest.approx(1)
    assert rows.response("yaw", 8.0)([facing, away]) == pytest.approx(0.7, abs=1e-3)
    assert rows.seen("blink", 1.0)([away]) is None


def test_an_editor_that_does_nothing_has_no_response_and_no_spill():
    (record,) = records = [measured(portrait(mouthSmileLeft=0.2, eyeBlinkLeft=0.3), share=0)]
    for slider in SLIDERS:
        assert rows.least_response(slider)(records) == 0
        assert rows.rising(slider)(records) == 0
        assert set(rows.spills(records, slider).values()) == {0.0}
    assert record["sharpness"] == {} or set(record["sharpness"].values()) == {0.0}
    assert record["rings"] == 0
    assert all(light == {"burnt": 0, "stops": 0} for light in record["lights"].values())


def test_only_what_coefficients_can_still_do_was_asked_for():
    own = portrait(jawOpen=0.7)
    (record,) = records = [measured(own, share=0.5)]
    assert record["edits"]["jaw_open 1"]["asked"] == pytest.approx(0.3)
    assert rows.response("jaw_open", 1.0)(records) == pytest.approx(0.5)
    assert rows.rising("jaw_open")(records) == 1  # 0.6 and 1 ask for the same
    full = portrait(jawOpen=1.0)
    assert rows.response("jaw_open", 0.3)([measured(full)]) is None
    assert rows.rising("jaw_open")([measured(full)]) is None


def test_spill_counts_sliders_that_were_not_asked_for():
    records = [measured(portrait(), leak={"smile": 0.06, "yaw": 5.0, "grin": 0.9})]
    found = rows.spills(records, "jaw_open")
    assert set(found) == set(SPILLED) - {"jaw_open"}
    assert found["smile"] == pytest.approx(0.06)
    assert found["yaw"] == pytest.approx(5 / TURN_UNIT)
    assert rows.spill(max, "jaw_open")(records) == pytest.approx(0.2)
    assert "yaw" not in rows.spills(records, "yaw")
    assert set(SPILLED) - set(rows.spills(records, "wink_left")) == {"blink", "gaze_x", "gaze_y", "squint", "smile"}
    # a smile squeezes the eyes itself
    assert set(SPILLED) - set(rows.spills(records, "smile")) == {"smile", "squint"}
    assert set(EXPRESSION_AXES) > {"smile", "squint"}


def test_readings_that_step_back_do_not_rise():
    record = measured(portrait())
    record["edits"]["smile 1"]["arrived"] = 0.55
    assert rows.rises(record, "smile") is False
    assert rows.rises(record, "jaw_open") is True
    assert rows.rising("smile", "jaw_open")([record]) == 0.5
    record["edits"]["smile 1"] = {"lost": True}
    assert rows.rises(record, "smile") is None


def test_lights_burn_and_brighten():
    def paint(picture: Tensor, target: FaceAttributes) -> Tensor:
        if target.lamp is None:
            return picture
        lit = picture.clone()
        lit[..., : SIDE // 2] = 1.0
        return lit

    (record,) = records = [measured(portrait(), paint=paint)]
    assert record["lights"]["left"]["burnt"] == pytest.approx(0.5, abs=0.03)
    linear = ((0.5 + 0.055) / 1.055) ** 2.4
    share = record["lights"]["left"]["burnt"]
    assert record["lights"]["above"]["stops"] == pytest.approx(
        torch.tensor((share + (1 - share) * linear) / linear).log2().item(), abs=1e-4
    )
    assert rows.lights("burnt", max)(records) == share
    white = portrait(picture=torch.ones(1, 3, SIDE, SIDE))
    assert measured(white, paint=paint)["lights"]["left"] == {"burnt": 0, "stops": 0}


def test_rings_are_looked_for_far_from_both_persons():
    def paint(picture: Tensor, target: FaceAttributes) -> Tensor:
        ringed = picture.clone()
        ringed[..., 128, 166] += 0.4  # within 8 pixels of the person
        if target.pose.abs().max() > 0.3:  # 17 degrees
            ringed[..., 5, 5] += 10 / 255
        return ringed

    assert measured(portrait(), paint=paint)["rings"] == 10
    busy = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert measured(portrait(picture=busy), paint=paint)["rings"] is None
    records = [{"rings": value} for value in (0.0, 1.0, 10.0, None)]
    by_key = {row.key: row for row in rows.NUMBERS}
    assert by_key["rings"].statistic(records) == 1
    assert by_key["rings_worst"].statistic(records) == 10
    assert by_key["rings_none"].statistic(records) == pytest.approx(2 / 3)


def test_sharpness_of_a_blurred_face():
    texture = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    def paint(picture: Tensor, target: FaceAttributes) -> Tensor:
        return 0.5 + (picture - 0.5) * (0.5 if target.pose.abs().max() > 0.5 else 1.0)  # 29 degrees

    record = measured(portrait(picture=texture), paint=paint)
    assert record["sharpness"] == {"20": pytest.approx(1), "35": pytest.approx(0.25, rel=1e-3)}
    assert rows.sharpness(35)([record]) == pytest.approx(0.25, rel=1e-3)


def test_faces_that_are_lost_are_counted():
    records = [measured(portrait(), lost=True)]
    assert rows.without_face(records) == len({name for name, _, _ in plan(False)})
    assert rows.response("yaw", 8.0)(records) is None


def test_card_shows_the_block_with_goals_and_intervals():
    card = Card({"checkpoint": {"name": "toy"}, "pairs": 12, "steps": 2, "sampler": "ddim", "seed": 0, "estimator": "E", "identity": "I"})
    records = [measured(portrait(f"{index}"), share=0.8 + 0.01 * index, leak={"smile": 0.03}) for index in range(6)]
    card.blocks = {
        "by-numbers": {"part": "by-numbers", "date": "2026-01-02", "machine": "M", "seconds": 30, "denoise": 0.0, "records": records}
    }
    text = card.markdown()
    assert "## By numbers\n" in text
    assert "| yaw: response, least of 8, 16, 25 degrees | ≥ 0.85 | 0.825 [" in text
    assert "Measured at denoise 0, on the moved photographs alone. Scores are those of the pack's own networks" in text
    line = next(line for line in text.splitlines() if line.startswith("| jaw_open | 0.3, 0.6, 1 |"))
    assert line.endswith("| 0.002 [0.002, 0.002] | 0.030 [0.030, 0.030] | smile |")
    data = json.loads(json.dumps(card.to_dict()))
    assert data["rows"]["response_yaw"]["met"] is False
    assert data["rows"]["spill_largest"] == data["rows"]["spill_largest"] | {"met": True, "count": 6}
    assert card.to_dict(rows_too=False)["rows"] == {}


@pytest.mark.slow
def test_command_measures_people_and_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    few = {name: AMOUNTS[name][:1] for name in ("yaw", "jaw_open")}
    monkeypatch.setattr("difffae.lab.card.numbers.SLIDERS", ("yaw", "pitch", "roll", "blink", "jaw_open"))
    monkeypatch.setattr("difffae.lab.card.numbers.AMOUNTS", {**dict.fromkeys(("pitch", "roll", "blink"), ()), **few})
    monkeypatch.setattr("difffae.lab.card.numbers.SPILLED", ("jaw_open", "roll"))
    folder = tmp_path / "portraits"
    folder.mkdir()
    for name in ("source.png", "query.png"):
        write_image(folder / name, read_image(asset_path(name))[0])
    (folder / "manifest.csv").write_text("file,person,split,yaw_deg\nsource.png,p1,dev,0\nquery.png,p2,dev,0\n")
    line = f"evaluate --card --portraits {folder} --pairs 2 --only by-numbers --output {tmp_path / 'card'} --limit".split()
    assert main([*line, "1"]) == 0
    path = tmp_path / "card" / "card.json"
    data = json.loads(path.read_text())
    (first,) = data["blocks"]["by-numbers"]["records"]
    assert set(first["edits"]) == {"yaw 8", "jaw_open 0.3", "blink 0.5", "yaw 20", "yaw 35"}
    assert first["edits"]["jaw_open 0.3"]["arrived"] > 0.1
    assert first["edits"]["yaw 20"]["arrived"] == pytest.approx(first["edits"]["yaw 20"]["asked"], abs=5)
    data["blocks"]["by-numbers"] |= {"unfinished": True}
    data["blocks"]["by-numbers"]["records"][0]["rings"] = 77.0  # kept as it is
    path.write_text(json.dumps(data))
    assert main([*line, "2"]) == 0
    again = json.loads(path.read_text())["blocks"]["by-numbers"]
    assert [record["rings"] == 77.0 for record in again["records"]] == [True, False]
    assert "unfinished" not in again
    assert edit_name("yaw", 35.0) in again["records"][1]["edits"]
    assert "## By numbers" in capfd.readouterr().out

"""The model card's statistics, groups, slot measures and command, on inputs whose numbers are known."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch

from difffae.cli import main
from difffae.common.checkpoint import asset_path
from difffae.common.errors import ConfigError
from difffae.common.images import read_image, write_image
from difffae.edit.editor import DiffFAE, Portrait
from difffae.lab.card import rows
from difffae.lab.card.blocks import LESS, Subjects, noisy, synthetic_pairs
from difffae.lab.card.card import Card
from difffae.lab.card.edit_numbers import edit_numbers
from difffae.lab.card.groups import read_groups, tone_band
from difffae.lab.card.slot_quality import SHIFT, against_labels, moved, overlaps, refined
from difffae.lab.prepare.pairs import FIELDS
from difffae.lab.prepare.portraits import dev_files
from difffae.lab.prepare.shards import write_shard
from difffae.lab.tables import grid
from difffae.report.measures import away_from_head, psnr
from difffae.vocabulary import REGIONS, REPAIR

SOURCE, QUERY = asset_path("source.png"), asset_path("query.png")


def record(source: int, take: str = "", left: float = 0.1, before: float = 0.4, went: float = 0.2) -> rows.Record:
    return {
        "source": f"{source}", "query": "q", "take": take, "lost": False, "yaw": 2.0 * source,
        **{kind: dict.fromkeys(("pose", "expression", "light", "light codes"), value)
           for kind, value in (("to_query", left), ("before", before), ("to_source", went))},
    }  # fmt: skip


# --------------------------------------------------------------------------------------------------------- statistics


def test_quotients_divide_sums_and_leave_out_what_was_lost():
    records = [record(1, left=0.1, before=0.2), record(2, left=0.2, before=0.8), {"source": "3", "query": "q", "lost": True}]
    assert rows.transfer("expression")(records) == pytest.approx(0.3)
    assert rows.transfer("light")(records) == pytest.approx(0.2 / 0.8)  # lights that hardly differ do not count
    assert rows.lost(records) == 1
    assert rows.mean_of("yaw")(records) == 3
    assert rows.mean_of("psnr")(records) is None
    assert rows.transfer("expression")([]) is None


def test_drift_counts_only_what_was_not_taken():
    records = [record(1, "pose", went=0.1), record(1, "expression", went=0.2), record(1, "light", went=0.4)]
    assert rows.drift("light", "pose")(records) == pytest.approx(0.25)
    assert rows.drift("pose", "light")(records) == pytest.approx(1)
    assert rows.mean_drift(records) == pytest.approx((0.25 + 0.25 + 0.5 + 0.5 + 1 + 1) / 6)
    assert {(attribute, take) for attribute, take in rows.DRIFTS if attribute == take} == set()
    assert rows.where("take", "light", rows.mean_of("yaw"))([*records, record(9, "pose")]) == 2


def test_overlap_adds_pixels_of_all_pictures():
    def counts(a: int, b: int) -> dict[str, list[int]]:
        return {"face": [a, b], "hair": [0, 0]}

    records = [{"source": "1", "slots": counts(1, 2)}, {"source": "2", "slots": counts(5, 6)}, {"source": "3"}]
    assert rows.overlap("slots", "face")(records) == pytest.approx(6 / 8)
    assert rows.overlap("slots")(records) == pytest.approx(6 / 8)  # nothing shows hair, so it does not count
    assert rows.overlap("slots", "hair")(records) is None


def test_selectivity_of_one_region():
    records = [{"source": "1", "region": "hair", "drawn": [0.4, 0.02]}, {"source": "2", "region": "hair", "drawn": [0.2, 0.08]}]
    records.append({"source": "3", "region": "clothes", "drawn": [1, 1]})
    assert rows.of_region("hair", "drawn")(records) == pytest.approx(6)


def test_worse_and_met_know_which_way_is_better():
    more, less = rows.Row("a", "a", "b", rows.lost, 30, True), rows.Row("a", "a", "b", rows.lost, 0.3)
    assert (more.met(30), more.met(29.9), less.met(0.3), less.met(0.31)) == (True, False, True, False)
    assert more.worse_by(29.1, 30) == pytest.approx(3)
    assert less.worse_by(0.27, 0.3) == pytest.approx(-10)


def test_bootstrap_draws_pairs_and_not_records():
    records = [record(index) for index in range(8)]
    low, high = rows.bootstrap(rows.mean_of("yaw"), records)
    assert 2 < low < 7 < high < 12  # values 0, 2 ... 14; standard error 1.6
    assert rows.bootstrap(rows.mean_of("yaw"), [r for r in records for _ in range(10)]) == (low, high)
    assert rows.bootstrap(rows.mean_of("yaw"), records[:4]) is None
    assert rows.bootstrap(rows.mean_of("yaw"), [record(3)] * 9) is None  # one pair, nine times


def test_card_states_goals_groups_and_what_few_steps_cost():
    card = Card({"checkpoint": {"name": "toy"}, "pairs": 12, "steps": 2, "sampler": "ddim", "seed": 0, "estimator": "E", "identity": "I"})
    note = {"date": "2026-01-02", "machine": "M", "seconds": 30, "part": "edit"}
    good, bad = ([record(index, left=left) | {"identity": 0.2, "sharpness": 1.0} for index in range(12)] for left in (0.1, 0.2))
    for index, one in enumerate(good):
        one["to_query"]["expression"] = 0.02 if index < 6 else 0.3
    card.blocks = {"edit": note | {"records": good * 2}}
    card.blocks |= {"few edit": note | {"records": bad}, "many edit": note | {"records": good}}
    card.blocks |= {"synthetic": note | {"records": [{"source": "s", "psnr": 20.0, "looks": {"hat": "yes"}}]}}
    card.groups = {f"{index}": {"hat": "no" if index < 6 else "yes"} for index in range(12)}
    text = card.markdown()
    assert "| expression error quotient | ≤ 0.35 | 0.400 [" in text
    assert "| cross edit: yaw error, mean | ≤ 4 degrees | 11.0 degrees [" in text
    assert "2026-01-02; 2 minutes on M" in text
    assert "| hat: no | 12 |" in text
    assert "- hat, expression error quotient: best no 0.050, worst yes 0.750" in text
    assert "## Few steps, everything painted anew (goal: no row worse by more than 3 %)" in text
    assert "| row | 8 evaluations, dpmpp_2m | 50 evaluations, ddim |" in text
    assert "| expression error quotient | 0.500 | 0.400 | +25.0 %" in text
    assert "| hat: yes | 1 | 20.0 dB | / |" in text
    data = json.loads(json.dumps(card.to_dict()))
    assert data["rows"]["yaw"]["met"] is False
    assert data["rows"]["yaw"]["count"] == 12
    assert data["rows"]["synthetic_ssim"] is None


# ------------------------------------------------------------------------------------------------------------- groups


def test_bundled_groups_label_every_dev_portrait():
    groups = read_groups()
    assert set(groups) == set(dev_files())
    counts = {column: Counter(labels[column] for labels in groups.values()) for column in next(iter(groups.values()))}
    assert {column: set(labels) for column, labels in counts.items()} == {
        "presented": {"man", "woman", "unclear"},
        "age": {"under 40", "40 to 59", "60 and over"},
        "skin tone": {"light", "medium", "dark"},
        "glasses": {"none", "clear", "dark"},
        "hat": {"yes", "no"},
        "long hair": {"yes", "no"},
    }
    assert all(sum(labels.values()) == len(groups) for labels in counts.values())


def test_groups_file_needs_its_column(tmp_path: Path):
    (tmp_path / "g.csv").write_text("# a comment\nfile,long_hair\na.png,yes\n")
    assert read_groups(tmp_path / "g.csv") == {"a.png": {"long hair": "yes"}}
    (tmp_path / "g.csv").write_text("name,hat\na.png,yes\n")
    with pytest.raises(ConfigError, match="no column 'file'"):
        read_groups(tmp_path / "g.csv")


def test_tones_of_rendered_skin():
    assert [tone_band(value) for value in (50.0, 41.0, 10.0, -70.0)] == ["light", "medium", "dark", "dark"]


# -------------------------------------------------------------------------------------------------------------- slots


def test_overlaps_count_known_pixels():
    a, b = torch.zeros(4, 4, dtype=torch.long), torch.zeros(4, 4, dtype=torch.long)
    a[:2], b[1:] = 1, 1
    assert overlaps(a, b)["hair"] == [4, 16]
    known = torch.ones(4, 4, dtype=torch.bool)
    known[0] = False
    assert overlaps(a, b, known)["hair"] == [4, 12]
    assert overlaps(a, b, known)["face"] == [0, 8]


def test_moved_masks_tell_looking_from_position():
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    looking = moved(lambda x: (x.mean(1) * 4).long().clamp(0, 3), picture)
    assert rows.overlap("shift")([looking]) == rows.overlap("flip")([looking]) == 1
    assert rows.overlap("shift_still")([looking]) < 0.5
    ramp = (torch.arange(64) // 16).expand(64, 64)
    blind = moved(lambda x: ramp.expand(len(x), 64, 64), picture)
    assert blind["shift"] == blind["shift_still"]
    assert blind["flip"] == blind["flip_still"]
    assert rows.overlap("shift")([blind]) < 0.7
    assert SHIFT < 64


def test_refined_masks_follow_the_edges_of_the_picture():
    image = torch.zeros(1, 3, 256, 256)
    image[..., 125:] = 1
    masks = torch.zeros(1, 4, 32, 32)
    masks[:, 0, :, :16], masks[:, 1, :, 16:] = 1, 1  # coarse: the edge lies at 128
    found = refined(masks, REGIONS, image)[0]
    assert (found != (torch.arange(256) >= 125).long()).sum(-1).max() <= 1  # of three columns


# ------------------------------------------------------------------------------------------------- with the shipped model


@pytest.fixture(scope="module")
def model() -> DiffFAE:
    return DiffFAE.from_pretrained("open-256")


@pytest.fixture(scope="module")
def portraits(model: DiffFAE) -> tuple[Portrait, Portrait]:
    first, second = (model.analyse(read_image(path)[0], name=path.name) for path in (SOURCE, QUERY))
    return first, second


@pytest.mark.slow
def test_an_edit_that_does_nothing(model: DiffFAE, portraits: tuple[Portrait, Portrait]):
    source, query = portraits
    numbers = edit_numbers(model, source, query, source.picture)
    assert numbers is not None
    assert (numbers.still, numbers.outside) == (100, 100)
    assert numbers.identity < 0.1
    assert numbers.sharpness == pytest.approx(1, abs=0.03)
    for name in ("pose", "expression", "light"):
        assert numbers.to_query[name] == pytest.approx(numbers.before[name], rel=0.15)
        assert numbers.to_source[name] < 0.2 * numbers.before[name]
    assert edit_numbers(model, source, query, torch.zeros_like(source.picture)) is None


def test_noise_on_the_codes_is_light_and_repeatable(portraits: tuple[Portrait, Portrait]):
    own = portraits[0].attributes
    a, b = noisy(own, 3), noisy(own, 3)
    assert all(torch.equal(x, y) for x, y in zip(a.tensors().values(), b.tensors().values(), strict=True))
    turn = (a.pose - own.pose)[0, 1].rad2deg()
    assert 0.1 < turn.norm() < 5
    assert torch.equal(a.pose[:, [0, 2, 3, 4]], own.pose[:, [0, 2, 3, 4]])
    assert 0 <= a.expression.min() <= a.expression.max() <= 1
    assert 0 < (a.light - own.light).abs().max() < 0.1 * own.light[:, 0].abs().mean()
    assert torch.equal(a.shape, own.shape)


@pytest.mark.slow
def test_without_carry_nothing_of_the_photograph_is_copied(model: DiffFAE, portraits: tuple[Portrait, Portrait], tmp_path: Path):
    source = portraits[0]
    subjects = Subjects(model, tmp_path, [], steps=2, denoise=REPAIR)
    own, bare = (psnr(subjects.edit(source, source, mode=mode), source.picture).item() for mode in ("edit", "no-carry"))
    assert own > bare + 3


@pytest.mark.slow
def test_parts_of_carry_are_left_out_and_come_back(model: DiffFAE, portraits: tuple[Portrait, Portrait], tmp_path: Path):
    subjects = Subjects(model, tmp_path, [])
    source, query = portraits
    whole = subjects.edit(source, query)
    less = {mode: subjects.edit(source, query, mode=mode) for mode in LESS}
    # the two bundled photographs are lit alike, so that holding the light back is seen on a lamp from the side
    lit = model.analyse(read_image(asset_path("side_light.jpg"))[0])
    held = subjects.edit(source, lit, mode="held-light") - subjects.edit(source, lit)
    # lips that close over teeth are painted over any line between them, so that open lines are seen the other way round
    opened = subjects.edit(query, source, mode="open-lines") - subjects.edit(query, source)
    assert set(less) == {"no-matte", "unstretched", "open-lines", "held-light"}
    for mode, crop in less.items():
        change = {"held-light": held, "open-lines": opened}.get(mode, crop - whole).abs().max()
        # an open line shows the more the brighter the face is lit, and another's light that burns nothing leaves this one darker
        assert change > {"held-light": 0.02, "open-lines": 0.08}.get(mode, 0.1), mode
    # what the matte says is about the person's outline, expressions are in the face
    size = whole.shape[-1]
    away = away_from_head(source.landmarks, size, size, 1.0) * away_from_head(query.landmarks, size, size, 1.0)
    assert psnr(less["unstretched"], whole, away) > psnr(less["no-matte"], whole, away) + 6
    assert torch.equal(subjects.edit(source, query), whole)


@pytest.mark.slow
def test_synthetic_pair_with_a_known_answer(model: DiffFAE, portraits: tuple[Portrait, Portrait], tmp_path: Path):
    source = portraits[0]
    images = (source.picture * 255).round().to(torch.uint8)[:, None].expand(1, 2, 3, -1, -1)
    attributes = {
        name: getattr(source.attributes, name)[:, None].expand(1, 2, *getattr(source.attributes, name).shape[1:]) for name in FIELDS
    }
    labels = torch.zeros(1, 2, 256, 256, dtype=torch.uint8)
    labels[0, 1] = 3
    write_shard(
        tmp_path / "a.safetensors", {"images": images, "labels": labels, "tone": torch.tensor([20.0]), "hat": torch.ones(1), **attributes}
    )
    subjects = Subjects(model, tmp_path, [], synthetic=tmp_path, synthetic_count=5)
    (found,) = synthetic_pairs(subjects)
    assert found["looks"] == {"skin tone": "medium", "hat": "yes"}
    assert found["source_psnr"] == 100
    assert found["known_psnr"] > 40  # the same codes on both sides: nothing moves
    assert found["psnr"] > 40
    first, second = against_labels(subjects, tmp_path)
    assert first["slots"]["face"][1] == 256 * 256
    assert first["slots"]["face"][0] == second["slots"]["face"][1]  # what the slots call face


@pytest.mark.slow
def test_figure_of_the_card_shows_pictures_and_rendered_people(portraits: tuple[Portrait, Portrait], tmp_path: Path):
    people = torch.stack([torch.zeros(3, 256, 256), portraits[1].picture[0]]).mul(255).to(torch.uint8)  # no face in the first
    write_shard(tmp_path / "a.safetensors", {"images": people[:, None].expand(2, 2, 3, -1, -1)})
    line = f"figure card --cell 64 --source {SOURCE} --synthetic {tmp_path} --rows 3 --output {tmp_path / 'page.png'}"
    assert main(line.split()) == 0
    page = read_image(tmp_path / "page.png")[0]
    step = 64 + grid.GAP
    assert page.shape == (3, grid.HEADER + 2 * step + grid.GAP, grid.MARGIN + 6 * step + grid.GAP)
    cells = page[:, grid.HEADER :, grid.MARGIN + grid.GAP :]
    first, second = cells[:, :64, :64], cells[:, step : step + 64, :64]
    assert torch.equal(cells[:, :64, step : step + 64], second)  # without --query the next one gives
    assert torch.equal(cells[:, step : step + 64, step : step + 64], first)
    turned, lit = cells[:, :64, 3 * step : 3 * step + 64], cells[:, :64, 5 * step : 5 * step + 64]
    assert (turned - first).abs().mean() > 0.02
    assert (lit - first).abs().mean() > 0.02


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "portraits"
    place.mkdir()
    for name, path in (("a.png", SOURCE), ("b.png", QUERY)):
        write_image(place / name, read_image(path)[0])
    (place / "manifest.csv").write_text("file,person,split,yaw_deg\na.png,p1,dev,0\nb.png,p2,dev,0\n")
    return place


@pytest.mark.slow
def test_card_command_keeps_finished_parts(folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    (tmp_path / "groups.csv").write_text("file,presented\na.png,man\nb.png,woman\n")
    line = f"evaluate --card --portraits {folder} --groups {tmp_path / 'groups.csv'} --pairs 2 --steps 1 --output {tmp_path / 'card'}"
    assert main([*line.split(), "--only", "first-stage", "edit"]) == 0
    printed = capfd.readouterr().out
    data = json.loads((tmp_path / "card" / "card.json").read_text())
    assert set(data["blocks"]) == {"first-stage", "edit"}
    assert data["rows"]["first_psnr"]["value"] == pytest.approx(sum(r["psnr"] for r in data["blocks"]["first-stage"]["records"]) / 2)
    assert data["rows"]["first_psnr"]["value"] > 26
    assert len(data["blocks"]["edit"]["records"]) == 2
    assert (tmp_path / "card" / "card.md").read_text() in printed
    assert "presented: " in printed
    data["blocks"]["first-stage"]["records"][0]["psnr"] = 0.0  # a kept part stays as it is
    (tmp_path / "card" / "card.json").write_text(json.dumps(data))
    assert main([*line.split(), "--only", "edit"]) == 0
    again = json.loads((tmp_path / "card" / "card.json").read_text())
    assert again["blocks"]["first-stage"]["records"][0]["psnr"] == 0.0
    assert again["blocks"]["edit"]["records"] == data["blocks"]["edit"]["records"]
    capfd.readouterr()
    assert main([*line.split(), "--seed", "1"]) == 2
    assert "other settings" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("extra", "what"), [("", "--output"), ("--output none/x", "--output"), ("--synthetic none --output x", "--synthetic")]
)
def test_card_command_says_what_is_wrong(
    folder: Path, tmp_path: Path, monkeypatch, capfd: pytest.CaptureFixture[str], extra: str, what: str
):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "--card", "--portraits", str(folder), *extra.split()]) == 2
    error = capfd.readouterr().err
    assert what in error
    assert error.count("\n") == 1

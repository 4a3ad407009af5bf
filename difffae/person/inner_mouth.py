"""The inside of mouths: teeth, tongue and darkness behind lips that part.

Shape letters: B batch, V vertices, N landmarks, P points of a lip's edge, M places, H and W picture
height and width, h and w those of a window around the mouth.

What lips hide no photograph shows, and the head model's own teeth and tongue are a few plain
surfaces. So the inside is painted: darkness that grows from the lips, a tongue that lies behind the
lower lip, and a row of upper teeth on the head model's dental arch, which an opened jaw leaves at the
skull. Its brightness and tint are those of the skin around, as the moved picture shows it. Teeth that
the photograph shows stay there instead, and nothing is painted beside them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..carry.state import Move
from ..common.pixels import dilate, gaussian_blur, luma_of, sampled
from .behind_teeth import behind_teeth
from .lent_mouth import LENDS, lent_inside, lent_mouth, skin_colours
from .lips import closed_lips, healed_lips, lip_colour, moved_lips, softened_seam
from .mouth import LOWER, UPPER, DentalArch, MouthFrame, edge_at, upper_teeth_row
from .mouth_opening import SAMPLES, MouthLight, Opening, mouth_marks, moved_marks, relit_there, smooth_ramp, smooth_step

# --- in metres ---
SIDES = 0.021  # along the row, at which teeth lie in the cheeks' shadow
# --- in widths of the mouth ---
REST = 0.045  # what of the upper teeth lies below the lip of a relaxed mouth
LEAST, MOST = 0.15, 0.18  # of the upper teeth that a wide mouth shows
PARTED, OPEN = 0.10, 0.45  # openings from which, and up to which, that grows
LIP_SHADE, GOES_ON = 0.03, (0.12, 0.2)  # rows of own teeth in the lip's shade, and how far above it they go on
MIDDLE, COVERS = slice(3, 6), 0.08  # points of a lip's edge at the middle, and how far teeth go along with it
SEEN, FEW = 0.05, (0.3, 0.7)  # height of own teeth that is enough, and shares of the middle of a mouth that have it and are
FILLED = 1.1  # share of the opening of a smile that upper teeth fill
TEETH_BESIDE_LIPS = 1.12, 1.22  # brightness beside lips, more by PALER for what has no colour, from which, and up to which, it is teeth
PALER, PALER_IN_GREY, GREY = 0.6, 0.2, 0.06  # ... in pictures whose lips have less saturation than GREY
PALE = 0.05, 0.2  # less saturation than lips' of teeth
LIP_BLURS = 0.6  # over teeth, in pixels
ONLY_UPPER = 0.18, 0.28  # openings of a photograph up to which what is bright there are upper teeth
SHOWS_OWN = 0.05, 0.09  # openings of a photograph from which its own inside shows
GROWS = 0.03, 0.09  # growth of the opening from which that is not enough
OWN_GROWS = 0.10, 0.14  # the same where another photograph lends its mouth
ROUNDS = 0.08, 0.4  # growth of the opening from which, and up to which, its lower edge gets round
WHOLE = 0.02, 0.15  # the same from which, and up to which, lips stay as thick as they were
CHANGES = 0.05  # a change of the opening after which nothing of the moved inside is left
DRAWN = {"mouthSmile": 0.6, "mouthUpperUp": 0.8, "mouthLowerDown": 0.4}  # coefficients that draw lips from teeth, and how far


def open_mouths(move: Move, image: Tensor, validity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Show what is inside of mouths that open, or that move open.

    Args:
        move: the move.
        image: (B,3,H,W) the moved picture.
        validity: (B,1,H,W) of it.

    Returns:
        picture and validity, equal bit for bit in rows whose mouth stays as it is, and the share of
        pixels that are a mouth's inside now (B,1,H,W).
    """
    source, size = move.source, (image.shape[-2], image.shape[-1])
    inside = torch.zeros_like(validity)
    if not source.options.mouths or not source.head.has_face_mesh or not source.upper_teeth:
        return image, validity, inside
    now, before = (mouth_marks(source.head, posed.points, size) for posed in (move.posed, source.posed))
    images, validities, insides = (list(values.split(1)) for values in (image, validity, inside))
    for row in range(len(image)):
        frame, own = (MouthFrame.of(marks[row]) for marks in (now, before))
        shift = (now[row] - before[row])[list(UPPER + LOWER), :2].norm(dim=-1).max()
        moves = 0.0 if bool(move.still[row]) else float(shift) / source.pixels(source.options.mesh_edge)
        seam = (min(moves, 1.0) - 0.02) * (1 - smooth_step(frame.opening, *SHOWS_OWN))
        if seam > 0:
            images[row] = softened_seam(move, row, images[row], seam)
        amount = _amount(frame, own, moves) if moves > 0 else 0.0
        if amount > 0:
            teeth = smooth_step(own.opening, *SHOWS_OWN) * _shows_teeth(move, row, own)
            frame, own = (MouthFrame.of(marks) for marks in moved_marks(move, row, now[row], before[row], teeth))
            opening = _opening(frame, own, size, teeth)
            if opening.parts > 0:
                images[row] = moved_lips(opening, frame, images[row])
            rows = _opened(move, row, opening, images[row], validities[row], amount)
            images[row], validities[row], insides[row] = rows
    return torch.cat(images), torch.cat(validities), torch.cat(insides)


def _opening(frame: MouthFrame, own: MouthFrame, size: tuple[int, int], teeth: float) -> Opening:
    """A mouth that opens; lips that show teeth, 0..1, keep their shape and do not come down over them. (Lips that were closed, drawn so,
    were rated worse than the mesh's.)"""
    grows = frame.opening - own.opening
    frame = frame.with_whole_lips(own, teeth * smooth_step(grows, *WHOLE) * min(frame.frontal, own.frontal))
    return Opening.of(frame.rounded(smooth_step(grows, *ROUNDS), teeth), own, size, teeth)


def _amount(frame: MouthFrame, own: MouthFrame, moves: float) -> float:
    """How far the inside of a mouth is shown, 0..1, by the lips' largest move in units of what a fit may be wrong by."""
    opens = abs(frame.opening - own.opening) / CHANGES
    # the inside of a mouth that moves open does not move as the head model's does
    return min(max(opens, smooth_step(own.opening, *SHOWS_OWN) * moves) - 0.02, 1.0)


def _opened(move: Move, row: int, opening: Opening, image: Tensor, validity: Tensor, amount: float) -> tuple[Tensor, Tensor, Tensor]:
    """One picture (1,3,H,W), its validity (1,1,H,W) and the share of its mouth's inside (1,1,H,W)."""
    window, known = image[opening.here], validity[opening.here]
    light = MouthLight.around(move, row, opening, window, known)
    wide, own_share = opening.frame.opening, smooth_step(opening.own.opening, *SHOWS_OWN)
    arches = [
        DentalArch.of(move.source.head, move.source.upper_teeth, posed.points[row], move.source.size)
        for posed in (move.posed, move.source.posed)
    ]
    inside = behind_teeth(opening, light, move.target.light[row], float(opening.frame.straight(arches[0].tip)[0]))
    smiling, painted = _smiling(move, row), 1 - opening.teeth
    own_teeth = _own_teeth(move, row, opening, *arches) if opening.teeth > 0 else None
    if own_teeth is not None:
        # a mouth that was open without any shows some as it smiles, and so does one that was hardly open
        hidden = max(smiling, 1 - smooth_step(opening.own.opening, *ONLY_UPPER))
        painted = max(painted, hidden * (1 - _seen(opening, own_teeth[1])))
    if painted > 0:
        colours, share = _painted_teeth(opening, light, smiling, *arches)
        inside = torch.lerp(inside, colours, share * painted)
    if own_teeth is not None:
        colours, share = own_teeth
        inside = torch.lerp(inside, colours, share * opening.teeth)
    # an opening that hardly grows shows the photograph's own inside
    own_inside = own_share * (1 - smooth_step(wide - opening.own.opening, *GROWS))
    if own_inside > 0:
        inside = torch.lerp(inside, _own_inside(move, row, opening), own_inside)
    inside = _lent(move, row, opening, image, inside, light)
    alpha = opening.shrunk(opening.alpha[None])
    inside = opening.shrunk(inside.clamp(0, 1) * opening.alpha) / alpha.clamp_min(1e-3)
    # from the side the edges of lips reach beyond them
    alpha = alpha * move.posed.mesh[row, None, :, opening.rows, opening.columns]
    lips, near = healed_lips(move, row, opening, window)
    image, validity, shares = image.clone(), validity.clone(), torch.zeros_like(validity)
    shares[opening.here] = amount * alpha
    shown = torch.lerp(window, torch.lerp(lips, inside, alpha), amount * near)
    image[opening.here] = torch.lerp(shown, closed_lips(move, row, opening, shown), amount)
    validity[opening.here] = torch.lerp(known, torch.full_like(known, move.source.options.mouth_validity), amount * alpha)
    return image, validity, shares


def _seen(opening: Opening, teeth: Tensor) -> float:
    """How far own teeth of share (h,w) are enough that none have to be painted, 0..1, by what is seen of them at the middle."""
    middle = ((opening.along - 0.5).abs() < 0.25) & (opening.alpha > 0.5)
    height = (teeth * middle).sum(0)[middle.any(0)] / (SAMPLES * opening.frame.width)
    return smooth_step(float((height / SEEN).clamp(max=1).mean()) if len(height) else 0.0, *FEW)


def _lent(move: Move, row: int, opening: Opening, image: Tensor, inside: Tensor, light: MouthLight) -> Tensor:
    """Colours (3,h,w) of the inside with what another photograph lends, as far as the source's own mouth does not do."""
    patch = lent_mouth(move.source.face, move.target, row)
    if patch is None:
        return inside
    own = smooth_step(opening.own.opening, *SHOWS_OWN) * (1 - smooth_step(opening.frame.opening - opening.own.opening, *OWN_GROWS))
    share = (opening.along - opening.frame.upper[0, 0]) / (opening.frame.upper[-1, 0] - opening.frame.upper[0, 0])
    # lips that are less apart than theirs hide more of it, they do not press it together
    shown = min(1.0, opening.frame.opening / float(patch.opening))
    depth = shown * opening.below / (opening.below + opening.above).clamp_min(1e-3)
    marks = mouth_marks(move.source.head, move.posed.points[row : row + 1], move.source.size)
    colours = lent_inside(patch, share, depth.clamp(0, 1), skin_colours(image, marks)[0], light.teeth.mean((1, 2))) * light.share.sqrt()
    return torch.lerp(inside, colours, (1 - own) * smooth_step(float(patch.opening), *LENDS))


def _smiling(move: Move, row: int) -> float:
    """How far the target's lips are drawn from its teeth, 0..1."""
    names, codes = move.source.head.expression_names, move.target.expression[row]
    drawn = sum(
        share * float(codes[names.index(name + side)]) / 2
        for name, share in DRAWN.items()
        for side in ("Left", "Right")
        if name + side in names
    )
    return smooth_step(drawn, 0.2, 0.7)


def _painted_teeth(opening: Opening, light: MouthLight, smiling: float, arch: DentalArch, own_arch: DentalArch) -> tuple[Tensor, Tensor]:
    """Upper teeth that no photograph showed, of a mouth that smiles 0..1: colours (3,h,w) and share (h,w)."""
    frame, own = opening.frame, opening.own
    (along, down), (own_along, own_down) = frame.straight(arch.tip), own.straight(own_arch.tip)
    lip, own_lip = (float(edge_at(one.upper, x.clamp(0.3, 0.7)[None])) for one, x in ((frame, along), (own, own_along)))
    # fits say little about the height of hidden teeth; behind a relaxed lip they end a little below it
    below_lip = float(down) - lip + (own_lip + REST - float(own_down)) * own.width / frame.width
    shown = min(max(below_lip, LEAST * smooth_step(frame.opening, PARTED, OPEN)), MOST, 0.55 * frame.opening)
    shown = max(shown, smiling * min(FILLED * frame.opening, MOST))
    arch = arch.shifted((lip + shown - float(down)) * frame.down)
    angle, height = arch.angle_and_height(opening.places)
    row = arch.length(angle)
    above_tip, brightness = upper_teeth_row(row, height)
    pixels = SAMPLES * float(arch.axes[1].norm())
    share = (above_tip * pixels + 0.5).clamp(0, 1) * (1 - smooth_ramp(row, 0.015, 0.030))
    share = share * max(smooth_step(frame.opening, 0.04, 0.12), smiling * smooth_step(frame.opening, 0.01, 0.04))
    contact = 1 - (0.35 - 0.2 * smiling) * torch.exp(-((opening.below.clamp_min(0) / (0.02 + 0.25 * shown)) ** 2))
    brightness = brightness * (0.35 + 0.65 * torch.exp(-((row / SIDES) ** 2)))
    brightness = brightness * (1 + 0.08 * smiling)
    return light.teeth * light.share * brightness * light.shaded(contact), share


def _shows_teeth(move: Move, row: int, own: MouthFrame) -> float:
    """Whether the bright part of what lies between the photograph's lips is teeth and not more lip, 0..1; 1 of wide mouths."""
    along, depth = (torch.linspace(low, high, n).to(own.upper) for low, high, n in ((0.25, 0.75, 21), (0.2, 0.8, 5)))
    upper, lower = edge_at(own.upper, along), edge_at(own.lower, along)
    down = torch.lerp(upper, lower, depth[:, None])
    places = own.places(torch.stack([along.expand_as(down), down], -1))
    colours = sampled(move.source.image[row : row + 1], places[None])[0].clamp(0, 1)
    luma = luma_of(colours)[0]
    bright = colours[:, luma >= luma.quantile(0.7)].mean(1)[:, None, None]
    lips = _lips(move, row, own)
    brighter = float(luma_of(bright)) / max(sum(float(luma_of(lip)) for lip in lips) / 2, 0.02)
    colour = _mean_saturation(lips)
    paler = 1 - float(_saturation(bright)) / colour if colour > GREY else PALER_IN_GREY
    return max(smooth_step(brighter * (1 + PALER * paler), *TEETH_BESIDE_LIPS), smooth_step(own.opening, *ONLY_UPPER))


def _saturation(colours: Tensor) -> Tensor:
    """(1,...) of colours (3,...)."""
    return 1 - colours.amin(0, keepdim=True) / colours.amax(0, keepdim=True).clamp_min(0.02)


def _paler_than_lips(colours: Tensor, lips: float) -> Tensor:
    """(h,w) in 0..1: where colours (3,h,w) have less saturation than lips; everywhere in a picture without colours."""
    return smooth_ramp(1 - _saturation(colours)[0] / lips, *PALE) if lips > GREY else torch.ones_like(colours[0])


def _lips(move: Move, row: int, own: MouthFrame) -> list[Tensor]:
    """Colours (3,1,1) of both lips in the photograph."""
    return [lip_colour(move, row, own, *edges) for edges in own.lips]


def _mean_saturation(colours: list[Tensor]) -> float:
    return sum(float(_saturation(colour)) for colour in colours) / len(colours)


def _own_teeth(move: Move, row: int, opening: Opening, arch: DentalArch, own_arch: DentalArch) -> tuple[Tensor, Tensor]:
    """The photograph's upper teeth, which stay at the skull: colours (3,h,w) and share (h,w)."""
    source, person = move.source, move.source.person
    if person is None or person.teeth is None:
        return opening.places.new_zeros(3, 1, 1), torch.zeros_like(opening.alpha)
    one, own = slice(row, row + 1), opening.own

    def in_photograph(places: Tensor) -> Tensor:
        return own.straight(own_arch.places(*arch.angle_and_height(places)))

    # a lip that comes down by a little takes them along: of teeth that show little nothing would be left
    lip = in_photograph(opening.frame.places(opening.frame.upper))[MIDDLE]
    covers = (lip[:, 1] - edge_at(own.upper, lip[:, 0])).mean().clamp(-COVERS, COVERS)
    along, down = (in_photograph(opening.places) - covers * lip.new_tensor([0.0, 1.0])).unbind(-1)
    # a lip that is raised shows more of teeth: what is nearest to it goes on
    edge = edge_at(own.upper, along) + LIP_SHADE
    hidden, down = (edge - down).clamp_min(0), down.maximum(edge)
    shown = sampled(torch.cat([source.image[one], person.teeth[one]], 1), own.places(torch.stack([along, down], -1))[None])[0].clamp(0, 1)
    within = torch.minimum((down - edge_at(own.upper, along)) * own.width, (edge_at(own.lower, along) - down) * own.width - LIP_BLURS)
    # between lips that are hardly apart there are no others
    share = shown[3].clamp_min(1 - smooth_step(own.opening, *ONLY_UPPER))
    share = share * smooth_ramp(within, -0.3, 1.3) * (1 - smooth_ramp(hidden, *GOES_ON))
    if not bool((share > 0.5).any()):
        return shown[:3], torch.zeros_like(share)
    # what is much darker lies behind the teeth, but for the gaps between them
    luma = luma_of(shown[:3])[0]
    bright = float(luma[share > 0.5].quantile(0.9))
    width = opening.frame.width * SAMPLES
    teeth = smooth_ramp(luma, 0.35 * bright, 0.6 * bright) * _paler_than_lips(shown[:3], _mean_saturation(_lips(move, row, own)))
    teeth = dilate(teeth[None, None], 2 * round(0.03 * width) + 1)
    share = share * gaussian_blur(teeth, 0.02 * width)[0, 0]
    return relit_there(move, row, opening, shown[:3]) * (1 - 0.25 * smooth_ramp(hidden, 0.0, GOES_ON[0])), share


def _own_inside(move: Move, row: int, opening: Opening) -> Tensor:
    """(3,h,w): the photograph's own inside of the mouth, between the lips as they are now."""
    frame, own = opening.frame, opening.own
    share = (opening.along - frame.upper[0, 0]) / (frame.upper[-1, 0] - frame.upper[0, 0])
    along = torch.lerp(own.upper[0, 0], own.upper[-1, 0], share)
    upper, lower = edge_at(own.upper, along), edge_at(own.lower, along)
    now, before = (opening.below + opening.above).clamp_min(1e-3), (lower - upper).clamp_min(0)
    # lips that close hide more of it, lips that part stretch it
    down = upper + (opening.below * (before / now).clamp(max=1)).clamp(-0.02, None).minimum(before + 0.02)
    shown = sampled(move.source.image[row : row + 1], own.places(torch.stack([along, down], -1))[None])[0].clamp(0, 1)
    return relit_there(move, row, opening, shown)

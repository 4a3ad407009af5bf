"""Settings of moving a photograph, of the volume of its hair, and of swaps by photograph."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CarryOptions:
    """How a photograph is moved and relit.

    Lengths are shares of the picture's longer side, unless a comment names another unit. "Validity"
    is how far a pixel of the result can be trusted, 0..1.
    """

    # --- Where it goes ---
    # stretch the difference of source and target by the factors of `expression.GAIN`
    stretch_expression: bool = True
    # beside the mesh the displacement fades as exp(-(distance / reach)^2)
    reach: float = 0.18
    # the same, where layers let the background stay while the person moves
    hair_reach: float = 0.35
    # standard deviation of the blur of the displacement beside the mesh
    motion_blur: float = 0.03

    # --- Light ---
    # beside the skin the change of light fades as exp(-(distance / light_reach)^2)
    light_reach: float = 0.07
    # the same, where layers keep the light off the background
    matte_light_reach: float = 0.14
    # it fades within this of the square's upper border too, and of the others, where the photograph goes on: what is beyond keeps its light
    light_border: float = 0.1
    body_border: float = 0.2
    # standard deviation of the blur of the line at which the light on a neck becomes that on the body
    collar_blur: float = 0.03
    # share of a change of light that a body takes, whose form is known roughly, and how far beside the mesh it does
    body_share: float = 0.8
    body_reach: float = 0.1
    # how far from its outline a body turns away from the viewer
    body_edge: float = 0.06
    # standard deviation of the blur of the change of light
    light_blur: float = 0.024
    # window of the dilation of the mesh's eyes, and standard deviation of the blur of the light on skin that goes on in them
    eye_margin: float = 0.03
    eye_blur: float = 0.015
    # how far around the root of the nose light goes on from what is around, in distances of the inner corners of the eyes; 0: nowhere
    glabella: float = 0.75
    # how far it does in light that is taken from another picture: there the head model's own form was fitted to what was seen
    glabella_taken: float = 0.4
    # standard deviation of the blur of the change of light on hair, and what its ratio and the inverse approach softly
    hair_light_blur: float = 0.03
    hair_ratio_limit: float = 2.5
    # by how much the change of light that is taken from another picture is stressed over the head: photographs have shadows, which
    # spherical harmonics of second order state too weakly, and what is blurred below loses contrast
    light_gain: float = 1.3
    # the same for light by numbers
    lamp_gain: float = 1.05
    # how much of the colour of light that is taken from another picture comes along, from warm to cold, and else
    warmth_gain: float = 2.0
    other_tint: float = 0.25
    # light ratios approach this and its inverse softly
    ratio_limit: float = 8.0
    # the same for what a turn alone changes: sides that turn to the camera were hardly seen by the fit of the light
    turn_limit: float = 1.5
    # by how many stops of linear light a face lit by numbers may become darker or brighter in the mean
    darker_stops: float = 0.1
    brighter_stops: float = 0.15
    # by how many a face in another picture's light may become darker so that its highlights do not burn
    taken_stops: float = 0.25
    # and how much of what is darker still: bright skin cannot be lit, so a strong lamp must leave it shadows
    shadow_share: float = 0.1
    # value that lit skin approaches and does not pass, unless it did before
    highlight: float = 0.92
    # factor by which light brightens picture values at most: what is nearly black, such as hair, shows its noise otherwise
    most_lit: float = 2.0
    # and by which it darkens them at most: even beside one lamp a room lends its light
    least_lit: float = 3.4
    # how far around its brightest skin counts, and the standard deviation of the blur of that
    highlight_reach: float = 0.012
    highlight_blur: float = 0.02
    # least shading, as a share of its mean: a light fitted to a visible face says little about
    # directions the face hides
    shading_floor: float = 0.3
    # the same on skin that is guessed, where the light is an extrapolation
    hidden_shading: float = 0.6

    # --- What the source's camera saw ---
    # how far a point may lie behind what the camera saw, in units of the projected mesh (the crop
    # is 2 wide)
    depth_tolerance: float = 0.03
    # texture that the source saw at less than this share of the target's foreshortening fades out:
    # it is stretched
    grazing: float = 0.4
    # validity falls as exp(-(|gradient of the displacement| / stretch)^2), pixels per pixel
    stretch: float = 0.8

    # --- The person's outline ---
    # pixels around the person where the background is mixed with it
    outline: int = 2
    # standard deviation of the blur of the moved person's outline, in pixels
    edge_blur: float = 0.55
    # how far skin may reach beyond the mesh, because the fit is not exact
    mesh_edge: float = 0.012
    # gaps in the moved person up to this width are no view of the background
    closing: float = 0.02
    # lines on the head that no camera saw, narrower than this, are closed from both sides, and stairs smoothed; 0 leaves both
    line: float = 0.02

    # --- The background where the person was ---
    # standard deviation of the blur of the colours that stand in for it
    fill_blur: float = 0.015
    # their validity where the background around is plain
    fill_validity: float = 0.6
    # how far around is looked at
    plain_reach: float = 0.03
    # standard deviation of the colours there (0..1) at which a background is plain no more
    plain_spread: float = 0.04
    # what was behind them goes on with its structure, which a head that stays where it is hardly uncovers; else with its colours alone
    structure: bool = True

    # --- The person where the source did not show it ---
    # validity of what is only continued from around
    guess_validity: float = 0.1
    # validity of hair that stands in for hair behind it
    mirrored_validity: float = 0.4
    # validity of what the map of the whole head says
    map_validity: float = 0.5
    # how much the colour of that hair counts beside the colours around
    mirrored_share: float = 0.3
    # how much the nearest hair's colour counts where the mesh stands out beyond the hair
    beyond_share: float = 0.8
    # how much the colour of clothes counts beside that of skin, where skin goes on
    cloth_share: float = 0.0005
    # eyes are a layer of their own, with lids and whites that no camera saw; else the mesh moves them
    eyes: bool = True
    # validity of what no camera saw of them
    lid_validity: float = 0.6
    # deepen the folds of faces that begin to smile
    folds: bool = True
    # show what is inside of mouths that open
    mouths: bool = True
    # validity of that
    mouth_validity: float = 0.6
    # how far hair has to stand out from a neck (the crop is 2 wide) until its colour is hair's
    nape_hair: float = 0.04
    # the background stays as it is, whatever it shows, as it has to from frame to frame; else all but a plain wall may go along with a head
    # that is bent
    still_background: bool = False
    # turned heads are bent as one piece; None takes the picture apart into layers alone
    bend: BendOptions | None = field(default_factory=lambda: BendOptions())


@dataclass(frozen=True)
class HairOptions:
    """How the volume of hair is read off its outline. Lengths are shares of the picture's side."""

    # directions around the head
    angles: int = 72
    # steps outwards in each direction
    radii: int = 96
    # farthest that hair may stand out from the head model
    farthest: float = 0.3
    # widest gap between head model and hair that the fit's error explains
    gap: float = 0.03
    # standard deviation of the smoothing over directions, in degrees
    smoothing: float = 10.0

    # --- The outline of the head with its hair, fitted to the person's ---
    # times that its distance to the person's is measured and taken away
    fit_steps: int = 3
    # standard deviation of the smoothing of that distance over directions, in degrees
    fit_smoothing: float = 5.0
    # share of the way from the middle to the outline that is person in any case
    core: float = 0.6
    # farthest that the person may go on beyond the mesh
    widest: float = 0.03
    # farthest that the mesh of a face or an ear may stand out beyond the person
    narrowest: float = 0.05
    # degrees from up between which the head's outline becomes the neck's
    jaw: tuple[float, float] = (140.0, 160.0)
    # rows in which the neck's width is measured
    neck_rows: int = 24
    # least and largest factor of its width
    neck: tuple[float, float] = (0.75, 1.3)


@dataclass(frozen=True)
class MapOptions:
    """How the whole head is completed (`head_map`). Lengths are shares of the picture's side."""

    # least light, as a share of its mean: what a head hides was lit by nothing that was seen
    floor: float = 0.5
    # texture at this cosine between the surface and the line of sight is too stretched to be used
    grazing: float = 0.06
    # and that much more of it is fine
    facing: float = 0.16
    # the outline of a person, and how far around clothes nothing is skin or hair
    edge: float = 0.01
    cloth: float = 0.023
    # how far from hair a cheek may be under it
    strands: float = 0.012
    # degrees from the front up to which detail is made: what a turn by half a right angle uncovers
    reach: float = 142.0
    # how far a strand of hair goes on, in texels of the map
    strand: float = 4.0
    # largest contrast of the finest of its detail (mean of absolute logarithms)
    contrast: float = 0.08
    # motion from which on stretched texture is not shown any more
    moved: float = 0.004


@dataclass(frozen=True)
class TransferOptions:
    """How regions of a reference are laid over a source. Lengths are shares of the picture's side."""

    # standard deviation of the window in which skin of the reference gets the colour of the
    # source's
    tint_blur: float = 0.035
    # largest factor of that colouring, and its inverse the least
    largest_tint: float = 5.0
    # validity of the reference's skin where it stands in for skin that the source's hair or clothes
    # hid
    skin_validity: float = 0.6
    # how far that skin may be from its own colours around it (0..1): highlights and beards do not come along
    unlike: float = 0.04


@dataclass(frozen=True)
class CutoutOptions:
    """How a person is cut out of a photograph. Lengths in units of 1/256 of the picture's longer side, but for those that say
    "share of the side"."""

    # window of the dilation of a person that certainly holds it
    margin: float = 4.0
    # the same, of hair
    hair_margin: float = 14.0
    # window around the matte's edge in which colours may correct it
    band: float = 5.0
    # how much nearer a pixel beside counts than one above or below, where the background goes on (odd)
    sideways: int = 3
    # standard deviation of the blur of the colours that go on, share of the side
    fill_blur: float = 0.015
    # validity of what is filled where the background around is plain
    fill_validity: float = 0.6
    # how far around is looked at to say so, share of the side
    plain_reach: float = 0.03
    # standard deviation of the colours there (0..1) at which a background is plain no more
    plain_spread: float = 0.04
    # how far from the person single hairs are looked for, share of the side
    stray_reach: float = 0.09
    # window of the broadest that is a hair
    strand: float = 9.0
    # least difference of a hair's colour from the background's
    stray_difference: float = 0.05
    # window of the dilation of a person that holds no wall of its own; and smoothed difference from a plain wall (0..1) from which, and at
    # which, what is farther away is the person's, too: as narrow as a strand, and of any breadth
    beside_wall: float = 6.0
    unlike_wall: tuple[float, float] = (0.012, 0.024)
    unlike_wall_at_all: tuple[float, float] = (0.04, 0.08)
    # whether the background behind the person goes on with its structure
    structure: bool = True


@dataclass(frozen=True)
class BendOptions:
    """How a turned head is bent as one piece. Differences of motions are of neighbours, in pixels per pixel."""

    # cells along a side of the coarse picture on which fields are solved
    cells: int = 48
    # times that what is pressed or drawn farther than this multiple of what it may be is held
    rounds: int = 2
    slack: float = 1.2
    # how well the source's camera has to have seen a face's surface (`motion.seen_by_source`), and the share of the target's face that it
    # did not see so well from which, and at which, only the layers show it: both at once would be two heads
    seen: float = 0.12
    unseen: tuple[float, float] = (0.12, 0.1201)
    # cosine between a face's surface and the line of sight, of both cameras, from which on it moves as the mesh does
    facing: float = 0.5
    # farthest that a surface is pressed together, drawn out and sheared
    pressed: float = 0.62
    drawn: float = 0.6
    shear: float = 0.6
    # by how much less an ear is drawn out than the head model's, which lies closer to the head, as a share
    ears: float = 1.0
    # difference of the depths of neighbouring cells (the crop is 2 wide) from which on one surface ends before another, and at twice of it
    # all of it does
    step: float = 0.2
    # how much it matters that neighbours move alike, where one surface is 1: of the background, of the rest of the person, and of hair
    # that is drawn out as its side comes into view
    background: float = 0.05
    person: float = 0.3
    hair: float = 0.08
    # how much it matters where they go: what stays, the core of the face, the outline on the side that comes into view, the background
    held_weight: float = 10.0
    core_weight: float = 1.0
    ring_weight: float = 0.05
    background_weight: float = 0.08
    # the outline leads between these shares of the way from the skull's middle to it, and from this many degrees from straight down on
    ring: tuple[float, float] = (0.92, 1.1)
    jaw: tuple[float, float] = (85.0, 100.0)
    # share of an ear that a turn leaves in sight at which, and from which on no more, it is hidden
    hidden: tuple[float, float] = (0.1, 0.4)
    # motion in pixels up to which, and from which on not at all, the picture stays as it is
    resting: tuple[float, float] = (0.03, 0.15)
    # degrees of roll between which a background can follow no more
    rolls: tuple[float, float] = (8.0, 14.0)
    # clothes and shoulders give way within this share of the side around the head
    collar: float = 0.03
    # the background goes along within this share of the side around it
    reach: float = 0.15
    # a head goes before what rests on this side of its middle, in halves of its width towards where the face goes, and where it is so many
    # degrees from straight down
    far: tuple[float, float] = (-0.3, 0.2)
    low: tuple[float, float] = (70.0, 90.0)
    # a background that the photograph shows is hidden by a head that goes before it, and keeps its place, on this side of the head's middle
    hides: tuple[float, float] = (0.3, 0.6)
    # the matte's end counts as the outline up to this share beyond the head model's, or its inverse before it
    widest: float = 1.25
    # backgrounds with lines as straight as this stay, and show what is made up behind the head (`backdrop.straight_lines`)
    lines: tuple[float, float] = (0.007, 0.011)
    # validity of a background that goes along: the photograph's own, but not where it was
    background_validity: float = 0.8
    # gradient of the motion (pixels per pixel) from which, and at which, what is drawn out is sharp no more
    stretched: tuple[float, float] = (1.1, 1.5)


# light as two heads' numbers say it, neither stressed nor held back as edits of photographs need it: for rendered people, whose numbers are
# known, and for what shall come back as it was
EXACT_LIGHT = CarryOptions(light_gain=1.05, light_blur=0.013, glabella=0.0, highlight=100.0, most_lit=100.0)

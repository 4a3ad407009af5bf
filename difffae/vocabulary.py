"""The names that options, sockets, files and documents share. Imports nothing, so that a command's help is instant."""

from __future__ import annotations

REGIONS = ("face", "hair", "clothes", "background")  # what the slot tokens stand for (paper 4.2)
SWAPPABLE = REGIONS[1:]  # regions that a swap can take from a reference
TAKEABLE = ("pose", "expression", "light")  # groups of attributes that an edit can take from a query
FRAMINGS = ("source", "query")  # whose place and size in the frame a face with another's pose has
SAMPLERS = ("dpmpp_2m", "ddim")
RASTERIZERS = ("torch", "pytorch3d", "auto")  # auto: pytorch3d on a GPU if it is installed
MISSING_FACE = ("error", "interpolate", "repeat")  # what to do about frames of a video without the face
BUNDLED_MODELS = ("open-256", "paper-mini")  # that ship, as NAME.safetensors; the first is the default
ESTIMATORS = ("fit", "network")  # readers of the open head's numbers; the first is the default

# How much of the square the model paints anew, from 0 (nothing: the carried photograph as it is) to 1 (everything, from noise alone): what
# edits do unless told, and what repairs the places that the photograph could not show.
DENOISE, REPAIR = 0.0, 0.2
STEPS = 10  # evaluations of the denoiser
# Width of the soft border of a square that is pasted back, as a share of its side. Wider, the low frequencies of what stood near the
# border would stay as a ghost, such as hair above a head that was turned.
FEATHER = 0.012

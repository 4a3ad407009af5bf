"""The trained parts of one profile in one file: first stage, slot encoder (or another encoder of the source), denoiser.

Shape letters: B batch, S slots, D token size, I identity size, Z latent channels, H and W image sides, h = H/8, w = W/8.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from ..common.checkpoint import Checkpoint, filled, load_checkpoint, save_checkpoint
from ..common.errors import CheckpointError, ConfigError
from ..diffusion.autoencoder import FirstStage
from ..diffusion.conditions import Conditions, carry_latents
from ..diffusion.denoiser import Denoiser
from ..diffusion.first_stages import build_first_stage, describe
from ..diffusion.schedule import ScheduleConfig
from ..source.other_encoders import SourceEncoder, build_source_encoder
from ..source.slots import SlotEncoder

KIND = "edit"
# of files that do not name theirs
DEFAULT_IDENTITY = "dlib-resnet-v1"
DEFAULT_HEAD = "open"
# what a model file may state of the files that it was trained with -> the option that names another
FINGERPRINTED = {"head": "--head", "estimator": "--deca", "identity": "--identity"}


class EditModel(nn.Module):
    """First stage, encoder of the source and denoiser, whose sizes agree. The encoder makes the tokens: slots, or for comparison a
    `SourceEncoder`, which knows no regions. identity and head name the identity network and the head model whose tokens and renders the
    denoiser was trained with; fingerprints (of FINGERPRINTED) their contents, where they are known. Raises CheckpointError for parts that
    do not go together."""

    def __init__(
        self,
        autoencoder: FirstStage,
        encoder: SlotEncoder | SourceEncoder,
        denoiser: Denoiser,
        name: str = "unnamed",
        identity: str = DEFAULT_IDENTITY,
        head: str = DEFAULT_HEAD,
        fingerprints: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.encoder: SlotEncoder | SourceEncoder = encoder
        self.denoiser = denoiser
        self.name = name
        self.identity = identity
        self.head = head
        self.fingerprints = dict(fingerprints or {})
        have, need = autoencoder.config.latent_channels, denoiser.config.latent_channels
        if have != need:
            raise CheckpointError(
                f"model '{name}': the first stage has {have} latent channels, the denoiser {need}; combine parts that agree"
            )
        have, need = encoder.token_size, denoiser.config.token_size
        if have != need:
            raise CheckpointError(
                f"model '{name}': its source encoder makes tokens of {have} numbers, the denoiser reads {need}; combine parts that agree"
            )

    @property
    def has_slots(self) -> bool:
        return isinstance(self.encoder, SlotEncoder)

    @property
    def slots(self) -> SlotEncoder:
        """The slot encoder. Raises ConfigError for a model with another encoder of the source."""
        if isinstance(self.encoder, SlotEncoder):
            return self.encoder
        raise ConfigError(
            f"model '{self.name}': its source encoder is '{self.encoder.kind}', which knows no regions, so there are no slots to swap or "
            "show; use a model with slots"
        )

    def parts(self) -> dict[str, nn.Module]:
        """The modules by their names in a file."""
        return {"autoencoder": self.autoencoder, "slots" if self.has_slots else "source_encoder": self.encoder, "denoiser": self.denoiser}

    def tensors(self) -> dict[str, Tensor]:
        """All weights by their names in a file."""
        return {f"{part}.{key}": value for part, module in self.parts().items() for key, value in module.state_dict().items()}

    @property
    def image_size(self) -> int:
        """Side of the square crops in pixels."""
        return self.denoiser.config.sample_size * self.autoencoder.factor

    @property
    def schedule(self) -> ScheduleConfig:
        return self.denoiser.config.schedule

    def conditions(self, tokens: Tensor, identity: Tensor, render: Tensor, carried: Tensor, validity: Tensor) -> Conditions:
        """Pictures -> what the denoiser is told.

        tokens (B,S,D), identity (B,I), render and carried (B,3,H,W) RGB 0..1, validity (B,1,H,W). Without carry in the profile the
        last two are left out.
        """
        render_latents = self.autoencoder.encode(render.clamp(0, 1))
        if not self.denoiser.config.carry:
            return Conditions(tokens, identity, render_latents)
        return Conditions(tokens, identity, render_latents, *carry_latents(self.autoencoder, carried, validity))

    def save(self, path: str | Path, *, license: str, source: str, eight_bit: bool = True, half: bool = True) -> None:
        """One safetensors file with the configuration in its metadata; weights in 8 bits, the small ones in float16, or all in float16,
        or with neither as they are."""
        config = {
            "name": self.name,
            "identity": {"network": self.identity},
            "head": self.head,
            "autoencoder": describe(self.autoencoder),
            "denoiser": self.denoiser.config.to_dict(),
        }
        if isinstance(self.encoder, SlotEncoder):
            config["slots"] = self.encoder.config.to_dict()
        else:
            config["source_encoder"] = self.encoder.to_dict()
        if self.fingerprints:
            config["fingerprints"] = self.fingerprints
        save_checkpoint(path, self.tensors(), kind=KIND, config=config, license=license, source=source, eight_bit=eight_bit, half=half)

    @classmethod
    def load(cls, path: str | Path) -> EditModel:
        """Read what `save` wrote; frozen, in evaluation mode. Raises CheckpointError."""
        return cls.from_checkpoint(load_checkpoint(path, KIND), path)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, path: str | Path) -> EditModel:
        """As `load`, from a checkpoint of kind "edit" that was read; path names its file in errors. Raises CheckpointError."""
        try:
            c = checkpoint.config
            autoencoder = filled(lambda: build_first_stage(c["autoencoder"], path), checkpoint.part("autoencoder"), path)
            encoder: SlotEncoder | SourceEncoder
            if "source_encoder" in c:
                encoder = filled(lambda: build_source_encoder(c["source_encoder"], path), checkpoint.part("source_encoder"), path)
            else:
                encoder = SlotEncoder.from_checkpoint(checkpoint, path, "slots")
            denoiser = Denoiser.from_checkpoint(checkpoint, path, "denoiser")
            identity, head = c.get("identity", {}).get("network", DEFAULT_IDENTITY), c.get("head", DEFAULT_HEAD)
            fingerprints = {part: str(c["fingerprints"][part]) for part in FINGERPRINTED if part in c.get("fingerprints", {})}
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: its configuration does not fit this version ({error}); convert or download it again") from error
        model = cls(autoencoder, encoder, denoiser, c.get("name", Path(path).stem), identity, head, fingerprints)
        return model.eval().requires_grad_(False)

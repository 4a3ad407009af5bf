from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import icc
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, features
from places import ROOT

from difffae.common.errors import ImageError
from difffae.common.images import check_writable, has_one_channel, read_image, write_image


def picture(height: int = 30, width: int = 50, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height: int = 64, width: int = 48) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([y * 3, x * 4, (x + y) * 2], -1).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("ending", ["png", "bmp", "tiff"])
def test_rgb_is_read_exactly(tmp_path: Path, ending: str):
    pixels = picture()
    Image.fromarray(pixels).save(tmp_path / f"a.{ending}")
    image, alpha = read_image(tmp_path / f"a.{ending}")
    assert alpha is None
    assert image.dtype == torch.float32
    assert image.is_contiguous()
    assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)


def test_png_comes_back_bit_for_bit(tmp_path: Path):
    pixels = picture()
    image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    write_image(tmp_path / "a.png", image[None], text={"attributes": '{"a": 1}'})
    with Image.open(tmp_path / "a.png") as stored:
        assert np.array_equal(np.asarray(stored), pixels)
        assert stored.info["attributes"] == '{"a": 1}'
    assert torch.equal(read_image(tmp_path / "a.png")[0], image)


@pytest.mark.parametrize(("ending", "least"), [("jpg", 38), ("jpeg", 38), ("webp", 36), ("PNG", 90)])
def test_formats(tmp_path: Path, ending: str, least: float):
    image = torch.from_numpy(smooth()).permute(2, 0, 1).float() / 255
    write_image(tmp_path / f"a.{ending}", image)
    back, _ = read_image(tmp_path / f"a.{ending}")
    assert -10 * torch.log10((back - image).square().mean() + 1e-12) > least
    assert [path.name for path in tmp_path.iterdir()] == [f"a.{ending}"]  # no temporary file stays


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int):
    pixels = picture(20, 30)
    upright = Image.fromarray(pixels)
    undo = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}.get(orientation, [])  # PIL's transpose methods
    stored = upright
    for method in undo:
        stored = stored.transpose(Image.Transpose(method))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    image, _ = read_image(tmp_path / "a.png")
    assert torch.equal(image, torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)


def test_greyscale_kinds(tmp_path: Path):
    grey = picture(channels=1)[..., 0]
    Image.fromarray(grey).save(tmp_path / "l.png")
    Image.fromarray(grey > 127).save(tmp_path / "1.png")
    Image.fromarray(np.stack([grey, grey], -1), "LA").save(tmp_path / "la.png")
    image, alpha = read_image(tmp_path / "l.png")
    assert alpha is None
    assert torch.equal(image, torch.from_numpy(grey).float().div(255).expand(3, -1, -1))
    assert torch.equal(read_image(tmp_path / "1.png")[0][1], torch.from_numpy(grey > 127).float())
    image, alpha = read_image(tmp_path / "la.png")
    assert torch.equal(alpha, image[:1])


def test_sixteen_bit(tmp_path: Path):
    values = np.random.default_rng(0).integers(0, 65536, (20, 30), dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "grey.png")
    image, _ = read_image(tmp_path / "grey.png")
    assert image.shape == (3, 20, 30)
    assert torch.allclose(image[2], torch.from_numpy(values.astype(np.float32) / 65535), atol=1e-6)
    (tmp_path / "rgb.png").write_bytes(sixteen_bit_rgb(values))
    image, _ = read_image(tmp_path / "rgb.png")
    assert torch.allclose(image[0], torch.from_numpy(values.astype(np.float32) / 65535), atol=1.01 / 255)


def sixteen_bit_rgb(values: np.ndarray) -> bytes:
    """A 16-bit RGB PNG with three equal channels; Pillow cannot write one."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape
    rows = np.repeat(values[..., None], 3, -1).astype(">u2").tobytes()
    lines = b"".join(b"\0" + rows[i * width * 6 : (i + 1) * width * 6] for i in range(height))
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def test_float_tiff(tmp_path: Path):
    values = np.random.default_rng(0).random((20, 30), dtype=np.float32)
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tiff")
    image, _ = read_image(tmp_path / "a.tiff")
    assert image[0, 0, 0] == 0
    assert torch.allclose(image[0, 1:], torch.from_numpy(values[1:]))


def test_alpha_round_trip_keeps_colours_under_transparency(tmp_path: Path):
    pixels = picture(channels=4)
    pixels[:10, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image, alpha = read_image(tmp_path / "a.png")
    assert alpha is not None
    assert torch.equal(torch.cat([image, alpha]), torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)
    write_image(tmp_path / "b.png", image, alpha)
    with Image.open(tmp_path / "b.png") as stored:
        assert np.array_equal(np.asarray(stored), pixels)
    write_image(tmp_path / "b.webp", image, alpha)
    back = read_image(tmp_path / "b.webp")[1]
    assert back is not None
    assert torch.equal(back, alpha)
    write_image(tmp_path / "b.jpg", image, alpha)
    assert read_image(tmp_path / "b.jpg")[0][:, :6].min() > 0.95  # laid over white


def test_palette(tmp_path: Path):
    quantized = Image.fromarray(smooth()).quantize(16)
    quantized.save(tmp_path / "p.png")
    image, alpha = read_image(tmp_path / "p.png")
    assert alpha is None
    assert torch.equal(image, torch.from_numpy(np.array(quantized.convert("RGB"))).permute(2, 0, 1).float() / 255)
    quantized.save(tmp_path / "t.png", transparency=3)
    image, alpha = read_image(tmp_path / "t.png")
    assert alpha is not None
    assert torch.equal(alpha[0] == 0, torch.from_numpy(np.array(quantized) == 3))


def test_cmyk_jpeg(tmp_path: Path):
    pixels = smooth()
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    image, _ = read_image(tmp_path / "a.jpg")
    assert (image - torch.from_numpy(pixels).permute(2, 0, 1) / 255).abs().mean() < 0.03


def test_other_colour_profiles_become_srgb(tmp_path: Path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(smooth()).save(tmp_path / "s.png", icc_profile=srgb)
    assert torch.equal(read_image(tmp_path / "s.png")[0], torch.from_numpy(smooth()).permute(2, 0, 1).float() / 255)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # cannot apply to RGB pixels: ignored
    Image.fromarray(smooth()).save(tmp_path / "l.png", icc_profile=lab)
    assert torch.equal(read_image(tmp_path / "l.png")[0], read_image(tmp_path / "s.png")[0])


def encoded(linear: np.ndarray) -> np.ndarray:
    """Linear light 0..1 as sRGB (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


NAMED_SRGB = "sRGB IEC61966-2.1"  # though it is linear


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tiff"])
def test_a_linear_profile_counts_whatever_its_name_is(tmp_path: Path, ending: str):
    options = {"quality": 100} if ending != "tiff" else {}
    Image.fromarray(smooth()).save(tmp_path / f"a.{ending}", icc_profile=icc.rgb(1.0, NAMED_SRGB), **options)
    plain = smooth().astype(np.float64) / 255
    image = read_image(tmp_path / f"a.{ending}")[0].permute(1, 2, 0).numpy()
    middle = plain > 0.1  # few steps of 255 lie below
    assert np.abs(image - encoded(plain))[middle].mean() < (0.004 if ending in ("png", "tiff") else 0.03)
    # and one that says sRGB within rounding changes nothing, whatever its name is
    Image.fromarray(smooth()).save(tmp_path / "s.png", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert torch.equal(read_image(tmp_path / "s.png")[0], torch.from_numpy(smooth()).permute(2, 0, 1).float() / 255)


def test_files_of_one_channel_are_told_apart(tmp_path: Path):
    grey = picture(channels=1)[..., 0]
    wide = grey.astype(np.uint16) * 257
    one = {
        "l.png": Image.fromarray(grey),
        "1.png": Image.fromarray(grey > 127),
        "la.png": Image.fromarray(np.stack([grey, grey], -1)),
        "l16.png": Image.fromarray(wide),
        "l.jpg": Image.fromarray(grey),
        "f.tiff": Image.fromarray(grey.astype(np.float32)),
    }
    three = {
        "rgb.png": Image.fromarray(np.stack([grey] * 3, -1)),
        "rgba.png": Image.fromarray(np.stack([grey] * 4, -1)),
        "p.png": Image.fromarray(grey).convert("P"),
        "cmyk.tiff": Image.fromarray(np.stack([grey] * 4, -1), "CMYK"),
    }
    for name, stored in (one | three).items():
        stored.save(tmp_path / name)
        assert has_one_channel(tmp_path / name) == (name in one), name
    with pytest.raises(ImageError, match="no such picture"):
        has_one_channel(tmp_path / "none.png")


@pytest.mark.parametrize(("ending", "mode"), [("png", "L"), ("jpg", "L"), ("webp", "RGB")])
def test_pictures_without_colours_are_written_as_brightness(tmp_path: Path, ending: str, mode: str):
    grey = torch.from_numpy(np.tile(np.arange(256, dtype=np.uint8), (16, 1))).float()[None] / 255
    write_image(tmp_path / f"a.{ending}", grey.expand(3, -1, -1), one_channel=True)
    with Image.open(tmp_path / f"a.{ending}") as stored:
        assert stored.mode == mode
    back, _ = read_image(tmp_path / f"a.{ending}")
    assert (back - grey).abs().max() * 255 <= {"png": 0.01, "jpg": 2, "webp": 8}[ending]  # what the formats lose
    write_image(tmp_path / f"b.{ending}", grey.expand(3, -1, -1))
    with Image.open(tmp_path / f"b.{ending}") as stored:
        assert stored.mode == "RGB"


def test_colours_are_never_taken_from_a_picture(tmp_path: Path):
    image = torch.full((3, 12, 10), 0.5)
    image[0, 3, 3] = 0.6
    write_image(tmp_path / "a.png", image, one_channel=True)
    with Image.open(tmp_path / "a.png") as stored:
        assert stored.mode == "RGB"
        assert stored.getpixel((3, 3)) == (153, 128, 128)


@pytest.mark.parametrize(("ending", "mode"), [("png", "LA"), ("jpg", "L"), ("webp", "RGBA")])
def test_brightness_with_transparency(tmp_path: Path, ending: str, mode: str):
    image, alpha = torch.full((3, 32, 32), 0.25), torch.zeros(1, 32, 32)
    image[0, 4:8] += 1 / 255  # rounding of what was mixed with transparency is no colour
    alpha[..., :16] = 1
    write_image(tmp_path / f"a.{ending}", image, alpha, one_channel=True)
    with Image.open(tmp_path / f"a.{ending}") as stored:
        assert stored.mode == mode
    back, kept = read_image(tmp_path / f"a.{ending}")
    assert (back[:, :, :12] * 255 - 64).abs().max() < (2.5 if ending == "webp" else 1.5)
    if ending == "jpg":
        assert back[:, :, 20:].min() > 0.98  # over white
    else:
        assert kept is not None
        assert torch.equal(kept, alpha)


def test_profiles_of_all_kinds_of_pixels(tmp_path: Path):
    """Grey, grey with alpha, 16 bits, palette, RGBA, CMYK."""
    ramp = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
    linear, grey = icc.rgb(1.0, NAMED_SRGB), icc.grey(1.0, NAMED_SRGB)
    wide = ramp.astype(np.uint16) * 257
    pictures = {
        "l.png": (Image.fromarray(ramp), grey),
        "la.png": (Image.merge("LA", (Image.fromarray(ramp), Image.fromarray(ramp))), grey),
        "l16.png": (Image.fromarray(wide), grey),
        "l.tiff": (Image.fromarray(ramp), grey),
        "p.png": (Image.fromarray(ramp).convert("P"), linear),
        "rgba.png": (Image.fromarray(np.stack([ramp] * 4, -1)), linear),
        "grey_in_colours.png": (Image.fromarray(ramp), linear),
    }
    expected = encoded(np.arange(256) / 255)
    for name, (picture, profile) in pictures.items():
        picture.save(tmp_path / name, icc_profile=profile)
        image, alpha = read_image(tmp_path / name)
        assert np.abs(image[:, 0].numpy() - expected)[:, 20:].max() < 0.012, name
        assert (alpha is not None) == (name in ("la.png", "rgba.png"))
        if alpha is not None:
            assert torch.equal(alpha[0], torch.from_numpy(ramp).float() / 255)
    inks = np.zeros((8, 256, 4), np.uint8)
    inks[..., 0], inks[..., 3] = 255 - ramp, ramp  # cyan does not print
    Image.fromarray(inks, "CMYK").save(tmp_path / "c.tiff", icc_profile=icc.cmyk(NAMED_SRGB))
    image, _ = read_image(tmp_path / "c.tiff")
    lightness = 100 * (1 - np.arange(256) / 255)
    luminance = np.where(lightness > 8, ((lightness + 16) / 116) ** 3, lightness / 903.3)
    assert np.abs(image[:, 0].numpy() - encoded(luminance))[:, :230].max() < 0.03


def test_profiles_of_other_pixels_or_none_change_nothing(tmp_path: Path):
    expected = torch.from_numpy(smooth()).permute(2, 0, 1).float() / 255
    for name, profile in (
        ("grey", icc.grey(1.0, "x")),
        ("cmyk", icc.cmyk("x")),
        ("text", b"no profile"),
        ("half", icc.rgb(1.0, "x")[:300]),
    ):
        Image.fromarray(smooth()).save(tmp_path / f"{name}.png", icc_profile=profile)
        assert torch.equal(read_image(tmp_path / f"{name}.png")[0], expected), name


def test_lab_pixels(tmp_path: Path):
    lightness, hue = np.full((8, 8), 128, np.uint8), np.zeros((8, 8), np.uint8)
    Image.fromarray(np.stack([lightness, hue, hue], -1), "LAB").save(tmp_path / "a.tiff")
    image, _ = read_image(tmp_path / "a.tiff")
    assert float(image.std(0).max()) < 0.02  # no hue
    assert float(image.mean()) == pytest.approx(encoded(np.array(((50.2 + 16) / 116) ** 3)), abs=0.02)


@pytest.mark.parametrize(
    ("head", "what", "module"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "in HEIC, .*`pip install pillow-heif`", "pillow_heif"),
        (b"\xff\x0a\xfa\x1f", "in JPEG XL, .*`pip install pillow-jxl-plugin`", "pillow_jxl"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "in JPEG XL, .*`pip install pillow-jxl-plugin`", "pillow_jxl"),
    ],
)
def test_formats_that_need_a_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bytes, what: str, module: str):
    monkeypatch.setitem(sys.modules, module, None)  # not installed
    (tmp_path / "a.jpg").write_bytes(head + b"\0" * 200)
    with pytest.raises(ImageError, match=what) as caught:
        read_image(tmp_path / "a.jpg")
    one_clear_line(caught.value, "a.jpg")


def test_a_plugin_that_is_installed_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200)
    opening = Image.open

    def register() -> None:
        monkeypatch.setattr(Image, "open", lambda path: Image.new("RGB", (5, 4), "red") if str(path).endswith("heic") else opening(path))

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    image, _ = read_image(path)
    assert image.shape == (3, 4, 5)
    assert image[0].min() == 1


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif(tmp_path: Path):
    Image.fromarray(smooth()).save(tmp_path / "a.avif", quality=95)
    image, _ = read_image(tmp_path / "a.avif")
    assert (image - torch.from_numpy(smooth()).permute(2, 0, 1) / 255).abs().mean() < 0.02


def test_first_frame_of_an_animation(tmp_path: Path):
    frames = [Image.fromarray(smooth()).quantize(32), Image.new("P", (48, 64))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    image, _ = read_image(tmp_path / "a.gif")
    assert image.shape == (3, 64, 48)
    assert image.mean() > 0.2


def test_tiny(tmp_path: Path):
    Image.fromarray(picture(40, 40)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0].shape == (3, 40, 40)
    Image.fromarray(picture(1, 1)).save(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png")[0].shape == (3, 1, 1)


@pytest.mark.slow
def test_huge_within_sane_memory(tmp_path: Path):
    Image.new("RGB", (6000, 4000), (200, 100, 50)).save(tmp_path / "a.jpg")
    code = (
        "import sys, resource; import torch; from difffae.common.images import read_image, write_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "image, _ = read_image(sys.argv[1]); write_image(sys.argv[2], image); assert image.shape == (3, 4000, 6000)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
    run = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=ROOT)
    assert float(run.stdout) < 1500  # MiB; the picture itself is 275


def damaged(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(200, 200)).save(buffer, kind)
    data = buffer.getvalue()
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("half.png", damaged("PNG"), "damaged"),
        ("half.jpg", damaged("JPEG"), "damaged"),
        ("half.webp", damaged("WEBP"), "damaged|not a picture"),
        ("half.tiff", damaged("TIFF"), "damaged|not a picture"),
        ("empty.png", b"", "not a picture"),
        ("text.jpg", b"Hello, I am no picture\n" * 40, "not a picture"),
        ("page.png", b"<!doctype html><html></html>", "not a picture"),
        ("header.png", b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "damaged|not a picture"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, data: bytes, what: str):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError, match=what) as caught:
        read_image(tmp_path / name)
    one_clear_line(caught.value, name)


def one_clear_line(error: Exception, name: str) -> None:
    text = str(error)
    assert name in text
    assert "\n" not in text
    assert "; " in text  # the remedy follows


def test_missing_folder_and_too_large(tmp_path: Path):
    with pytest.raises(ImageError, match="no such picture") as caught:
        read_image(tmp_path / "none.png")
    one_clear_line(caught.value, "none.png")
    with pytest.raises(ImageError, match="is a folder") as caught:
        read_image(tmp_path)
    one_clear_line(caught.value, tmp_path.name)
    for side in (9600, 20000):
        Image.new("1", (side, side)).save(tmp_path / "bomb.png")
        with pytest.raises(ImageError, match="89 megapixels") as caught:
            read_image(tmp_path / "bomb.png")
        one_clear_line(caught.value, "bomb.png")


def test_outputs_that_cannot_be_written(tmp_path: Path):
    image = torch.zeros(3, 8, 8)
    (tmp_path / "file").write_text("x")
    for path, what in [
        (tmp_path / "a.xyz", "'.xyz'"),
        (tmp_path / "a", "''"),
        (tmp_path / "none" / "a.png", "no folder"),
        (tmp_path / "file" / "a.png", "no folder"),
        (tmp_path, "''"),
        (Path("/proc/a.png"), "cannot write"),
    ]:
        with pytest.raises(ImageError, match=what) as caught:
            check_writable(path)
        one_clear_line(caught.value, str(path))
        with pytest.raises(ImageError, match=what):
            write_image(path, image)
    (tmp_path / "d.png").mkdir()
    with pytest.raises(ImageError, match="is a folder"):
        check_writable(tmp_path / "d.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.png", "file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind the superuser")
def test_write_protected(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"keep")
    (tmp_path / "a.png").chmod(0o400)
    with pytest.raises(ImageError, match="write-protected"):
        check_writable(tmp_path / "a.png")
    tmp_path.chmod(0o500)
    with pytest.raises(ImageError, match="cannot write"):
        check_writable(tmp_path / "b.png")
    tmp_path.chmod(0o700)


def test_never_a_half_written_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "a.png"
    target.write_bytes(b"old")

    def fail(self, path, kind, **options):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(ImageError, match="No space left") as caught:
        write_image(target, torch.zeros(3, 8, 8))
    one_clear_line(caught.value, "a.png")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_webp_size_limit_is_a_clear_error(tmp_path: Path):
    with pytest.raises(ImageError, match="cannot be written") as caught:
        write_image(tmp_path / "a.webp", torch.zeros(3, 8, 17000))
    one_clear_line(caught.value, "a.webp")


def test_a_batch_is_no_picture(tmp_path: Path):
    with pytest.raises(ImageError, match="batch of 2"):
        write_image(tmp_path / "a.png", torch.zeros(2, 3, 8, 8))

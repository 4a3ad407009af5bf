"""`convert flame`: files as they are published load, hostile and damaged ones are refused by name and leave nothing behind."""

from __future__ import annotations

import inspect
import io
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from flame_files import Calls, as_published, embedding, old_classes, save_object, small_flame, write_layout
from PIL import Image

from difffae.cli import main
from difffae.cli.convert import KINDS, converter
from difffae.common.errors import CheckpointError, ConfigError
from difffae.convert.flame import convert
from difffae.convert.unpickle import read_npy, read_npz, unpickle
from difffae.head.morphable import HeadModel


def write(path: Path, raw) -> Path:
    path.write_bytes(raw if isinstance(raw, bytes) else pickle.dumps(raw, protocol=2))
    return path


def refused(folder: Path, raw, match: str, *more: Path) -> None:
    """Converting must raise, and leave only the inputs."""
    model = write(folder / "generic_model.pkl", raw)
    before = sorted(p.name for p in folder.iterdir())
    with pytest.raises(CheckpointError, match=match) as caught:
        convert([model, *more], folder / "out.safetensors")
    assert sorted(p.name for p in folder.iterdir()) == before
    assert str(folder) in str(caught.value)


def test_chumpy_and_scipy_objects_load(tmp_path, monkeypatch):
    raw = small_flame()
    with monkeypatch.context() as fake:
        data = as_published(raw, fake)
    assert b"chumpy.ch\nCh" in data
    assert b"scipy.sparse.csc\ncsc_matrix" in data
    convert([write(tmp_path / "generic_model.pkl", data)], tmp_path / "flame.safetensors", shape_count=300, expression_count=100)
    head = HeadModel.load(tmp_path / "flame.safetensors")
    assert np.array_equal(head.template.numpy(), raw["v_template"].astype(np.float32))
    assert np.array_equal(head.shape_basis.numpy(), raw["shapedirs"][..., :300].transpose(2, 0, 1).astype(np.float32))
    assert np.array_equal(head.expression_basis.numpy(), raw["shapedirs"][..., 300:].transpose(2, 0, 1).astype(np.float32))
    assert np.array_equal(head.pose_basis.numpy(), raw["posedirs"].transpose(2, 0, 1).astype(np.float32))
    assert np.array_equal(head.skin_weights.numpy(), raw["weights"].astype(np.float32))
    assert np.array_equal(head.joint_regressor.numpy(), raw["J_regressor"].astype(np.float32))
    assert np.array_equal(head.faces.numpy(), raw["f"])


@pytest.mark.parametrize("layout", ["csc", "csr", "coo"])
def test_todays_scipy_matrices_load(layout):
    scipy = pytest.importorskip("scipy.sparse")
    dense = np.random.default_rng(0).normal(size=(5, 40)) * (np.random.default_rng(1).random((5, 40)) < 0.2)
    data = pickle.dumps(getattr(scipy, layout + "_matrix")(dense), protocol=2)
    assert np.array_equal(unpickle(data, Path("x.pkl")), dense)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_arrays_of_every_kind_and_protocol(protocol):
    values = {
        "float": np.arange(6.0).reshape(2, 3),
        "column": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "big": np.arange(4, dtype=">i4"),
        "scalar": np.float32(2.5),
        "empty": np.zeros((0, 3)),
        "text": "lbs",
        "list": [1, (2, None)],
    }
    got = unpickle(pickle.dumps(values, protocol=protocol), Path("x.pkl"))
    for name, value in values.items():
        assert np.array_equal(got[name], value) if isinstance(value, np.ndarray) else got[name] == value, name


def test_data_files_of_deca_and_textures(tmp_path):
    raw = small_flame()
    faces = raw["f"].astype(int)
    rng = np.random.default_rng(1)
    uvs, uv_faces = rng.random((70, 2)), rng.integers(0, 70, faces.shape)
    # triangles of one set of corners must have one set of UVs, since the .obj is read by its corners
    first = {tuple(sorted(f)): k for k, f in reversed(list(enumerate(faces.tolist())))}
    uv_faces = np.stack([uv_faces[first[tuple(sorted(f))]] for f in faces.tolist()])
    write_layout(tmp_path / "head_template.obj", uvs, uv_faces, faces, seed=3)
    table = embedding(len(faces))
    save_object(tmp_path / "landmark_embedding.npy", table)
    mean, basis = rng.uniform(0, 255, (512, 512, 3)).astype(np.float32), rng.normal(0, 3, (512, 512, 3, 4)).astype(np.float32)
    np.savez(tmp_path / "FLAME_texture.npz", mean=mean, tex_dir=basis)
    mask = rng.integers(0, 256, (256, 256, 4), dtype=np.uint8)
    Image.fromarray(mask, "RGBA").save(tmp_path / "uv_face_eye_mask.png")
    Image.fromarray(255 - mask, "RGBA").save(tmp_path / "uv_face_mask.png")
    displacement = rng.normal(0, 1e-3, (256, 256))
    np.save(tmp_path / "fixed_displacement_256.npy", displacement)
    write(tmp_path / "generic_model.pkl", raw)
    inputs = list(tmp_path.iterdir())
    convert(inputs, tmp_path / "flame.safetensors", albedo_count=4, name="flame-2020")
    head = HeadModel.load(tmp_path / "flame.safetensors")
    assert head.name == "flame-2020"
    assert "non-commercial" in head.license
    assert "redistribute" in head.license
    got = head.uvs[head.uv_faces].numpy()
    assert np.abs(got - uvs[uv_faces]).max() < 1e-6  # corner by corner, though the file had them in another order
    full = np.asarray(table["full_lmk_bary_coords"][0], np.float32)
    corners = raw["v_template"].astype(np.float32)[faces[table["full_lmk_faces_idx"][0]]]
    assert np.abs(head.landmarks(head.template[None])[0].numpy() - (corners * full[..., None]).sum(1)).max() < 1e-6
    assert np.array_equal(head.contour_faces.numpy(), table["dynamic_lmk_faces_idx"].numpy())
    code = torch.tensor([[0.5, -1.0, 0.0, 2.0]])
    bgr = (mean + basis @ code[0].numpy())[::2, ::2] / 255
    assert np.abs(head.albedo(code)[0].permute(1, 2, 0).numpy() - bgr[..., ::-1]).max() < 1e-5
    assert np.array_equal(head.uv_detail_mask.numpy(), mask[..., 0].astype(np.float32) / 255)
    assert np.array_equal(head.uv_face_mask.numpy(), (255 - mask[..., 0]).astype(np.float32) / 255)
    assert np.array_equal(head.fixed_displacement.numpy(), displacement.astype(np.float32))


def test_bfm_space_is_not_divided(tmp_path):
    rng = np.random.default_rng(2)
    mean, basis = rng.random((1, 512 * 512 * 3)).astype(np.float32), rng.normal(0, 0.1, (512 * 512 * 3, 3)).astype(np.float32)
    np.savez(tmp_path / "FLAME_albedo_from_BFM.npz", MU=mean, PC=basis)
    raw = small_flame()
    write_layout(tmp_path / "head_template.obj", rng.random((60, 2)), raw["f"], raw["f"])
    model = write(tmp_path / "generic_model.pkl", raw)
    extras = [tmp_path / "FLAME_albedo_from_BFM.npz", tmp_path / "head_template.obj"]
    convert([model, *extras], tmp_path / "flame.safetensors", albedo_count=3)
    head = HeadModel.load(tmp_path / "flame.safetensors")
    expected = mean.reshape(512, 512, 3)[::2, ::2, ::-1].transpose(2, 0, 1)
    assert np.array_equal(head.albedo_mean.numpy(), expected)
    assert "Basel" in head.license
    with pytest.raises(ConfigError, match=r"head_template\.obj"):
        convert([model, extras[0]], tmp_path / "other.safetensors", albedo_count=3)
    with pytest.raises(CheckpointError, match="3 components"):
        convert([model, *extras], tmp_path / "other.safetensors", albedo_count=50)
    assert not (tmp_path / "other.safetensors").exists()


@pytest.mark.parametrize("place", ["whole", "value", "chumpy"])
def test_functions_in_a_pickle_are_refused_by_name_and_never_run(tmp_path, monkeypatch, place):
    bomb = Calls(os.system, f"touch {tmp_path / 'ran'}")
    raw = small_flame()
    with monkeypatch.context() as fake:
        ch, _, _ = old_classes(fake)
        raw |= {"v_template": ch(x=raw["v_template"], extra=[bomb])} if place == "chumpy" else {"v_template": bomb}
        data = pickle.dumps(bomb if place == "whole" else raw, protocol=2)
    refused(tmp_path, data, r"(posix|nt)\.system.*nothing in it was run")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (eval, ("1",), r"builtin\w*\.eval"),
        (getattr, ("", "upper"), r"builtin\w*\.getattr"),
        (__import__, ("os",), r"builtin\w*\.__import__"),
        (np.load, ("x.npy",), r"numpy.*load"),
        (np.memmap, ("x",), r"numpy.*memmap"),
        (torch.load, ("x.pt",), r"torch.*load"),
        (pickle.loads, (b"",), r"pickle\.loads"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_other_functions_are_refused_by_name(tmp_path, function, arguments, name, protocol):
    refused(tmp_path, pickle.dumps({"f": Calls(function, *arguments)}, protocol=protocol), name)


def test_a_name_put_together_while_loading_is_refused(tmp_path):
    # protocol 4 takes names from the stack, where they need not stand as one piece of text beforehand
    refused(tmp_path, b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x04true\x85R.", r"posix\.system")


def test_a_dotted_name_does_not_reach_inside_an_allowed_class(tmp_path):
    refused(tmp_path, b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", r"numpy\.ndarray\.tofile")


def test_allowed_functions_cannot_be_changed(tmp_path):
    refused(tmp_path, b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n}U\x01xK\x01sb.", "function that is changed")


def test_hostile_torch_data_inside_the_embedding_is_refused(tmp_path):
    inner = io.BytesIO()
    torch.save(Calls(os.system, f"touch {tmp_path / 'ran'}"), inner)
    table = embedding(90)
    table["dynamic_lmk_faces_idx"] = Calls(torch.storage._load_from_bytes, inner.getvalue())
    save_object(tmp_path / "landmark_embedding.npy", table)
    refused(tmp_path, small_flame(), "landmark_embedding", tmp_path / "landmark_embedding.npy")
    save_object(tmp_path / "landmark_embedding.npy", Calls(os.system, f"touch {tmp_path / 'ran'}"))
    refused(tmp_path, small_flame(), r"landmark_embedding.*\.system", tmp_path / "landmark_embedding.npy")
    assert not (tmp_path / "ran").exists()


def array_pickle(shape: tuple[int, ...], data: bytes) -> bytes:
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    numbers = b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in shape)
    kind = b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return head + b"(K\x01(" + numbers + b"t" + kind + b"\x89T" + struct.pack("<i", len(data)) + data + b"tb."


def test_sizes_that_would_fill_the_memory_are_refused():
    good = array_pickle((2,), struct.pack("<2d", 1, 2))
    assert unpickle(good, Path("x.pkl")).tolist() == [1, 2]
    for shape in ((1 << 50,), (1 << 20, 1 << 20), (-1,)):
        with pytest.raises(CheckpointError, match="an array of"):
            unpickle(array_pickle(shape, b""), Path("x.pkl"))
    with pytest.raises(CheckpointError, match="another size"):
        unpickle(array_pickle((3,), b"short"), Path("x.pkl"))
    with pytest.raises(CheckpointError, match="memo number"):
        unpickle(b"\x80\x02}r\xff\xff\xff\xff.", Path("x.pkl"))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_truncated_files(tmp_path, share):
    data = pickle.dumps(small_flame(), protocol=2)
    refused(tmp_path, data[: int(len(data) * share)], "not a complete pickle")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda raw: [1, 2], "lacks v_template"),
        (lambda raw: {k: v for k, v in raw.items() if k != "posedirs"}, "lacks posedirs"),
        (lambda raw: raw | {"weights": "none"}, "weights is no array"),
        (lambda raw: raw | {"posedirs": raw["posedirs"][..., :27]}, r"posedirs has shape \(60, 3, 27\), expected 60x3x36"),
        (lambda raw: raw | {"v_template": raw["v_template"][:50]}, "shapedirs has shape"),
        (lambda raw: raw | {"f": raw["f"] + 1}, "vertices beyond"),
        (lambda raw: raw | {"kintree_table": np.array([[-1, 0, 1, 2, 3], range(5)])}, "hang together"),
        (lambda raw: raw | {"shapedirs": raw["shapedirs"][..., :320]}, "320 shape directions"),
        (lambda raw: raw | {"v_template": raw["v_template"] * np.nan}, "not finite"),
    ],
)
def test_wrong_content_is_named(tmp_path, change, match):
    refused(tmp_path, change(small_flame()), match)


def test_wrong_further_files_are_named(tmp_path):
    raw = small_flame()
    write_layout(tmp_path / "head_template.obj", np.random.default_rng(0).random((60, 2)), raw["f"], raw["f"][:, ::-1] * 0)
    refused(tmp_path, raw, "another head's mesh", tmp_path / "head_template.obj")
    (tmp_path / "uv_face_eye_mask.png").write_bytes(b"no picture")
    refused(tmp_path, raw, "not a complete picture", tmp_path / "uv_face_eye_mask.png")
    save_object(tmp_path / "landmark_embedding.npy", embedding(10_000))
    refused(tmp_path, raw, "faces beyond", tmp_path / "landmark_embedding.npy")
    np.savez(tmp_path / "FLAME_texture.npz", mean=np.zeros((4, 4, 3)), tex_dir=np.zeros((4, 4, 3, 2)))
    refused(tmp_path, raw, "512x512", tmp_path / "FLAME_texture.npz")
    for broken in (b"", b"PK\x03\x04 no zip"):
        (tmp_path / "FLAME_texture.npz").write_bytes(broken)
        refused(tmp_path, raw, r"not a complete \.npz", tmp_path / "FLAME_texture.npz")
    np.savez(tmp_path / "objects.npz", mean=np.array([{}], dtype=object))
    with pytest.raises(CheckpointError, match="allow_pickle"):
        read_npz(tmp_path / "objects.npz")
    (tmp_path / "fixed_displacement_256.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr'")
    with pytest.raises(CheckpointError, match=r"not a complete \.npy"):
        read_npy(tmp_path / "fixed_displacement_256.npy")


def test_command_line(tmp_path, capsys):
    model, output = write(tmp_path / "generic_model.pkl", small_flame()), tmp_path / "flame.safetensors"
    assert main(["convert", "flame", str(model), "--output", str(output), "--license", "CC-BY-4.0", "--set", "shape_count=20"]) == 0
    head = HeadModel.load(output)
    assert (head.license, head.shape_count, head.expression_count) == ("CC-BY-4.0", 20, 50)
    for arguments, words in (
        ([str(model), "--output", str(tmp_path / "x.pt")], ".safetensors"),
        ([str(model), "--output", str(output), "--set", "shapes=3"], "no option 'shapes'"),
        ([str(model), "--output", str(output), "--set", "shape_count=many"], "must be of type int"),
        ([str(model), str(model), "--output", str(output)], "2 .pkl files"),
        ([str(tmp_path / "none.pkl"), "--output", str(output)], "no such file"),
        ([str(model), "--output", str(tmp_path / "no" / "x.safetensors")], "folder does not exist"),
    ):
        capsys.readouterr()
        assert main(["convert", "flame", *arguments]) == 2
        message = capsys.readouterr().err
        assert words in message
        assert message.count("\n") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_the_command_has_a_converter(kind):
    parameters = inspect.signature(converter(kind)).parameters
    assert list(parameters)[:2] == ["inputs", "output"]
    assert parameters["license"].kind is inspect.Parameter.KEYWORD_ONLY

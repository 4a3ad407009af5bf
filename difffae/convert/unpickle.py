"""Arrays out of other people's pickles and npz files, without running anything in them.

A pickle is a program: it may call any function it names. FLAME's files are pickles of chumpy and scipy.sparse objects, DECA's landmark
embedding is one of torch tensors. Here only the names of a short list resolve, and each to a stand-in of ours that does no more than
hold and check numbers: neither chumpy nor scipy is imported, numpy and torch get only sizes that were checked. Any other name is
refused with that name. Results are plain dicts, lists, strings, numbers and numpy arrays.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..common.errors import CheckpointError

LARGEST_PICKLE = 1 << 30  # bytes; FLAME's have 50 MB
LARGEST_ARCHIVE = 4 << 30  # bytes unpacked; FLAME_albedo_from_BFM.npz has two spaces of 600 MB
LARGEST_ARRAY = 1 << 29  # numbers in one array
# 'u4', '<f8', '|b1', 'S12' ...: the plain types; records and nested types are refused
PLAIN_KINDS = {"b", "i", "u", "f", "c", "S", "U", "O"}
FORBIDDEN_OPCODES = {"PERSID", "BINPERSID", "EXT1", "EXT2", "EXT4", "INST", "OBJ", "NEXT_BUFFER", "READONLY_BUFFER"}
ORDERS = ("<", ">", "|", "=")


class _Refused(Exception):
    """What is wrong with the content; becomes a CheckpointError that names the file."""


class _Dtype:
    """numpy.dtype: its code, and the byte order that its state brings."""

    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        if not isinstance(code, str) or code.lstrip("<>|=")[:1] not in PLAIN_KINDS:
            raise _Refused(f"an array of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ORDERS or any(part is not None for part in state[2:5]):
            raise _Refused("an array of a structured type")
        order: Any = state[1]
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """numpy.ndarray as numpy pickles it: an empty object, then the state (version, shape, type, column order, bytes)."""

    value: Any = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Dtype):
            raise _Refused("an array with unknown fields")
        _, shape, kind, fortran, raw = state
        if kind.dtype.kind != "O":
            self.value = _filled(raw, kind, shape, "F" if fortran else "C")
            return
        if not isinstance(raw, list) or len(raw) != _count(shape):
            raise _Refused(f"an object array of shape {shape} without its items")
        self.value = {"items": raw, "shape": shape}


class _Fields:
    """An object of which only the fields are kept."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise _Refused("an object without fields")
        self.state = state


class _Chumpy(_Fields):
    """chumpy.ch.Ch: an array in the field `x`; chumpy.reordering.Select: some elements of another one."""


class _Csc(_Fields):
    """scipy.sparse.csc_matrix."""


class _Csr(_Fields):
    """scipy.sparse.csr_matrix."""


class _Coo(_Fields):
    """scipy.sparse.coo_matrix."""


class _Function:
    """A function that a pickle may call. The pickle sees this object only, and cannot set its fields."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _Refused("a function that is changed")


def _count(shape: Any) -> int:
    """Number of elements; refuses shapes that are no shapes or far too large."""
    if not isinstance(shape, tuple) or any(not isinstance(n, int) or n < 0 for n in shape) or len(shape) > 8:
        raise _Refused(f"an array of shape {shape!r}")
    count = math.prod(shape)
    if count > LARGEST_ARRAY:
        raise _Refused(f"an array of {count} numbers")
    return count


def _filled(raw: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """An array of plain numbers from its bytes."""
    data = raw.encode("latin1") if isinstance(raw, str) else raw
    plain = isinstance(kind, _Dtype) and kind.dtype.kind != "O" and order in ("C", "F")
    if not plain or not isinstance(data, bytes | bytearray) or len(data) != _count(shape) * kind.dtype.itemsize:
        raise _Refused(f"an array of shape {shape} whose data has another size or type")
    return np.frombuffer(bytes(data), kind.dtype).reshape(shape, order=order)


def _reconstruct(kind: Any, shape: Any, code: Any) -> _Array:
    if kind is not _Array:
        raise _Refused("an array of an unknown class")
    return _Array()


def _frombuffer(data: Any, kind: Any, shape: Any, order: Any, *more: Any) -> np.ndarray:
    """numpy's form of protocol 5."""
    if any(m is not None for m in more):
        raise _Refused("an array with unknown fields")
    return _filled(data, kind, shape, order)


def _empty(*arguments: Any) -> bytes:
    """bytes(), which protocols below 3 write for b''."""
    if arguments:
        raise _Refused("text in an unknown encoding")
    return b""


def _scalar(kind: Any, data: Any) -> Any:
    return _filled(data, kind, (), "C").item()


def _encode(text: Any, encoding: Any = "utf-8") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused("text in an unknown encoding")
    return text.encode("latin1")


def _object(kind: Any, base: Any, state: Any) -> Any:
    """copyreg._reconstructor, protocols 0 and 1."""
    if not isinstance(kind, type) or not issubclass(kind, _Fields) or state is not None:
        raise _Refused("an object of an unknown class")
    return kind()


def _storage(data: Any) -> torch.Tensor:
    """torch.storage._load_from_bytes: a file of torch.save inside the pickle."""
    if not isinstance(data, bytes):
        raise _Refused("a tensor without data")
    loaded = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if not isinstance(loaded, torch.storage.TypedStorage):
        raise _Refused("a tensor without data")
    return torch.tensor([], dtype=loaded.dtype).set_(loaded)  # type: ignore[call-overload]


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, hooks: Any = None, metadata: Any = None) -> Any:
    """torch._utils._rebuild_tensor_v2, for tensors that lie contiguously in their storage."""
    count = _count(tuple(size))
    if not isinstance(storage, torch.Tensor) or not isinstance(offset, int) or offset < 0 or offset + count > storage.numel():
        raise _Refused("a tensor that reaches beyond its data")
    whole = storage[offset : offset + count].reshape(tuple(size))
    if count > 1 and tuple(stride) != whole.stride():
        raise _Refused(f"a tensor of strides {tuple(stride)}")
    return whole


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _empty,
    ("copyreg", "_reconstructor"): _object,
    ("builtins", "object"): object,
    ("builtins", "set"): set,
    ("collections", "OrderedDict"): OrderedDict,
    ("chumpy.ch", "Ch"): _Chumpy,
    ("chumpy", "Ch"): _Chumpy,
    ("chumpy.reordering", "Select"): _Chumpy,
    ("scipy.sparse.csc", "csc_matrix"): _Csc,
    ("scipy.sparse.csr", "csr_matrix"): _Csr,
    ("scipy.sparse.coo", "coo_matrix"): _Coo,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
}


def _lookup(module: str, name: str) -> Any:
    # numpy._core and scipy.sparse._csc are newer names of the same; protocols below 3 use Python 2's names
    plain = module.replace("numpy._core", "numpy.core").replace("scipy.sparse._", "scipy.sparse.")
    plain = {"copy_reg": "copyreg", "__builtin__": "builtins"}.get(plain, plain)
    found = ALLOWED.get((plain, name))
    if found is None:
        raise _Refused(f"'{module}.{name}', which no file of this kind needs")
    return found if isinstance(found, type) else _Function(found)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _lookup(module, name)


def _prescan(data: bytes) -> None:
    """Refuse before anything runs: forbidden names and opcodes, memo numbers that would reserve memory, a file that ends early."""
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in FORBIDDEN_OPCODES:
            raise _Refused(f"the instruction {opcode.name}")
        if opcode.name == "GLOBAL":
            _lookup(*str(argument).split(" ", 1))
        # writers count what they remember, so that a number is smaller than the file
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(str(argument)) <= len(data):
            raise _Refused("a memo number that is out of range")


def unpickle(data: bytes, path: Path) -> Any:
    """The content of a pickle as plain Python and numpy objects. Raises CheckpointError; `path` is for its message."""
    try:
        _prescan(data)
        loaded = _Unpickler(io.BytesIO(data), encoding="latin1").load()
        return _plain(loaded, {})
    except _Refused as error:
        raise CheckpointError(
            f"{path}: holds {error}; it was refused and nothing in it was run, get the file from its official site"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path}: not a complete pickle of arrays ({reason}); download it again") from error


def _plain(value: Any, seen: dict[int, Any]) -> Any:
    """Replace stand-ins by numpy arrays; `seen` keeps shared and cyclic parts from being walked twice."""
    if isinstance(value, str | bytes | int | float | complex | None):
        return value
    if id(value) in seen:
        return seen[id(value)][1]
    result: Any
    if isinstance(value, dict):
        result = {}
        seen[id(value)] = (value, result)
        result.update({key: _plain(item, seen) for key, item in value.items()})
        return result
    if isinstance(value, list):
        result = []
        seen[id(value)] = (value, result)
        result.extend(_plain(item, seen) for item in value)
        return result
    seen[id(value)] = (value, None)  # an array inside itself is None
    if isinstance(value, tuple | set | frozenset):
        result = tuple(_plain(item, seen) for item in value)
    elif isinstance(value, _Array):
        result = _plain_array(value, seen)
    elif isinstance(value, _Chumpy):
        result = _chumpy_array(value.state, seen)
    elif isinstance(value, _Fields):
        result = _dense(value, seen)
    elif isinstance(value, np.ndarray):
        result = value
    elif isinstance(value, _Dtype):
        result = str(value.dtype)
    elif isinstance(value, torch.Tensor):
        result = value.detach().cpu().numpy()
    else:
        raise _Refused(f"an object of type {type(value).__name__}")
    seen[id(value)] = (value, result)
    return result


def _plain_array(array: _Array, seen: dict[int, Any]) -> Any:
    if not isinstance(array.value, dict):
        return array.value
    items = [_plain(item, seen) for item in array.value["items"]]
    return items[0] if array.value["shape"] == () else items


def _chumpy_array(state: dict[str, Any], seen: dict[int, Any]) -> np.ndarray:
    if "idxs" in state:  # Select: elements of `a`
        source, indices = np.asarray(_plain(state.get("a"), seen)), np.asarray(_plain(state["idxs"], seen))
        chosen = source.ravel()[indices.astype(np.int64)]
        shape = _plain(state.get("preferred_shape"), seen)
        return chosen if shape is None else chosen.reshape(tuple(int(n) for n in shape))
    if "x" not in state:
        raise _Refused("a chumpy object that is no array")
    return np.asarray(_plain(state["x"], seen))


def _dense(matrix: _Fields, seen: dict[int, Any]) -> np.ndarray:
    """A sparse matrix written out; scipy's fields, checked."""
    state = {name.lstrip("_"): _plain(value, seen) for name, value in matrix.state.items()}
    shape = tuple(int(n) for n in state.get("shape", ()))
    if len(shape) != 2 or "data" not in state:
        raise _Refused("a sparse matrix without its shape or data")
    _count(shape)
    data = np.asarray(state["data"])
    if isinstance(matrix, _Coo):
        rows, columns = state["coords"] if "coords" in state else (state.get("row"), state.get("col"))
    else:
        inner, starts = np.asarray(state.get("indices")), np.asarray(state.get("indptr"))
        by_column = isinstance(matrix, _Csc)
        lines = shape[1] if by_column else shape[0]
        if starts.shape != (lines + 1,) or starts[0] != 0 or starts[-1] != len(data) or (np.diff(starts) < 0).any():
            raise _Refused("a sparse matrix whose index does not fit its data")
        outer = np.repeat(np.arange(lines), np.diff(starts))
        rows, columns = (inner, outer) if by_column else (outer, inner)
    rows, columns = np.asarray(rows), np.asarray(columns)
    if not (rows.shape == columns.shape == data.shape) or (
        len(data) and (min(rows.min(), columns.min()) < 0 or rows.max() >= shape[0] or columns.max() >= shape[1])
    ):
        raise _Refused("a sparse matrix with entries outside its shape")
    out = np.zeros(shape, data.dtype)
    np.add.at(out, (rows, columns), data)
    return out


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; check the path")
    size = path.stat().st_size
    if size > LARGEST_PICKLE:
        raise CheckpointError(f"{path}: {size >> 20} MiB is too large for a file of this kind; check that it is the right one")
    return path.read_bytes()


def read_pickle(path: Path) -> Any:
    """A pickle file as plain Python and numpy objects. Raises CheckpointError."""
    return unpickle(_read(path), path)


def read_npy(path: Path) -> Any:
    """An .npy file: an array, or what its pickle holds where it is one of objects. Raises CheckpointError."""
    data = _read(path)
    try:
        file = io.BytesIO(data)
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        if read_header(file)[2].kind != "O":
            return np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, KeyError, IndexError, SyntaxError, TypeError, OSError, EOFError, MemoryError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a complete .npy file ({error}); download it again") from error
    return unpickle(data[file.tell() :], path)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an .npz file, none of objects. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(entry.file_size for entry in archive.infolist())
        if total > LARGEST_ARCHIVE:
            raise ValueError(f"{total >> 20} MiB unpacked, too large for a file of this kind")
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, OSError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zipfile.zlib.error, NotImplementedError) as error:  # type: ignore[attr-defined]
        raise CheckpointError(f"{path}: not a complete .npz file of arrays ({error}); download it again") from error

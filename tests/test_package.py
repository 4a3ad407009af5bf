"""The package itself: an instant import and the public names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import difffae


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(difffae.__file__).parents[1], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_importing_the_package_loads_nothing_heavy():
    assert run("import sys, difffae; print([n for n in ('torch', 'numpy', 'PIL', 'diffusers') if n in sys.modules])") == "[]"


def test_importing_the_library_starts_no_cuda():
    assert run("import difffae.pipeline, torch; print(torch.cuda.is_initialized())") == "False"


def test_public_names_are_those_of_their_modules():
    from difffae.adjust import Adjustments
    from difffae.attributes import FaceAttributes, compose
    from difffae.errors import DiffFAEError
    from difffae.pipeline import DiffFAE

    for own in (Adjustments, DiffFAE, DiffFAEError, FaceAttributes, compose):
        assert getattr(difffae, own.__name__) is own
    assert set(difffae.__all__) == {"Adjustments", "DiffFAE", "DiffFAEError", "FaceAttributes", "compose", "__version__"}
    assert dir(difffae) == sorted(difffae.__all__)
    with pytest.raises(AttributeError, match="nothing_such"):
        difffae.nothing_such  # noqa: B018


def test_notice_is_what_the_parts_say_and_names_every_asset():
    root = Path(difffae.__file__).parents[1]
    if not (root / "NOTICE").is_file():
        pytest.skip("an installed package has no NOTICE beside it")
    result = subprocess.run([sys.executable, "scripts/build_notice.py", "--check"], cwd=root, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    text = (root / "NOTICE").read_text(encoding="utf-8")
    assets = [path.name for path in (root / "difffae" / "assets").iterdir() if path.is_file() and not path.name.startswith(("__", "."))]
    assert len(assets) >= 6
    assert not [name for name in assets if f"difffae/assets/{name}" not in text]

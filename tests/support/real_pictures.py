"""Photographs that do not come with the project, for the tests that can use them."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

_FOLDERS = (
    os.environ.get("ALEXNET_TF_DATA"),
    Path(__file__).resolve().parents[3] / "shared" / "data",
)


def imagenet_samples(count: int) -> list[bytes]:
    """The first photographs of imagenet_samples.tar; skips the test where there is no such file."""
    for folder in _FOLDERS:
        path = Path(folder or "") / "imagenet_samples.tar"
        if folder and path.is_file():
            return _read(path, count)
    pytest.skip("needs imagenet_samples.tar, in the folder that ALEXNET_TF_DATA names")
    return []


def _read(path: Path, count: int) -> list[bytes]:
    pictures: list[bytes] = []
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None and member.name.lower().endswith((".jpeg", ".jpg")):
                pictures.append(file.read())
            if len(pictures) == count:
                break
    return pictures

import pytest
from PIL import Image, features

from pipelines.pictures import file_types
from tests.support.pictures import encoded, textured

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.mark.parametrize(
    ("name", "content", "kind", "advice"),
    [
        ("a.heic", HEIC, "a HEIC file", file_types.CURE),
        ("a.jpg", HEIC, "a HEIC file", file_types.CURE),
        ("a.HEIC", b"nothing known", "a HEIC file", file_types.CURE),
        ("a.tif", b"II*\0" + bytes(40), "a TIFF file", file_types.CURE),
        ("a.ppm", b"P6\n1 1\n255\nabc", "a PPM file", file_types.CURE),
        ("a.jfif", b"\xff\xd8\xff\xe0", "a JPEG file", file_types.RENAME),
        ("photograph", b"\x89PNG\r\n\x1a\n", "a PNG file", file_types.RENAME),
        ("a.txt", b"  <!DOCTYPE html>", "an HTML page", ""),
        ("notes.txt", b"some words", "a file", ""),
        ("a.avif", b"", "an empty file", ""),
    ],
)
def test_a_file_is_named_by_its_content_else_by_its_name(tmp_path, name, content, kind, advice):
    path = tmp_path / name
    path.write_bytes(content)
    assert file_types.kind_of(path) == file_types.kind_of(bytes(path)) == kind
    assert file_types.advice_on(path) == advice


def test_what_cannot_be_opened_is_named_by_its_name(tmp_path):
    assert file_types.kind_of(tmp_path / "missing.avif") == "an AVIF file"
    assert file_types.kind_of(tmp_path) == "a file"


@pytest.mark.parametrize("kind", ["AVIF", "TIFF", "JPEG2000", "ICO", "PCX", "QOI"])
def test_what_other_programs_write_is_named(tmp_path, kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow writes no AVIF")
    endings = {ending for ending, form in Image.registered_extensions().items() if form == kind}
    path = tmp_path / f"picture{sorted(endings & set(file_types.OTHER_PICTURES))[0]}"
    path.write_bytes(encoded(textured(16, 16), kind))
    assert file_types.kind_of(path) == file_types.OTHER_PICTURES[path.suffix]
    assert file_types.advice_on(path) == file_types.CURE


def test_no_name_of_a_picture_that_is_read_is_among_the_others():
    assert not file_types.SUFFIXES & set(file_types.OTHER_PICTURES)

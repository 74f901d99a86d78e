"""Version folders: which names count, which versions are wanted, what is said of base paths without any."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import Code, ServingError
from serving.lifecycle.model_config import ModelSettings, VersionPolicy, poll_base_path
from serving.settings import file_system
from serving.specs import version_number


def folders(base, *names):
    for name in names:
        (base / name).mkdir(parents=True)
    return str(base)


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("1", 1),
        ("00000123", 123),
        ("1700000000", 1700000000),
        ("-3", -3),
        ("+3", 3),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("0" * 5000 + "7", 7),
    ],
)
def test_names_that_are_versions(name, number):
    assert version_number(name) == number


@pytest.mark.parametrize(
    "name",
    [
        "",
        "123.tmp",
        "_123",
        ".123",
        "1_000",
        "1e3",
        "1.0",
        "0x10",
        "v1",
        "١",
        "--1",
        "9223372036854775808",
        "9" * 5000,
    ],
)
def test_names_that_are_not(name):
    assert version_number(name) is None


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_int64_is_a_version(number):
    assert version_number(str(number)) == number


@given(st.text())
def test_any_name_is_a_version_or_not(name):
    assert version_number(name) is None or version_number(name) == int(name)


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize(
    ("policy", "versions"),
    [
        (VersionPolicy(), {123: "00000123"}),
        (VersionPolicy(num_versions=2), {123: "00000123", 7: "7"}),
        (VersionPolicy("all"), {123: "00000123", 7: "7", 1: "1"}),
        (VersionPolicy("specific", versions=frozenset({1, 2})), {1: "1"}),
    ],
)
def test_policies(tmp_path, scheme, policy, versions):
    base = folders(tmp_path / "m", "1", "7", "00000123", "99.tmp", "_100", "assets")
    model = ModelSettings("m", f"{scheme}{base}", policy=policy)
    assert poll_base_path(model).wanted == {
        number: f"{scheme}{base}/{name}" for number, name in versions.items()
    }


def test_a_file_is_no_version(tmp_path):
    base = folders(tmp_path, "1")
    (tmp_path / "2").touch()
    assert poll_base_path(ModelSettings("m", base)).wanted == {1: f"{base}/1"}


def test_a_link_to_a_folder_is_one(tmp_path):
    folders(tmp_path / "elsewhere", "export")
    base = folders(tmp_path / "m", "1")
    (tmp_path / "m" / "2").symlink_to(tmp_path / "elsewhere" / "export")
    (tmp_path / "m" / "3").symlink_to(tmp_path / "nowhere")
    assert list(poll_base_path(ModelSettings("m", base)).wanted) == [2]


def test_a_slash_at_the_end(tmp_path):
    base = folders(tmp_path, "5")
    assert poll_base_path(ModelSettings("m", f"{base}/")).wanted == {5: f"{base}/5"}


def test_one_version_twice(tmp_path):
    base = folders(tmp_path, "1", "01")
    found = poll_base_path(ModelSettings("m", base))
    assert found.wanted == {1: f"{base}/1"}
    assert found.warning == (
        "Duplicate version directories detected. Version 1 will be loaded from 1, 01 will be ignored."
    )


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_base_path_that_is_missing(tmp_path, scheme):
    with pytest.raises(ServingError) as caught:
        poll_base_path(ModelSettings("m", f"{scheme}{tmp_path}/none"))
    assert caught.value.code == Code.NOT_FOUND
    message = f"Could not find base path {scheme}{tmp_path}/none for servable m with error "
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize("path", ["/etc/hostname", "/a\0b", "nosuchscheme://bucket/m"])
def test_a_base_path_that_is_none(path):
    with pytest.raises(ServingError) as caught:
        poll_base_path(ModelSettings("m", path))
    assert caught.value.message.startswith(f"Could not find base path {path} for servable m with error ")


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_base_path_without_versions(tmp_path, scheme):
    model = ModelSettings("m", f"{scheme}{folders(tmp_path, 'export')}")
    assert poll_base_path(model).wanted == {}
    assert poll_base_path(model).warning == (
        f"No versions of servable m found under base path {scheme}{tmp_path}. Did you forget to name your "
        "leaf directory as a number (eg. '/1/')?"
    )


def test_what_specific_versions_lack(tmp_path):
    base = folders(tmp_path, "2", "4")

    def warning(*versions):
        return poll_base_path(
            ModelSettings("m", base, policy=VersionPolicy("specific", versions=frozenset(versions)))
        ).warning

    assert warning(3, 1, 2) == (
        "Version(s) 1, 3 of servable m, requested to be served as 'specific', were not found under base path "
        f"{base}"
    )
    assert warning(2, 4) == ""


def test_reading_and_looking_through_tensorflow(tmp_path):
    (tmp_path / "file").write_bytes(b"\x00\xff")
    base = folders(tmp_path / "m", "a")
    for scheme in ("", "file://"):
        assert file_system.read(f"{scheme}{tmp_path}/file") == b"\x00\xff"
        assert file_system.exists(f"{scheme}{tmp_path}/file")
        assert not file_system.exists(f"{scheme}{tmp_path}/none")
        assert file_system.children(f"{scheme}{base}") == ["a"]
    assert not file_system.exists("nosuchscheme://a/b")
    assert file_system.join("gs://bucket/m/", "7") == "gs://bucket/m/7"

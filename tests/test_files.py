"""Folders that take the place of others, whole or not at all; files are in test_images.py."""

import os
import tempfile
from pathlib import Path

import pytest

from argan import files


def write(path: Path, text: str) -> None:
    with files.atomic_folder(path) as temporary:
        (temporary / "file").write_text(text)


def test_a_folder_takes_the_place_of_another(tmp_path: Path) -> None:
    for text in ("before", "after"):
        write(tmp_path / "model", text)
        assert (tmp_path / "model" / "file").read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("refused", [1, 2])
def test_a_folder_that_cannot_be_replaced_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    """As Windows refuses where another program has a file of it open: to move it aside, or to use its name."""
    write(tmp_path / "model", "before")
    monkeypatch.setattr(files, "PATIENCE", 0.0)
    replace, calls = os.replace, []

    def refuse_one(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == refused:
            raise PermissionError
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", refuse_one)
    with pytest.raises(PermissionError):
        write(tmp_path / "model", "after")
    assert (tmp_path / "model" / "file").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_file_system_without_permissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "chmod", refuse)
    write(tmp_path / "model", "text")
    with files.atomic_file(tmp_path / "photo") as temporary:
        temporary.write_text("text")
    assert (tmp_path / "photo").read_text() == (tmp_path / "model" / "file").read_text() == "text"


class OnWindows:
    """The module os, as tempfile sees it there."""

    name = "nt"

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)


def test_a_folder_that_takes_no_files_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows' access() calls it writable all the same, and mkstemp would try name after name."""
    tried: list[Path] = []

    def refuse(path: Path, *_: object, **__: object) -> None:
        tried.append(path)
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(tempfile, "_os", OnWindows())
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError), files.atomic_file(tmp_path / "photo.jpg"):
        pass
    assert len(tried) == 1


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_held_open_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """On Windows a virus scanner looks into what is new, and until it has, nobody renames it."""
    replace, refused = os.replace, []

    def refuse_twice(source: Path, target: Path) -> None:
        if len(refused) < 2:
            refused.append(source)
            raise PermissionError
        replace(source, target)

    monkeypatch.setattr(files, "PATIENCE", 60.0)
    monkeypatch.setattr(files.os, "replace", refuse_twice)
    if kind == "folder":
        write(tmp_path / "new", "text")
    else:
        with files.atomic_file(tmp_path / "new") as temporary:
            temporary.write_text("text")
    assert (tmp_path / "new" / "file" if kind == "folder" else tmp_path / "new").read_text() == "text"
    assert len(refused) == 2

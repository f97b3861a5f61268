"""Measured maps of others: found, downloaded, checked, and what is said where that does not work."""

from __future__ import annotations

import hashlib
import http.server
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

import hyperspy_specml as specml
from hyperspy_specml import data
from hyperspy_specml.exceptions import DownloadError, OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pooch = pytest.importorskip("pooch")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the user, and no folder of measured maps."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(pooch, "os_cache", lambda project: folder / project)
    monkeypatch.delenv("SPECML_DATA", raising=False)
    return folder / "hyperspy_specml"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A server of this machine: its address, the folder that it serves, and what was asked of it."""
    served, asked = tmp_path / "served", []
    served.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(served))

        def log_message(self, form: str, *arguments: object) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", served, asked
        running.shutdown()
        thread.join()


@pytest.fixture
def published(
    cache: Path, server: tuple[str, Path, list[str]], make_map: Callable, monkeypatch: pytest.MonkeyPatch
) -> tuple[bytes, list[str]]:
    """A map that the server has under the name deep_mantle: its bytes, and what was asked of the server."""
    address, served, asked = server
    make_map(data=np.arange(7 * 5 * 11, dtype=np.uint16).reshape(7, 5, 11)).save(served / "some.hspy")
    content = (served / "some.hspy").read_bytes()
    known = replace(data.MAPS["deep_mantle"], url=f"{address}/some.hspy", sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(data.MAPS, "deep_mantle", known)
    return content, asked


def test_a_map_is_downloaded_once(published: tuple[bytes, list[str]], cache: Path) -> None:
    content, asked = published

    path = specml.data.fetch("deep_mantle")

    assert path == cache / data.MAPS["deep_mantle"].file
    assert path.read_bytes() == content
    assert specml.data.load("deep_mantle").data.shape == (7, 5, 11)
    assert specml.data.load("deep_mantle", lazy=True)._lazy
    assert asked == ["/some.hspy"]


def test_a_changed_file_is_refused(published: tuple[bytes, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(data.MAPS, "deep_mantle", replace(data.MAPS["deep_mantle"], sha256="0" * 64))

    with pytest.raises(DownloadError, match=r"could not be had \(ValueError\).*set SPECML_DATA"):
        specml.data.fetch("deep_mantle")


def test_the_folder_of_measured_maps_comes_first(
    published: tuple[bytes, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, asked = published
    own = tmp_path / "own" / data.MAPS["deep_mantle"].file
    own.parent.mkdir(parents=True)
    own.write_bytes(content)
    monkeypatch.setenv("SPECML_DATA", str(tmp_path / "own"))

    assert specml.data.fetch("deep_mantle") == own
    assert not asked

    own.write_bytes(b"something else")

    assert specml.data.fetch("deep_mantle").read_bytes() == content
    assert own.read_bytes() == b"something else"  # left alone


def test_a_server_that_does_not_answer_is_named(
    published: tuple[bytes, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = replace(data.MAPS["deep_mantle"], url="http://127.0.0.1:9/some.hspy")  # nobody listens there
    monkeypatch.setitem(data.MAPS, "deep_mantle", known)

    with pytest.raises(DownloadError, match=r"http://127.0.0.1:9/some.hspy could not be had"):
        specml.data.fetch("deep_mantle")


@pytest.mark.usefixtures("cache")
def test_without_pooch_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)

    with pytest.raises(ImportError, match=r"pip install 'hyperspy_specml\[data\]'"):
        specml.data.fetch("deep_mantle")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match=r"'deep_mantle'.*Did you mean 'tilt_10'"):
        specml.data.fetch("tilt10")


@pytest.mark.parametrize("name", data.MAPS)
def test_what_is_known_of_a_map_is_complete_and_its_place_does_not_change(name: str) -> None:
    known = data.MAPS[name]

    assert known.title
    assert known.licence
    assert known.url.startswith("https://raw.githubusercontent.com/")
    assert len(known.sha256) == 64
    assert any(len(part) == 40 or part.startswith("v0.") for part in known.url.split("/")[5:6])  # a commit or tag


@pytest.mark.realdata
@pytest.mark.parametrize("name", data.MAPS)
def test_the_checksum_is_that_of_the_file(name: str, data_folder: Path) -> None:
    path = data_folder / data.MAPS[name].file
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    content = path.read_bytes()

    assert hashlib.sha256(content).hexdigest() == data.MAPS[name].sha256
    assert round(len(content) / 1e6, 1) == data.MAPS[name].megabytes

"""The file format: what is written comes back, and whatever was changed on the way is an error."""

from __future__ import annotations

import json
import re
import struct

import numpy as np
import pytest
import safetensors.numpy

from hyperspy_specml.exceptions import ModelFileError, ModelFileExistsError
from hyperspy_specml.models import _file as model_file
from hyperspy_specml.models._file import pack, read_model_file, unpack, write_model_file

LOOKS_LIKE_IT = '"hyperspy_specml":"{\\"sha256\\": \\"' + "0" * 64 + '\\"'
DESCRIPTION = {"name": 'Fe "L", \u0394E', LOOKS_LIKE_IT: LOOKS_LIKE_IT, "numbers": [1, 0.1, None]}
ARRAYS = {
    "a": np.arange(35, dtype=np.float32).reshape(7, 5).T,  # not in C order
    "b": np.array(0.5),
    "c": np.zeros((0, 3), np.uint8),
}


def write(path, description, arrays, **options):
    return write_model_file(path, pack(description, arrays), **options)


def read(path):
    return unpack(read_model_file(path), str(path))


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "model", DESCRIPTION, ARRAYS)


def sealed(rest):
    """Return the bytes of a file with a right checksum, whatever else it says."""
    text = '{"sha256": "' + "0" * 64 + '", ' + rest
    return model_file._sealed(safetensors.numpy.save({}, {"hyperspy_specml": text}))


def test_what_was_written_comes_back(path):
    description, arrays = read(path)

    assert description == DESCRIPTION
    assert arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        assert array.dtype == ARRAYS[name].dtype
        assert array.flags.writeable
        np.testing.assert_array_equal(array, ARRAYS[name])


def test_any_reader_of_safetensors_can_read_the_arrays(path):
    np.testing.assert_array_equal(safetensors.numpy.load_file(path)["a"], ARRAYS["a"])


def test_the_suffix_is_added_where_there_is_none(tmp_path):
    assert write(tmp_path / "a", {}, {}) == tmp_path / "a.specml"
    assert write(str(tmp_path / "b.model"), {}, {}) == tmp_path / "b.model"


def test_a_file_is_replaced_only_on_demand(path):
    before = path.read_bytes()

    with pytest.raises(ModelFileExistsError, match=r"save\('.*model\.specml'\): there is .*overwrite=True"):
        write(path, {}, {})
    write(path, {}, {}, overwrite=False)
    assert path.read_bytes() == before
    write(path, {}, {}, overwrite=True)
    assert read(path) == ({}, {})


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(path, monkeypatch):
    before = path.read_bytes()

    def fail(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr(model_file.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write(path, {}, {}, overwrite=True)

    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_same_model_is_the_same_file(path, tmp_path):
    again = write(tmp_path / "again", DESCRIPTION, ARRAYS)

    assert again.read_bytes() == path.read_bytes()


def test_a_flipped_bit_of_any_byte_is_found(path):
    raw = path.read_bytes()
    bits = 1 << np.random.default_rng(0).integers(8, size=len(raw))

    for position, bit in enumerate(bits):
        damaged = bytearray(raw)
        damaged[position] ^= bit
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            read(path)


def test_every_cut_and_every_addition_is_found(path):
    raw = path.read_bytes()

    for damaged in [*(raw[:n] for n in range(len(raw))), raw + b"\0", b"\0" + raw]:
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            read(path)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", r"no model file, or cut off: 0 bytes"),
        (b"\x89HDF\r\n\x1a\n" + bytes(512), r"no model file, or cut off: 520 bytes"),
        (struct.pack("<Q", 1 << 62) + b"{}", r"cut off: 10 bytes are fewer than its header needs"),
        (struct.pack("<Q", 2) + b"{}", r"is no model file of hyperspy_specml"),
        (safetensors.numpy.save({"a": np.ones(3)}), r"is no model file of hyperspy_specml"),
        (sealed('"other": 1}'), r"is not what its checksum promises \(KeyError\('format_version'\)\)"),
        (sealed('"format_version": 3}'), r"has version 3 of the format, but only 2 is known here: update"),
        (sealed('"format_version": 1}'), r"has version 1 of the format, .*: train the model anew"),
        (sealed('"format_version": 2'), r"is not what its checksum promises \(JSONDecodeError"),
        (sealed('"format_version": ' + "[" * 100_000), r"is not what its checksum promises"),
    ],
    ids=range(10),
)
def test_other_files_are_refused_with_the_reason(tmp_path, raw, message):
    (tmp_path / "file.specml").write_bytes(raw)

    with pytest.raises(ModelFileError, match=r"^load_model\('.*file\.specml'\): the file .*" + message):
        read(tmp_path / "file.specml")


def test_arrays_that_overlap_or_lie_outside_are_refused(path):
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + n])
    for offsets in ([0, 1 << 60], [4, 144], [140, 0]):
        header["a"]["data_offsets"] = offsets
        text = json.dumps(header, separators=(",", ":")).encode()
        text = re.sub(rb'(sha256\\": \\")[0-9a-f]{64}', rb"\g<1>" + b"0" * 64, text)
        path.write_bytes(model_file._sealed(struct.pack("<Q", len(text)) + text + raw[8 + n :]))
        with pytest.raises(ModelFileError, match="not what its checksum promises"):
            read(path)


def test_a_file_as_large_as_a_map_is_not_read(tmp_path):
    path = tmp_path / "huge.specml"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 100))
        file.truncate(1 << 40)  # a hole: it needs no space

    with pytest.raises(ModelFileError, match=re.escape(f"{1 << 40} bytes, 100 of them header, are too many")):
        read(path)


def test_a_header_as_large_as_a_map_is_not_read(tmp_path):
    path = tmp_path / "huge.specml"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 1 << 28))
        file.truncate(1 << 29)

    with pytest.raises(ModelFileError, match="are too many"):
        read(path)


def test_a_file_that_is_not_there_is_pythons_own_error(tmp_path):
    for name in ("nothing.specml", "nothing"):
        with pytest.raises(FileNotFoundError, match=r"nothing\.specml"):
            read(tmp_path / name)


def test_what_was_saved_without_a_suffix_is_read_without_one(tmp_path):
    write(tmp_path / "steel", {"title": "steel"}, {})
    assert read(tmp_path / "steel")[0] == {"title": "steel"}

    (tmp_path / "plain").write_bytes((tmp_path / "steel.specml").read_bytes())
    write(tmp_path / "plain.specml", {"title": "other"}, {})
    assert read(tmp_path / "plain")[0] == {"title": "steel"}  # a file that has the very name


def test_a_folder_is_answered_with_a_file_in_it(tmp_path):
    with pytest.raises(ModelFileError, match=r"this is a folder\. Name a file in it, e\.g\. '.*model\.specml'"):
        read(tmp_path)
    write(tmp_path / "steel", {}, {})
    with pytest.raises(ModelFileError, match=r"e\.g\. '.*steel\.specml'"):
        read(tmp_path)

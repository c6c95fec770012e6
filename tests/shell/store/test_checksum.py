from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotwatchd.store import checksum


def test_the_check_value_of_the_catalogue() -> None:
    """CRC-64/NVME of "123456789" is the value that the catalogue of CRCs gives."""
    assert checksum.crc64nvme(b"123456789") == 0xAE8B14860A799888


@given(st.lists(st.binary(max_size=50)))
def test_chunks_have_the_checksum_of_the_whole(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert checksum.crc64nvme_of_chunks(chunks) == (len(whole), checksum.crc64nvme(whole))


def test_a_file_longer_than_a_chunk(tmp_path: Path) -> None:
    """A file is read in chunks and has the checksum of its bytes."""
    data = bytes(range(256)) * 9000
    (tmp_path / "file").write_bytes(data)
    expected = (len(data), checksum.crc64nvme(data))
    assert len(data) > 2 * checksum.CHUNK
    assert checksum.crc64nvme_of_file(tmp_path / "file") == expected


def test_a_limit_ends_the_chunks_exactly(tmp_path: Path) -> None:
    data = bytes(3 * checksum.CHUNK)
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        chunks = list(checksum.chunks_of(file, checksum.CHUNK + 7))
    assert [len(chunk) for chunk in chunks] == [checksum.CHUNK, 7]


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_both_spellings_can_be_read_back(crc: int) -> None:
    assert checksum.from_hex16(checksum.to_hex16(crc)) == crc
    assert checksum.from_base64(checksum.to_base64(crc)) == crc


@pytest.mark.parametrize("text", ["", "0", "0" * 15, "0" * 17, "F" * 16, " " * 16, "0x" + "0" * 14])
def test_other_hex_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="16 lower-case hex"):
        checksum.from_hex16(text)


@pytest.mark.parametrize("text", ["", "AAAA", "AAAAAAAAAAA", "!AAAAAAAAAA="])
def test_other_base64_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the library's sentence or ours
        checksum.from_base64(text)

"""Keyed pseudonyms and the files of their keys."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from translucid.errors import ConfigError, InputError
from translucid.io.pseudonym import new_key, pseudonym, random_key, read_key

KEY = bytes(range(32))


def textbook(key: bytes, message: bytes) -> str:
    """HMAC as RFC 2104 writes it: H((K ⊕ opad) ‖ H((K ⊕ ipad) ‖ m))."""
    padded = (key if len(key) <= 64 else hashlib.sha256(key).digest()).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in padded) + message).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in padded) + inner).hexdigest()


@given(st.binary(min_size=32, max_size=80), st.lists(st.text(), min_size=1, max_size=3), st.integers(8, 64))
def test_it_is_the_textbook_hmac(key: bytes, parts: list[str], length: int) -> None:
    message = b"".join(len(p.encode()).to_bytes(8, "big") + p.encode() for p in parts)
    assert pseudonym(key, *parts, length=length) == textbook(key, message)[:length]


@given(st.lists(st.text(max_size=3), min_size=1, max_size=3), st.lists(st.text(max_size=3), min_size=1, max_size=3))
def test_other_parts_give_other_pseudonyms(one: list[str], two: list[str]) -> None:
    assert (pseudonym(KEY, *one) == pseudonym(KEY, *two)) == (one == two)


def test_parts_do_not_run_together() -> None:
    assert pseudonym(KEY, "ab", "c") != pseudonym(KEY, "a", "bc") != pseudonym(KEY, "abc")


def test_another_key_gives_other_pseudonyms() -> None:
    assert pseudonym(random_key(), "p") != pseudonym(random_key(), "p")


def test_misuse_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 32 bytes, this one has 31"):
        pseudonym(KEY[:31], "p")
    with pytest.raises(ConfigError, match="at least one part"):
        pseudonym(KEY)
    for length in (7, 65):
        with pytest.raises(ConfigError, match="8 to 64"):
            pseudonym(KEY, "p", length=length)


def test_a_key_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "study.key"
    key = new_key(path)
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(path) == key
    path.chmod(0o400)
    assert read_key(path) == key


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o700])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "study.key"
    new_key(path)
    path.chmod(mode)
    with pytest.raises(InputError, match=rf"mode {mode:04o}\); run: chmod 600 .*study\.key"):
        read_key(path)


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "study.key"
    key = new_key(path)
    with pytest.raises(InputError, match="there already"):
        new_key(path)
    assert read_key(path) == key


@pytest.mark.parametrize("content", [b"", b"x" * 31, bytes(64), b"ab" * 40, bytes(range(256)) * 17])
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "study.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(InputError, match=r"random bytes|larger than") as caught:
        read_key(path)
    assert "xx" not in str(caught.value)


def test_a_key_that_is_absent_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.key", tmp_path):
        with pytest.raises(InputError, match="make a key with new_key"):
            read_key(path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        new_key(tmp_path / "file" / "study.key")

"""Keyed pseudonyms: the same patient always gets the same code, and without the key nobody can tell whose it is.

What this does not protect against: whoever has the key can compute the pseudonym of every known identifier and so
undo all of them; images of one patient stay linked to one another, on purpose; the image itself, the labels, age and
sex may give the patient away; and a lost key cannot be recovered, so old and new releases no longer match. A pseudonym
is personal data as long as the key exists.
"""

from __future__ import annotations

import hmac
import os
import secrets
from pathlib import Path

from translucid.config import SECRET_BYTES, read_private
from translucid.errors import ConfigError, InputError

KEY_BYTES = SECRET_BYTES


def random_key() -> bytes:
    """A key of 32 random bytes for one run; pseudonyms made with it match nothing that was made before.

    Example:
        >>> len(random_key()), random_key() == random_key()
        (32, False)

    Fails when: a later release must carry the same pseudonyms; use `new_key` and keep the file.
    """
    return secrets.token_bytes(KEY_BYTES)


def new_key(path: Path) -> bytes:
    """Make a key file that only its owner can read; one that exists is never overwritten.

    Args:
        path: where to; its folder is made.

    Raises:
        InputError: there is a file already, or it cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     new_key(Path(folder, "study.key")) == read_key(Path(folder, "study.key"))
        True

    Fails when: the file is kept beside the data that it is meant to protect.
    """
    path, key = Path(path), random_key()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(key)
    except OSError as error:
        if isinstance(error, FileExistsError) and path.exists():
            raise InputError(
                f"{path} is there already: read it with read_key or choose another name; a lost key is lost for good"
            ) from None
        raise InputError(f"the key file {path} cannot be written: {error.strerror}") from None
    return key


def read_key(path: Path) -> bytes:
    """Read a key file: at least 32 random bytes that only their owner can read.

    Args:
        path: a file made by `new_key`, or by any other good source of random bytes.

    Raises:
        InputError: it is absent, others can read it, or it does not look random.

    Example:
        >>> read_key(Path("no-such.key"))
        Traceback (most recent call last):
        ...
        translucid.errors.InputError: the key no-such.key cannot be read (No such file or directory): make ...

    Fails when: the bytes are a phrase; a phrase can be guessed, and then all pseudonyms are open.
    """
    return read_private(path, "key")


def pseudonym(key: bytes, *parts: str, length: int = 16) -> str:
    """HMAC-SHA256 of the parts under a key, as the first `length` hexadecimal digits.

    Each part enters with its length before it, so ("ab", "c") and ("a", "bc") differ. With 16 digits (64 bit) the
    chance that any two of n patients share a pseudonym is about n²/2⁶⁵: 3·10⁻⁸ for a million.

    Args:
        key: at least 32 random bytes.
        parts: what to hide, for example the study's name and the patient's identifier.
        length: hexadecimal digits, 8 to 64.

    Raises:
        ConfigError: the key is too short, there are no parts, or the length is out of range.

    Example:
        >>> pseudonym(bytes(range(32)), "study", "patient 7")
        'b1b3851edda953bf'

    Source: Krawczyk, Bellare, Canetti 1997, RFC 2104.

    Fails when: the key leaks; identifiers are few and can all be tried. See the module for what stays open.
    """
    if len(key) < KEY_BYTES:
        raise ConfigError(f"a key needs at least {KEY_BYTES} bytes, this one has {len(key)}: use new_key or random_key")
    if not parts:
        raise ConfigError("a pseudonym needs at least one part to hide")
    if not 8 <= length <= 64:
        raise ConfigError(f"a pseudonym has 8 to 64 hexadecimal digits, not {length}")
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    message = b"".join([len(part).to_bytes(8, "big") + part for part in encoded])
    return hmac.digest(key, message, "sha256").hex()[:length]

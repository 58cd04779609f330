"""The file that the access token comes from: read again while a worker runs, and given a new token in its place."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from pydantic import SecretStr

_MOST_BYTES = 65_536


class TokenFile:
    """Implements `app.ports.TokenStore`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __repr__(self) -> str:
        return f"TokenFile({str(self._path)!r})"

    def read(self) -> SecretStr | None:
        try:
            with self._path.open("rb") as file:
                text = file.read(_MOST_BYTES).decode("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return SecretStr(text) if text else None

    def replace(self, old: SecretStr, new: SecretStr) -> str | None:
        """Owner and rights stay those of the file. A mounted secret, which is read-only, stays as it is."""
        if self.read() != old:
            return f"{self._path} holds another token by now"
        try:
            # Behind a symbolic link is the file that is meant.
            self._write(self._path.resolve(strict=True), new)
        except OSError as error:
            return f"{self._path} cannot be written ({type(error).__name__})"
        return None

    def _write(self, path: Path, new: SecretStr) -> None:
        kept = path.stat()
        # Nobody but its owner can read it, from its first byte on.
        descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                own = os.fstat(file.fileno())
                if (own.st_uid, own.st_gid) != (kept.st_uid, kept.st_gid):
                    os.fchown(file.fileno(), kept.st_uid, kept.st_gid)
                file.write(new.get_secret_value().encode() + b"\n")
                os.fchmod(file.fileno(), kept.st_mode & 0o777)
                file.flush()
                os.fsync(file.fileno())
            Path(draft).replace(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise

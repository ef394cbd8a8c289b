"""Where the lake's bytes lie, and how they become durable.

Neither deltalake nor pyarrow syncs what it writes to a local disk, so this module does: a file
first, then the folders that name it. A file is complete and durable under a spool name before it
appears under its own, so a crash leaves either no file or a whole one.

On an object store a PUT is durable when it is answered, and only ``put`` differs.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow.fs as pafs

from hbpipe.errors import LakeError

#: Inside the lake; vacuum leaves alone what begins with an underscore.
PRIVATE = "_hbpipe"

#: What this process has forced to the disk, by path and inode: files that never change, and names
#: of folders. A disk takes milliseconds to say that there is nothing left to write.
_FORCED: set[tuple[str, int]] = set()

_UNSAFE = {"allow_unsafe_rename", "mount_allow_unsafe_rename", "aws_s3_allow_unsafe_rename"}
#: pyarrow's name for each S3 option of deltalake that both understand.
_S3_OPTIONS = {
    "aws_access_key_id": "access_key",
    "aws_secret_access_key": "secret_key",
    "aws_session_token": "session_token",
    "aws_region": "region",
    "aws_endpoint_url": "endpoint_override",
}


@dataclass(frozen=True)
class Storage:
    """A root on a local disk or an object store; small and picklable, so workers get it.

    Parameters
    ----------
    uri
        A local path, ``file://``, or what pyarrow and deltalake both know (``s3://bucket/prefix``).
    options
        deltalake's ``storage_options``; never shown, they may hold secrets.
    fence
        The number of the run that writes, see ``Lake``.

    Raises
    ------
    LakeError
        The options allow deltalake to rename unsafely, which can overwrite a commit.
    """

    uri: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    fence: int | None = None

    def __post_init__(self) -> None:
        unsafe = sorted(key for key in self.options if key.lower() in _UNSAFE)
        if unsafe:
            raise LakeError(
                f"the storage options allow unsafe renames with {unsafe[0]!r}",
                where={"lake": self.uri},
                expected="a store that creates a file only if it is absent",
                remedy="remove the option and keep the lake on a disk or store that can",
            )
        parts = urlsplit(self.uri)
        if parts.scheme in ("", "file"):
            path = unquote(parts.path) if parts.scheme else self.uri
            object.__setattr__(self, "uri", str(Path(path).absolute()))
        else:
            object.__setattr__(self, "uri", self.uri.rstrip("/"))

    @property
    def local(self) -> bool:
        """True on a local disk."""
        return "://" not in self.uri

    def url(self, *parts: str) -> str:
        """Address for deltalake."""
        return "/".join((self.uri, *parts))

    def path(self, *parts: str) -> str:
        """Address within ``filesystem()``."""
        return self.url(*parts).split("://", 1)[-1]

    def filesystem(self) -> pafs.FileSystem:
        """Return pyarrow's file system for this root."""
        if self.local:
            return pafs.LocalFileSystem()
        if not self.uri.startswith("s3://"):
            return pafs.FileSystem.from_uri(self.uri)[0]
        known = {key.lower(): value for key, value in self.options.items()}
        settings: dict[str, Any] = {
            theirs: known[ours] for ours, theirs in _S3_OPTIONS.items() if ours in known
        }
        if known.get("aws_allow_http", "").lower() == "true":
            settings["scheme"] = "http"
        return pafs.S3FileSystem(**settings)

    def size(self, path: str) -> int | None:
        """Bytes of the file at ``path``, or None when there is none."""
        info = self.filesystem().get_file_info(path)
        return info.size if info.is_file else None

    @contextmanager
    def spool(self) -> Iterator[Path]:
        """Give a private local file name to write to; whatever is left there is removed."""
        if self.local:
            folder = Path(self.path(PRIVATE, "staging"))
            make_folder(folder)
        else:
            folder = Path(tempfile.gettempdir())
        path = folder / f"{uuid.uuid4().hex}.parquet"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def put(self, spool: Path, path: str) -> None:
        """Publish a finished spool file under its own name, durably.

        Names are unique, so the rename of the local case never overwrites.
        """
        if self.local:
            sync(spool)
            folder = Path(path).parent
            make_folder(folder)
            spool.rename(path)
            self.sync_folders(folder)
        else:
            with spool.open("rb") as source, self.filesystem().open_output_stream(path) as sink:
                shutil.copyfileobj(source, sink, 1 << 20)

    def sync_file(self, file: Path) -> None:
        """Sync a file that never changes, and the folders that lead to it; no more than once."""
        mark = _mark(file)
        if mark not in _FORCED:
            sync(file)
            self.sync_folders(file.parent)
            _FORCED.add(mark)

    def sync_folders(self, folder: Path) -> None:
        """Sync a folder and, for its own name, those above it up to the root.

        Others may have made them a moment ago, and not yet synced what they made. What is new in
        the folder is forced to the disk every time, its own name once.
        """
        root = Path(self.uri)
        sync(folder)
        for one in (folder, *folder.parents):
            if one == root:
                break
            mark = _mark(one)
            if mark not in _FORCED:
                sync(one.parent)
                _FORCED.add(mark)


def _mark(path: Path) -> tuple[str, int]:
    return str(path), path.stat().st_ino


def sync(path: Path) -> None:
    """Force a file or a folder to the disk.

    A failed sync is final: the kernel may already have dropped the pages, so a second call could
    succeed with the bytes lost (Rebello et al., USENIX ATC 2020).
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create a folder and what leads to it, each durably named in its parent.

    Raises
    ------
    LakeError
        A file is in the way, or the disk refuses.
    """
    if path.is_dir():
        return
    make_folder(path.parent)
    try:
        path.mkdir(exist_ok=True)
        sync(path.parent)
        _FORCED.add(_mark(path))
    except OSError as error:
        raise LakeError(
            f"cannot make a folder: {error.strerror or error}",
            where={"folder": path},
            expected="a folder that this user may make, where no file is in the way",
            remedy="correct lake.path, or the rights and the free space of the disk",
        ) from error


def require_create_if_absent(storage: Storage) -> None:
    """Refuse a local disk without hard links, on which two commits could overwrite each other.

    Raises
    ------
    LakeError
        The file system has no hard links, or lets a link replace a file.
    """
    if not storage.local:
        return
    with storage.spool() as first, storage.spool() as second:
        first.touch()
        try:
            os.link(first, second)
            replaced = _link_replaces(first, second)
        except OSError as error:
            raise _no_links(storage, f"hard links fail: {error}") from error
        if replaced:
            raise _no_links(storage, "a hard link replaces an existing file")


def _link_replaces(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except FileExistsError:
        return False
    return True


def _no_links(storage: Storage, found: str) -> LakeError:
    return LakeError(
        found,
        where={"lake": storage.uri},
        expected="a file system on which a commit is created only if it is absent",
        remedy="put the lake on a local disk (ext4, xfs, apfs) or on an object store",
    )

"""Opening the user's files, compressed or not, with errors that name the file."""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa

from newsreel.core.cache import digest
from newsreel.core.errors import UserError

DAMAGE = (tarfile.TarError, EOFError, zlib.error, OSError)  # raised for truncated files and files that are not tar
MAX_FILE_BYTES = 2**28  # of what is read at once
UNREADABLE = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError, pa.ArrowException)


@contextmanager
def damage_named(archive: Path) -> Iterator[None]:
    """Context that turns errors in reading the user's tar file into a UserError that names it."""
    try:
        yield
    except DAMAGE as error:
        raise UserError(
            f"{archive} cannot be read as a tar file: {type(error).__name__}: {error}.\n"
            "The download is incomplete or damaged: download the file again."
        ) from error


def require_regular(path: Path, setting: str, remedy: str) -> None:
    """Raise UserError if the path in `setting` is no file, or one that may never end, such as a pipe or a device."""
    try:
        kind = kind_of(path)
    except (OSError, ValueError) as error:  # ValueError: a null character
        reason = "there is no such file" if isinstance(error, FileNotFoundError | ValueError) else error.strerror
        raise UserError(f"{setting}={path}: {reason}. {remedy}") from error
    if kind != "a file":
        raise UserError(f"{setting}={path}: this is {kind}, not a file. {remedy}")


def refuse_special(path: Path) -> None:
    """Raise UserError if the path is what may never end: a pipe, a socket or a device. Raises OSError."""
    if (kind := kind_of(path)) not in ("a file", "a folder"):
        raise UserError(f"{path} is {kind}: only files and folders can be read. Save its content to a file.")


def kind_of(path: Path) -> str:
    """What a path is, in words. Raises OSError."""
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(path.stat().st_mode), "a device")


def require_inside(root: Path, paths: Iterable[Path]) -> None:
    """Raise UserError if a path below `root`, or a folder on the way to it, is a link that leads out of `root`."""
    on_the_way = {folder for path in paths for folder in (path, *path.parents) if folder.is_relative_to(root)} - {root}
    for link in sorted(path for path in on_the_way if path.is_symlink()):
        target = link.resolve()
        if not target.is_relative_to(root.resolve()):
            raise UserError(
                f"{link} is a link to {target}, outside of {root}: links are followed only within the folder.\n"
                "Copy what it leads to into the folder, or remove the link."
            )


def open_zstandard(path: Path) -> IO[bytes]:
    return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))


def open_zip(path: Path) -> IO[bytes]:
    return zipfile.ZipFile(path).open(zip_member(path))


def zip_member(path: Path) -> str:
    """The name of the only file in a zip file. Raises UserError if it contains several or none, or if it is no zip."""
    try:
        with zipfile.ZipFile(path) as archive:
            named = [info for info in archive.infolist() if info.filename]  # is_dir fails for an empty name
            files = [info for info in named if not info.is_dir() and not is_hidden(info.filename)]
    except (zipfile.BadZipFile, OSError, UnicodeDecodeError, NotImplementedError) as error:
        raise unreadable(path, error) from error
    if len(files) != 1:
        names = ", ".join(info.filename for info in files[:5])
        raise UserError(
            f"{path} contains {len(files)} files{f': {names}' if files else ''}{' …' if len(files) > 5 else ''}. A zip "
            "file is read if it contains one; unpack it, and name the files or the folder."
        )
    if files[0].flag_bits & 1:
        raise UserError(f"{path} is encrypted: unpack it with its password, and name the unpacked file.")
    return files[0].filename


def is_hidden(name: str) -> bool:
    """Whether a part of a path begins with a dot, or is the folder that macOS adds to zip files."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


OPENERS: dict[str, Callable[[Path], IO[bytes]]] = {
    ".gz": gzip.open,  # type: ignore[dict-item]
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": open_zstandard,
    ".zip": open_zip,
}


def open_bytes(path: Path) -> IO[bytes]:
    """The file opened in binary mode, decompressed if its name ends as in OPENERS.

    Raises UserError for pipes, sockets and devices.
    """
    refuse_special(path)
    opener = OPENERS.get(path.suffix.lower())
    return path.open("rb") if opener is None else opener(path)


def uncompressed_name(path: Path) -> str:
    """The lower-case name of a file without the suffix of its compression; in a zip file, of the file in it."""
    suffix = path.suffix.lower()
    if suffix == ".zip":
        return Path(zip_member(path)).name.lower()
    return (path.stem if suffix in OPENERS else path.name).lower()


def unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read: {error}.\nIt is incomplete or damaged: get a new copy.")


def read_file(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The content of the user's file. Raises UserError if it cannot be read, or is larger than `max_bytes`."""
    try:
        refuse_special(path)
        with path.open("rb") as file:
            return read_bounded(file, str(path), max_bytes)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Download the corpus again.") from error


def read_bounded(file: IO[bytes], where: str, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The content of an open file, which may be packed. Raises UserError if it is larger than `max_bytes`."""
    content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise UserError(
            f"{where} has more than {max_bytes:,} bytes, the most that is read at once. If it is meant to be that "
            "large, divide it into several files."
        )
    return content


def content_key(path: Path) -> str:
    """A key for the content of the user's file or folder, computed without reading the content."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return stats_key(path, ((file.relative_to(path).as_posix(), file.stat()) for file in files))


def stats_key(path: Path, files: Iterable[tuple[str, os.stat_result]]) -> str:
    """The path, with a digest of the names, sizes and times of its files.

    A program can set the modification time back, as `cp -p` and `rsync -t` do, but not the time of change. A digest of
    the content would take 0.3 s (xxh3) to 1.2 s (SHA-256) a GB at every start, and more if the disk has to be read.
    """
    lines = sorted(f"{name} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}" for name, stat in files)
    return f"{path.resolve()} {digest(chr(10).join(lines))}"

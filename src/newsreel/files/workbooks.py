"""Checks of Excel workbooks, zip files of XML, before a reader allocates what they claim."""

import re
import zipfile
from pathlib import Path
from typing import IO

from newsreel.core.errors import UserError
from newsreel.files.archives import MAX_FILE_BYTES, UNREADABLE, unreadable

BLOCK_BYTES = 2**20
MAX_TAG_BYTES = 4_096  # of a tag that is cut by the end of a block
MAX_COLUMNS = 16_384  # of Excel
MAX_WORKBOOK_BYTES = 4 * MAX_FILE_BYTES
MAX_CELLS = 2**25  # of a sheet, with the empty ones, which a reader stores too
TAG = re.compile(rb"<(?:\w+:)?(row|c)\b([^<>]*)")
REFERENCE = re.compile(rb"\br\s*=\s*[\"']([A-Za-z]{0,3})([0-9]{0,7})[\"']")  # A1 of a cell, 1 of a row


def check_workbook(path: Path) -> None:
    """Raise UserError if a workbook is damaged, or if unpacking it or the cells that it claims would take too much."""
    try:
        with zipfile.ZipFile(path) as archive:
            num_bytes = sum(member.file_size for member in archive.infolist())
            if num_bytes > MAX_WORKBOOK_BYTES:
                raise UserError(
                    f"{path} has {num_bytes:,} bytes when it is unpacked; at most {MAX_WORKBOOK_BYTES:,} are read. "
                    "Save it as CSV or Parquet."
                )
            for name in archive.namelist():
                with archive.open(name) as member:  # reads everything, which verifies that the sizes are true
                    check_sheet(path, member)
    except (*UNREADABLE, RuntimeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise unreadable(path, error) from error


def check_sheet(path: Path, member: IO[bytes]) -> None:
    """Read a file of the workbook to its end. Raises UserError if it is a sheet of too many cells."""
    rest = b""
    last_row, last_column, num_unplaced = 0, 0, 0
    while block := member.read(BLOCK_BYTES):
        block = rest + block
        end = max(block.rfind(b"<"), len(block) - MAX_TAG_BYTES)
        for tag, attributes in TAG.findall(block, 0, end):
            reference = REFERENCE.search(attributes)
            if reference is None:
                num_unplaced += tag == b"c"
                continue
            last_column = max(last_column, column_number(reference[1]))
            last_row = max(last_row, int(reference[2] or 0))
        rest = block[end:]
    last_column = max(last_column, min(num_unplaced, MAX_COLUMNS))  # of a row without references, at most
    if last_row * last_column > MAX_CELLS:
        raise UserError(
            f"{path} has a sheet of {last_row:,} rows and {last_column:,} columns; at most {MAX_CELLS:,} cells are "
            "read, with the empty ones. Remove what is far from the table, or save it as CSV."
        )


def column_number(name: bytes) -> int:
    """The number of a column from 1: 1 for A, 27 for AA."""
    number = 0
    for letter in name.upper():
        number = 26 * number + letter - ord("A") + 1
    return number

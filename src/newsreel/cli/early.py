"""Checks that come before torch is imported, which takes seconds."""

from typing import Any


def check_documents(settings: dict[str, Any], split: str = "train") -> None:
    """Raise UserError if the section `data` names files that are missing, or `paths` a home directory.

    settings: a resolved config. split: the documents that the command needs. Sections with other problems are left to
    the check of the whole config, which lists the problems of all sections.
    """
    from newsreel.config.sections import check_section, read_reader
    from newsreel.corpora.corpus import Paths

    reader = read_reader(settings["data"], [])
    if reader is not None:
        reader.check(split)
    if not check_section("paths", settings["paths"], Paths):
        Paths(**settings["paths"])

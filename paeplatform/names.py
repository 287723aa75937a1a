"""Names that become part of a path: of releases, and keys of partitions in general.

Dagster's page accepts any text as a partition, also `../../elsewhere`. Every place that makes a path of a name checks
the name here first, so that no path leads out of the folder it is meant for.
"""

from __future__ import annotations

import re

from paeplatform.errors import InputError

RELEASE_PATTERN = r"^[a-z0-9][a-z0-9_\-]*$"
LONGEST_NAME = 100  # file systems take 255 bytes, and temporary names add to it
NAME_FORM = f"small letters, digits, - and _, a letter or digit first, at most {LONGEST_NAME} characters"
_NAME = re.compile(RELEASE_PATTERN)
_SHOWN = 60  # characters of a bad name that a message repeats


def is_name(text: str) -> bool:
    """Whether a text can be a release's name or a partition's key."""
    return len(text) <= LONGEST_NAME and _NAME.fullmatch(text) is not None


def check_name(text: str, what: str) -> str:
    """The text itself, when it can stand in a path.

    Args:
        text: to check.
        what: the text is, for the message, like "partition key".

    Raises:
        InputError: it has another form; the message gives the accepted one.
    """
    if not is_name(text):
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
        raise InputError(f"{what} {shown!r} must be {NAME_FORM}")
    return text


def check_release_name(name: str) -> str:
    """The name itself, when it can be a release's.

    Raises:
        InputError: it has another form; the message gives the accepted one.
    """
    return check_name(name, "release name")

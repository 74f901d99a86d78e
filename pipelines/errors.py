"""The errors that a user can cause and cure; commands show them as one line."""

from __future__ import annotations


class UserError(ValueError):
    """Shown to the user as one line: what is wrong, which file or setting, what is legal, what came."""


class DataError(ValueError):
    """A data set that cannot be used; the message is one line that names the file and the cure."""

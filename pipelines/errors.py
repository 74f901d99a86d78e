"""The errors that a user can cause and cure; commands show them as one line."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake of the user; its one line says what is wrong, where, what is legal and what was received."""


class DataError(ValueError):
    """A data set that cannot be used; its one line names the file and the cure."""

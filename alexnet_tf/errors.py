"""The error that a user can cause and cure."""


class UserError(ValueError):
    """Shown to the user as one line: what is wrong, which file or setting, what is legal, what came."""

"""The one exception a user's mistake raises."""


class UserError(Exception):
    """A mistake that the user can mend: one sentence with what was wrong, the value seen and what to do.

    The command line prints it and exits with code 2; in Python it is an ordinary exception.
    """

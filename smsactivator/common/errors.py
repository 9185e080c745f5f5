"""Operating errors: what somebody outside can bring about, and can do something about."""


class Refused(Exception):
    """The request was understood and refused; nothing was changed.

    ``code`` is stable and machine-readable, ``status`` is the HTTP status the API answers with, and
    the message tells a person what can be done.
    """

    code = "refused"
    status = 409

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NotFound(Refused):
    """What was named does not exist, or belongs to somebody else (the two look the same)."""

    code = "not_found"
    status = 404


class Invalid(Refused):
    """The request itself is malformed: a value out of its range, a field missing."""

    code = "invalid"
    status = 422

"""What a call answers: a value, or the text of a ValueError."""


def answered(function, *args, **kwargs):
    """(value, None), or (None, text) where it is refused; anything else is raised."""
    try:
        return function(*args, **kwargs), None
    except ValueError as error:
        return None, str(error)

"""The one error a person sees: a sentence that tells what was missing and what to do, printed without a traceback."""


class Trouble(Exception):
    """What went wrong and what to do about it, for the person at the terminal."""

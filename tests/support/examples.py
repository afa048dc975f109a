"""How many examples properties are tried with."""

from hypothesis import settings


def examples(number):
    """Return this number, or fewer where the whole run was told to try few: see ``.ci/run``."""
    asked = settings.default.max_examples
    return min(number, asked) if asked < settings.get_profile("any machine").max_examples else number

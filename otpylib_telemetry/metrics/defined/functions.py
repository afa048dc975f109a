"""Functions in definitions: called alike, whatever they want; one that fails says in which option."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from otpylib_telemetry.metrics.options import Match, arguments_of

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class FunctionError(Exception):
    """A function of a definition has failed."""

    def __init__(self, option: str, cause: BaseException) -> None:
        super().__init__(option)
        self.option = option
        self.cause = cause


def called(option: str, function: Callable[..., T], *arguments: object) -> T:
    """Call a function of an option; what it raises becomes a :class:`FunctionError`."""
    try:
        return function(*arguments)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise FunctionError(option, error) from error


def predicate(given: Callable[..., object] | Match | None) -> Callable[[Any, Any], bool] | None:
    """Return what tells of measurements and metadata whether they are meant."""
    if given is None:
        return None
    function = of_two(given, only_measurements=False)
    return lambda measurements, metadata: bool(function(measurements, metadata))


def of_two(function: Callable[..., object], *, only_measurements: bool) -> Callable[[Any, Any], object]:
    """Return a function of measurements and metadata, made of one that may want just one of these."""
    wanted = 1 if isinstance(function, Match) else arguments_of(function)
    if only_measurements:
        # One that does not tell is called with both, and a predicate that does not with metadata.
        return (lambda measurements, _metadata: function(measurements)) if wanted == 1 else function
    both = wanted == 2  # noqa: PLR2004 - measurements and metadata
    return function if both else (lambda _measurements, metadata: function(metadata))

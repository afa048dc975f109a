"""What sums of floats need to come out as if they had been rounded once.

What each addition rounds away is added up beside the sum (Neumaier's variant of Kahan's method, with Knuth's
error-free 2Sum). With ``u = 2**-53`` the sum of n numbers ``x`` differs from the exact one by at most
``u * |exact| + (n*u / (1 - n*u))**2 * sum(|x|)`` (Ogita, Rump, Oishi, "Accurate sum and dot product", SIAM J.
Sci. Comput. 26, 2005, proposition 4.5): as if it had been rounded once, not n times. Sums of integers are
exact; in a sum with floats, an integer that no float holds counts as two numbers.

The series add up by themselves what they are given, for a call would cost a measurement a twentieth more.
Pure.
"""

from __future__ import annotations

import sys
from typing import Final

#: The largest finite float. Comparing with it refuses NaN, the infinities and the integers no float can hold
#: in one step.
FLOAT_MAX: Final = sys.float_info.max

#: Every integer up to here is a float, too.
WHOLE: Final = 2**sys.float_info.mant_dig


def halves(value: float) -> tuple[float, float]:
    """Return a number as a float and what that float leaves out.

    Python rounds an integer that it adds to a float, and says nothing.
    """
    if type(value) is float:
        return value, 0.0
    most = float(value)
    return most, float(value - int(most))


def corrected(total: float, lost: float) -> float:
    """Return a sum with what was rounded away while it was made.

    Returns the sum; an int if nothing was rounded. Always finite: next to the largest float, where the
    correction itself has no meaning any more, the sum as it is.
    """
    if not lost:
        return total
    whole = total + lost
    return whole if -FLOAT_MAX <= whole <= FLOAT_MAX else total

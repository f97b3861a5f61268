"""States of pixels and channels."""

USED, MASKED, NOT_FINITE, EMPTY, SATURATED = range(5)
STATE_NAMES = ("used", "masked", "not finite", "empty", "saturated")

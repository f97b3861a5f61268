"""States of pixels and channels."""

USED, MASKED, NOT_FINITE, EMPTY, SATURATED, BELOW_LINES = range(6)
STATE_NAMES = ("used", "masked", "not finite", "empty", "saturated", "below the first line")

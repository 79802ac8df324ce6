"""Which connection takes a request of a softphone: dial patterns, weights and their explanation. Pure.

The same function routes and explains, so `siperb route` cannot disagree with what the gateway does.
"""

from siperb_core.routing.explanation import ALL, Candidate, Explanation, Route, explain
from siperb_core.routing.failover import fails_over
from siperb_core.routing.pattern import PatternError, compile_pattern, lost_backslash

__all__ = [
    "ALL",
    "Candidate",
    "Explanation",
    "PatternError",
    "Route",
    "compile_pattern",
    "explain",
    "fails_over",
    "lost_backslash",
]

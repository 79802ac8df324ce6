"""Which connection takes a request of a softphone: dial patterns, weights and their explanation. Pure.

The same function routes and explains, so `siperb route` cannot disagree with what the gateway does.
"""

from siperb_core.routing.explanation import ALL, Candidate, Explanation, Route, explain, explain_emergency
from siperb_core.routing.failover import fails_over
from siperb_core.routing.inbound import Did, DidRow, InboundExplanation, explain_inbound, rung_users
from siperb_core.routing.pattern import PatternError, compile_pattern, lost_backslash
from siperb_core.routing.rewriting import UNCHANGED, Rewriting, check_replacement
from siperb_core.routing.shadowing import shadowed

__all__ = [
    "ALL",
    "UNCHANGED",
    "Candidate",
    "Did",
    "DidRow",
    "Explanation",
    "InboundExplanation",
    "PatternError",
    "Rewriting",
    "Route",
    "check_replacement",
    "compile_pattern",
    "explain",
    "explain_emergency",
    "explain_inbound",
    "fails_over",
    "lost_backslash",
    "rung_users",
    "shadowed",
]

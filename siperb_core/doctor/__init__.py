"""The doctor: what is wrong between this machine, its connections and their PBXs, each finding with its mend.

It works beside a running gateway or without one: it sends from sockets of its own, as the gateway would, and asks the
gateway only for what the gateway alone can know.
"""

from siperb_core.doctor.examination import Examination, Running
from siperb_core.doctor.finding import Finding

__all__ = ["Examination", "Finding", "Running"]

"""Pure parsers of what Proxmox writes into its fields.

Each takes whatever stood in the answer and never raises: the result is a frozen dataclass (or a plain value), or a
:class:`ParseProblem` that quotes the text and says what is wrong with it.
"""

from .problem import ParseProblem

__all__ = ["ParseProblem"]

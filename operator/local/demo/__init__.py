"""The demonstration: a world, pods on machines of their own, and the commands that show it.

`kip local demo` (`make demo`) runs it: `story` is what it tells, `stage` how, `demonstration` what is around it, and
`aftermath` what can be seen when it went wrong.
"""

from kip.local.demo.demonstration import demonstrate

__all__ = ["demonstrate"]

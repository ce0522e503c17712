"""An ordinary node: a machine of the room that joins the cluster as any machine does, with pods of its own.

It is what the virtual node is compared with, and where pods run that are not Kip's: in a real cluster there are
always some, and they talk to the pods on cells.
"""

from kip.local.ordinary.join import NODE, down, up

__all__ = ["NODE", "down", "up"]

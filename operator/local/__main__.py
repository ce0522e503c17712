"""`python -m kip.local`: the local world's commands where `kip` itself is not wanted."""

from kip.local.cli import local

local(prog_name="kip local")

"""Around the story: the world it needs, and what becomes of that when it ends well, badly, or early."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from kip.local import build, lifecycle
from kip.local.demo import aftermath
from kip.local.demo.stage import CommandFailed, Stage
from kip.local.demo.story import Setting, shortest, tell
from kip.local.progress import ConsoleProgress, span
from kip.local.world import DEFAULT_NAME, World, WorldError

NODE = "kip-provider-0"

_INTERRUPTED = 130  # as a shell reports a program that was ended by SIGINT
_MADE_BY_DEMO = "made-by-demo"


def demonstrate(name: str = DEFAULT_NAME, *, keep: bool = False) -> int:
    """Tells the story in the world of that name and returns an exit code.

    A world that a demonstration made is taken down at the end, unless `keep`; one that was there is left as it was.
    """
    demonstration = Demonstration(name, Console(highlight=False))
    try:
        return demonstration.run(keep=keep)
    except KeyboardInterrupt:
        return demonstration.interrupted()


class Demonstration:
    """One run of it."""

    def __init__(self, name: str, console: Console) -> None:
        self._name = name
        self._console = console
        self._progress = ConsoleProgress()
        self._begun = time.monotonic()
        self._told = Stage(console, os.environ)
        self._ours = False

    def run(self, *, keep: bool) -> int:
        """0 when everything was as it should be, otherwise 1."""
        try:
            world = self._bring_up()
            stage = Stage(self._console, environment(world))
        except WorldError as error:
            self._told.say()
            self._told.say(f"The world did not come up: {error}", "bold red")
            return self._failed()
        try:
            tell(stage, setting(world))
        except CommandFailed as error:
            stage.say()
            stage.say(str(error), "bold red")
            aftermath.tell(stage, world)
            return self._failed()
        self._told.heading(f"Done in {span(time.monotonic() - self._begun)}")
        if not world.rooted:
            self._told.say(
                "Not shown: a pod running, logs, exec, the network; booting machines takes root (sudo make demo)."
            )
        if keep or not self._ours:
            self._how_to_go_on(world)
        else:
            lifecycle.down(self._name, self._progress)
        return 0

    def interrupted(self) -> int:
        """After Ctrl-C; a second one leaves things as they are."""
        self._told.say()
        try:
            if self._ours:
                self._told.say("Interrupted: taking the world down (Ctrl-C again leaves it as it is).")
                lifecycle.down(self._name, self._progress)
            else:
                self._told.say("Interrupted. " + self._what_is_left())
        except (KeyboardInterrupt, WorldError) as error:
            self._told.say(str(error))
            self._told.say("Interrupted. " + self._what_is_left())
        return _INTERRUPTED

    def _bring_up(self) -> World:
        self._told.heading("A Kubernetes cluster and an AWS endpoint on this machine")
        found = World.find(self._name)
        self._ours = found is None or (found.state / _MADE_BY_DEMO).exists()
        if os.geteuid() != 0:
            self._told.say(
                "Not root: no machine can be booted here (that takes network namespaces and mounts), so the pod will "
                "not run.\nShown is everything up to its launch; `sudo make demo` shows the rest."
            )
        if found is None:
            (World.open(self._name).state / _MADE_BY_DEMO).touch()
        return lifecycle.up(self._name, self._progress)

    def _failed(self) -> int:
        self._told.say()
        if self._ours and os.environ.get("CI"):
            self._told.say("Taking the world down, as this is a CI ($CI is set).")
            lifecycle.down(self._name, self._progress)
        else:
            self._told.say(self._what_is_left())
        return 1

    def _what_is_left(self) -> str:
        with suppress(WorldError):  # a damaged one is there too
            if World.find(self._name) is None:
                return "Nothing is left."
        arguments = _world_arguments(self._name)
        return (
            f"World {self._name!r} is left for you to look at:\n"
            f"  {kip_command()} local status{arguments}\n"
            f"  {kip_command()} local logs operator{arguments}\n"
            f"  {kip_command()} local down{arguments}      # removes all of it"
        )

    def _how_to_go_on(self, world: World) -> None:
        kubectl = build.program(build.KUBERNETES, "kubectl")
        manifests = Path(__file__).parent.resolve() / "web.yaml"
        self._told.say(
            "The world is still up. To look around, paste:" if self._ours else "The world stays up:"
        )
        for line in (
            "",
            f"export KUBECONFIG={shlex.quote(str(world.kubeconfig))}",
            f'export PATH="$PATH:{kubectl.parent}"  # for kubectl, if you have none',
            f"kubectl -n demo apply -f {shlex.quote(str(manifests))}",
            "kubectl get cells --watch",
            "",
            f"{kip_command()} local down{_world_arguments(self._name)}  # ends it and leaves nothing",
        ):
            self._told.say(line)


def setting(world: World) -> Setting:
    """Where the story takes place, for this world."""
    return Setting(
        node=NODE,
        kip=kip_command(relative=True),
        world=_world_arguments(world.name),
        boots=world.rooted,
    )


def environment(world: World) -> Mapping[str, str]:
    """That of the story's commands: the world's administrator, its kubectl, and nothing kept in the home directory."""
    kubectl = build.program(build.KUBERNETES, "kubectl")
    return {
        **os.environ,
        "PATH": f"{kubectl.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "KUBECONFIG": str(world.kubeconfig),
        "KUBECACHEDIR": str(world.state / "kubectl"),
    }


def kip_command(*, relative: bool = False) -> str:
    """What a user types to call this installation's `kip`; `relative` to the working directory if it is below that."""
    beside = Path(sys.executable).parent / "kip"
    on_path = shutil.which("kip")
    if on_path is not None and Path(on_path).resolve() == beside.resolve():
        return "kip"
    if not beside.exists():
        return f"{shlex.quote(sys.executable)} -m kip"
    return shlex.quote(str(shortest(beside) if relative else beside))


def _world_arguments(name: str) -> str:
    return "" if name == DEFAULT_NAME else f" --name {name}"

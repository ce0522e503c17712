"""Who may pull what is remembered for a while, and for nobody else."""

from __future__ import annotations

import asyncio

from tests.doubles.registry import LocalRegistry

from kip.model.clock import ManualClock
from kip.oci.access import REMEMBER_REFUSED_S, REMEMBER_S, AccessCheck
from kip.oci.client import Registries
from kip.oci.credentials import ANONYMOUS, Credential, Keyring
from kip.oci.reference import Reference

from .conftest import Client

ANN = Keyring([("quay.io", Credential("ann", "secret"))])
EVE = Keyring([("quay.io", Credential("eve", "guess"))])


def heads(registry: LocalRegistry) -> int:
    """Requests for the manifest, those that were sent back for a login not counted."""
    return sum(asked.startswith("HEAD") for asked in registry.asked)


async def test_a_yes_is_remembered_for_those_credentials_alone(
    registry: LocalRegistry, registries: Registries, reference: Reference
) -> None:
    digest = registry.image(str(reference), b"private")
    registry.accounts(**{"quay.io/team": {"username": "ann", "password": "secret"}})
    clock = ManualClock()
    check = AccessCheck(registries, clock)

    assert (await check.may_pull(reference, ANN)).digest == digest
    asked = heads(registry)
    assert (await check.may_pull(reference, ANN)).granted
    assert heads(registry) == asked
    for other in (EVE, ANONYMOUS):
        refused = await check.may_pull(reference, other)
        assert (refused.granted, refused.reason) == (False, "ImageDenied")

    await clock.advance(REMEMBER_S)
    registry.accounts(**{"quay.io/team": {"username": "ann", "password": "changed"}})
    # Ann's token is still good, as it would be for a pull; her answer of five minutes ago is not.
    asked = heads(registry)
    await check.may_pull(reference, ANN)
    assert heads(registry) > asked


async def test_a_no_is_asked_again_soon(
    registry: LocalRegistry, registries: Registries, reference: Reference
) -> None:
    clock = ManualClock()
    check = AccessCheck(registries, clock)
    assert (await check.may_pull(reference, ANONYMOUS)).reason == "ImageNotFound"
    digest = registry.image(str(reference), b"pushed now")
    assert not (await check.may_pull(reference, ANONYMOUS)).granted
    await clock.advance(REMEMBER_REFUSED_S)
    assert (await check.may_pull(reference, ANONYMOUS)).digest == digest


async def test_a_registry_that_is_away_is_asked_again_at_once(
    client_of: Client, reference: Reference, unused_tcp_port: int
) -> None:
    check = AccessCheck(await client_of(f"http://127.0.0.1:{unused_tcp_port}"), ManualClock())
    answer = await check.may_pull(reference, ANONYMOUS)
    assert answer.reason == "RegistryUnreachable"
    assert "127.0.0.1" in answer.message


async def test_of_many_who_ask_at_once_one_asks(
    registry: LocalRegistry, registries: Registries, reference: Reference
) -> None:
    registry.image(str(reference), b"x")
    check = AccessCheck(registries, ManualClock())
    answers = await asyncio.gather(*(check.may_pull(reference, ANONYMOUS) for _ in range(20)))
    assert all(answer.granted for answer in answers)
    assert heads(registry) == 1


async def test_whoever_gives_up_spoils_it_for_nobody(
    registry: LocalRegistry, registries: Registries, reference: Reference
) -> None:
    registry.image(str(reference), b"x")
    check = AccessCheck(registries, ManualClock())
    impatient = asyncio.create_task(check.may_pull(reference, ANONYMOUS))
    patient = asyncio.create_task(check.may_pull(reference, ANONYMOUS))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient).granted

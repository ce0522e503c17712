"""A cell's life with all parts together: what is written, what is told, and what happens when things go wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from cellworld.scenarios import SCENARIOS

from kip.cells.repository import CELLS_PATH
from kip.cloud.errors import (
    InsufficientCapacity,
    NotAuthorized,
    NotFound,
    SubnetFull,
    Throttled,
    TokenConflict,
    Unreachable,
)
from kip.kube.slots import is_patient
from kip.observe.definitions import START_STAGES
from kip.pods.annotations import Layer


def writes_since(world, number: int) -> list[str]:
    return [f"{r.method} {r.path}" for r in world.api.writes()[number:]]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.__name__)
async def test_each_story_ends_well(world, scenario):
    world.begin()
    await scenario(world)
    await world.let_pass(25)
    assert await world.one_instance_each(), await world.told()
    world.assert_sound()


async def test_a_pods_life_costs_few_writes_and_its_steps_are_told_once(world):
    world.begin()
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    assert [e["reason"] for e in await world.events()] == ["CellLaunched", "CellReady"]
    kubelet_and_test = 2  # the pod's creation and its status
    assert len(world.api.writes()) - kubelet_and_test <= 7, writes_since(world, 0)
    assert sorted(world.process.observed) == sorted(START_STAGES), "each stage is measured once"
    assert world.process.counted == {"launch ok": 1}


async def waiting_for_gpus(world) -> dict:
    """The status of the Cell of a pod that waits for its GPUs."""
    await world.pod("train", gpus=2)
    await world.until("connected", lambda: any(machine.api for machine in world.outside.live()))
    await world.let_pass(1)
    [cell] = await world.cells()
    return cell["status"]


async def test_a_pod_waits_for_its_gpus_and_says_so(world):
    world.begin()
    world.outside.devices = {"nvidia.com/gpu": 1}
    status = await waiting_for_gpus(world)
    conditions = {condition["type"]: condition for condition in status["conditions"]}
    waiting = "waiting for the GPU device plugin: the kubelet offers 1 of 2 nvidia.com/gpu"
    assert conditions["Connected"]["message"] == waiting
    assert (status["phase"], status.get("hostKey")) == ("Starting", None)
    assert [e["message"] for e in await world.events("WaitingForDevices")] == [
        waiting.replace("1 of", "0 of"),
        waiting,
    ]
    before = len(world.api.writes())
    await world.let_pass(5)
    assert writes_since(world, before) == [], "waiting costs nothing"
    [machine] = world.outside.live()
    machine.devices["nvidia.com/gpu"] = 2
    await world.until("running", lambda: world.serving("train"), seconds=3)
    [cell] = await world.cells()
    [connected] = [c for c in cell["status"]["conditions"] if c["type"] == "Connected"]
    assert connected["reason"] == "Connected"
    assert "reason" not in (await world.get("train"))["status"]
    world.assert_sound()


async def test_a_machine_whose_gpus_never_come_is_replaced_with_the_kubelets_own_words_for_it(world):
    world.begin()
    await waiting_for_gpus(world)
    [machine] = world.outside.live()
    machine.device_trouble = "Failed: Failed to pull image: no route to host"
    await world.let_pass(1)
    pod = await world.get("train")
    assert pod["status"]["reason"] == "WaitingForDevices"
    assert pod["status"]["message"].endswith("(Failed: Failed to pull image: no route to host)")
    world.outside.devices = {"nvidia.com/gpu": 2}
    await world.until("running", lambda: world.serving("train"), seconds=60)
    [told] = await world.events("NoDevices")
    assert "attempt 1: waiting for the GPU device plugin" in told["message"]
    assert "no route to host), 20 s after the first contact" in told["message"]
    assert "cells.gpu.devicePluginImage" in told["message"]
    assert [instance.id for instance in world.live()] != [machine.instance_id]
    assert machine.has_pod is None
    world.assert_sound()


async def test_a_process_that_takes_over_goes_on_waiting_for_gpus(world):
    world.begin()
    await waiting_for_gpus(world)
    await world.restart()
    await world.let_pass(3)
    assert await world.phase("train") == "Pending"
    [machine] = world.outside.live()
    machine.devices["nvidia.com/gpu"] = 2
    await world.until("running", lambda: world.serving("train"), seconds=3)
    world.assert_sound()


async def test_a_pod_deleted_while_it_waits_for_gpus_is_gone_at_once(world):
    world.begin()
    await waiting_for_gpus(world)
    await world.delete("train")
    await world.until("gone", world.empty, seconds=5)
    assert await world.get("train") is None


async def test_a_connection_lost_while_a_pod_waits_for_gpus_is_made_again(world):
    world.begin()
    await waiting_for_gpus(world)
    [machine] = world.outside.live()
    machine.reachable = False
    world.process.tunnels.cut_all()
    await world.let_pass(3)
    machine.reachable = True
    machine.devices["nvidia.com/gpu"] = 2
    await world.until("running", lambda: world.serving("train"), seconds=15)
    assert [instance.id for instance in world.live()] == [machine.instance_id]


async def test_the_pod_is_told_which_machine_was_chosen_and_why(world):
    world.cloud.fail("RunInstances", InsufficientCapacity("none", code="InsufficientInstanceCapacity"))
    world.begin()
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    [told] = await world.events("CellLaunched")
    launched, chose, *_, refused = told["message"].split("; ")
    assert launched.startswith("launched on-demand instance i-")
    assert chose.startswith("chose ")
    assert "types fit" in told["message"]
    assert "best 3: " in told["message"]
    assert refused.startswith("refused were ")
    assert refused.endswith(": InsufficientInstanceCapacity")
    assert world.process.counted == {"launch error InsufficientCapacity": 1, "launch ok": 1}
    assert world.live()[0].tags["KipNamespace"] == "shop"


async def test_cells_that_are_fine_cost_nothing(world):
    world.begin()
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    before = len(world.api.writes())
    await world.let_pass(600)
    assert writes_since(world, before) == []


async def test_a_process_that_takes_over_writes_nothing_for_cells_that_are_fine(world):
    world.begin()
    for name in ("web-0", "web-1", "web-2"):
        await world.pod(name)
    await world.until("running", lambda: world.serving("web-0", "web-1", "web-2"))
    await world.let_pass(5)
    before = len(world.api.writes())
    await world.restart()
    await world.let_pass(120)
    assert writes_since(world, before) == []
    assert [link.state for link in world.process.links.all()] == ["up"] * 3
    assert world.process.observed == [], "pods that ran before are no news"
    world.assert_sound()


async def test_a_pod_that_ended_while_nobody_was_there_keeps_its_logs(world):
    world.begin()
    pod = await world.pod("batch")
    await world.until("running", lambda: world.serving("batch"))
    await world.process.bury()
    world.process = None
    path = "/api/v1/namespaces/shop/pods/batch/status"
    await world.api.patch(path, {"status": {"phase": "Succeeded"}})
    world.begin()
    await world.until("gone", world.empty)
    assert world.outside.logs_kept == [pod["metadata"]["uid"]]


async def test_a_pod_deleted_while_nobody_was_there_leaves_nothing(world):
    world.begin()
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    await world.process.bury()
    world.process = None
    await world.delete("web", gracePeriodSeconds=0)
    world.begin()
    await world.until("gone", world.empty)


async def test_logs_that_cannot_be_had_do_not_keep_a_machine(world):
    world.begin()
    await world.pod("batch")
    await world.until("running", lambda: world.serving("batch"))
    world.outside.machines[world.live()[0].id].reachable = False
    await world.process.bury()
    world.process = None
    await world.api.patch("/api/v1/namespaces/shop/pods/batch/status", {"status": {"phase": "Failed"}})
    world.begin()
    await world.until("gone", world.empty, seconds=60)
    [told] = await world.events("LogsNotKept")
    assert "end with its machine" in told["message"]


async def test_a_refusal_of_ec2_is_not_asked_again_because_it_was_reported(world):
    """Its report changes the pod, the intent changes the Cell, and each change looks like a reason to try again."""
    world.cloud.fail(
        "RunInstances", NotAuthorized("You are not authorized", action="RunInstances"), times=1000
    )
    world.begin()
    await world.pod("web")
    await world.let_pass(19)
    assert len(world.cloud.called("RunInstances")) == 1
    pod = await world.get("web")
    assert pod["status"]["reason"] == "NotAuthorized"
    assert "ec2:RunInstances" in pod["status"]["message"]
    assert len(await world.events("NotAuthorized")) == 1
    await world.let_pass(600)
    assert 29 <= len(world.cloud.called("RunInstances")) <= 33


async def test_a_pod_that_is_mended_after_a_refusal_is_asked_for_again_at_once(world):
    """EC2 refuses what the pod wants; everything else about it may change without a new question."""
    refusal = NotFound("The security group 'sg-1' does not exist", code="InvalidGroup.NotFound")
    world.cloud.fail("RunInstances", refusal)
    world.begin()
    await world.pod("web", annotations={"pod.elotl.co/security-groups": "sg-1"})
    await world.until("refused", lambda: _reason(world, "web", "NotFound"))
    await world.let_pass(5)
    assert len(world.cloud.called("RunInstances")) == 1
    assert "cells.extraSecurityGroups" in (await world.get("web"))["status"]["message"]
    await world.annotate("web", {"pod.elotl.co/security-groups": None})
    await world.until("running", lambda: world.running("web"), seconds=5)


async def test_the_reason_is_taken_back_when_the_pod_gets_its_machine(world):
    world.cloud.fail("RunInstances", NotAuthorized("no", action="RunInstances"))
    world.outside.reachable = False
    world.begin()
    await world.pod("web")
    await world.until("launched", lambda: bool(world.live()))
    await world.let_pass(1)
    assert "reason" not in (await world.get("web"))["status"]


async def test_a_hundred_pods_that_fit_no_machine_say_so_once_and_cost_no_cell(world):
    for number in range(100):
        pod = {
            "metadata": {"name": f"huge-{number}"},
            "spec": {
                "nodeName": world.node,
                "containers": [{"name": "main", "resources": {"requests": {"cpu": "10000"}}}],
            },
        }
        await world.api.create("/api/v1/namespaces/shop/pods", pod)
    before = len(world.api.writes())
    world.begin()
    await world.let_pass(300)
    assert await world.cells() == []
    assert len(world.cloud.called("RunInstances")) == 0
    assert len(writes_since(world, before)) == 200, "an event and a status each"
    pod = await world.get("huge-7")
    assert pod["status"]["reason"] == "NoInstanceFits"


async def test_a_quota_in_one_zone_sends_a_burst_of_pods_to_the_next_one(world):
    world.cloud.quota = {"us-east-1a": 5}
    world.begin()
    names = [f"web-{number}" for number in range(30)]
    for name in names:
        await world.pod(name)
    await world.until("running", lambda: world.serving(*names), seconds=20)
    assert len(world.cloud.called("RunInstances")) < 25
    assert sum(1 for i in world.live() if i.zone == "us-east-1a") <= 5


async def test_when_all_is_refused_people_see_what_was_tried(world):
    world.cloud.quota = {"us-east-1a": 0, "us-east-1b": 0}
    world.begin()
    await world.pod("web")
    await world.let_pass(20)
    [told, *_] = await world.events("QuotaExceeded")
    assert "more vCPU capacity than your current vCPU limit" in told["message"]
    first = world.cloud.called("RunInstances")[0].subject
    assert f"{first.instance_type} in us-east-1a, on-demand: VcpuLimitExceeded" in told["message"]
    assert "us-east-1b" in told["message"]
    assert told["message"].endswith("; next try in 30 s")
    assert (await world.get("web"))["status"]["reason"] == "QuotaExceeded"
    calls = len(world.cloud.called("RunInstances"))
    assert calls <= 8, "each offer once"
    world.cloud.quota.clear()
    await world.until("running", lambda: world.serving("web"))


async def test_a_full_subnet_is_left_out_for_every_machine(world):
    roomy = max((await world.cloud.subnets()), key=lambda s: s.free_addresses).id
    world.cloud.fail("RunInstances", SubnetFull("none", code="InsufficientFreeAddressesInSubnet"))
    world.begin()
    await world.pod("web-0")
    await world.until("running", lambda: world.serving("web-0"))
    await world.pod("web-1", annotations={"pod.elotl.co/instance-type": "m5.large"})
    await world.until("running", lambda: world.serving("web-0", "web-1"))
    assert all(i.subnet_id != roomy for i in world.live())
    assert len(world.cloud.called("RunInstances")) == 3


async def test_a_throttled_batch_comes_through_in_parts(world):
    launch = world.cloud.launch
    tokens = 3.0

    async def bucket(request):
        """EC2's of instances: it admits a call only if it has a token for each."""
        nonlocal tokens
        if request.count > tokens:
            world.cloud.fail(
                "RunInstances", Throttled("Request limit exceeded.", code="RequestLimitExceeded")
            )
        else:
            tokens -= request.count
        return await launch(request)

    world.cloud.launch = bucket
    world.begin()
    names = [f"web-{number}" for number in range(40)]
    for name in names:
        await world.pod(name)
    for _ in range(60):
        await world.let_pass(1)
        tokens = min(3.0, tokens + 2)
    assert await world.serving(*names), await world.told()
    assert await world.one_instance_each()


async def test_an_annotation_spoilt_while_a_launch_is_under_way_does_not_hide_its_instance(world):
    world.cloud.fail("RunInstances", Unreachable("timed out"), after=True)
    world.begin()
    pod = await world.pod("web")
    await world.until("asked", lambda: bool(world.cloud.all()))
    path = f"/api/v1/namespaces/shop/pods/{pod['metadata']['name']}"
    wrong = {"pod.elotl.co/launch-type": "sideways"}
    await world.api.patch(path, {"metadata": {"annotations": wrong}})
    await world.until("running", lambda: world.serving("web"))
    assert len(world.cloud.all()) == 1


async def test_an_image_that_was_replaced_is_looked_for_again_at_once(world):
    world.begin()
    await world.pod("web-0")
    await world.until("running", lambda: world.serving("web-0"))
    world.cloud.images = tuple(
        replace(offered, image=replace(offered.image, id=f"{offered.image.id}-new"))
        for offered in world.cloud.images
    )
    await world.pod("web-1")
    await world.until("running", lambda: world.serving("web-1"), seconds=40)


async def test_a_token_used_with_other_parameters_waits_for_its_instance_to_show(world):
    """As when user data has changed with the version of Kip; the instance is there, but not yet in any listing."""
    world.cloud.fail("RunInstances", Unreachable("timed out"), after=True)
    world.cloud.fail("RunInstances", TokenConflict("other parameters", code="IdempotentParameterMismatch"))
    world.begin()
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    assert len(world.cloud.all()) == 1


async def test_a_burst_of_pods_is_launched_by_few_calls(world):
    world.begin()
    names = [f"web-{number}" for number in range(200)]
    for name in names:
        await world.pod(name)
    await world.until("running", lambda: world.serving(*names))
    calls = [call.subject.count for call in world.cloud.called("RunInstances")]
    assert len(calls) <= 4, calls
    assert max(calls) <= 100
    assert await world.one_instance_each()


async def test_ec2_away_for_a_minute_only_delays(world):
    world.cloud.fail("DescribeSubnets", Unreachable("timed out"), times=4)
    world.cloud.fail("RunInstances", Unreachable("timed out"), times=10)
    world.begin()
    await world.pod("web")
    await world.until("told", lambda: _reason(world, "web", "CloudUnreachable"))
    await world.until("running", lambda: world.serving("web"))
    assert len(world.cloud.all()) == 1


async def _reason(world, name: str, reason: str) -> bool:
    return (await world.get(name))["status"].get("reason") == reason


async def test_where_cells_go_is_not_asked_by_each_pod_while_aws_is_away(world):
    world.cloud.fail("DescribeSubnets", Unreachable("timed out"), times=1000)
    world.begin()
    for number in range(50):
        await world.pod(f"web-{number}")
    await world.let_pass(14)
    assert len(world.cloud.called("DescribeSubnets")) <= 3


async def test_the_api_server_away_for_a_minute_disturbs_no_pod(world):
    world.begin()
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    before = [i.id for i in world.live()]
    world.api.away = True
    for _ in range(240):
        await world.clock.advance(0.25)
    world.api.away = False
    await world.pod("late")
    await world.until("running", lambda: world.serving("web", "late"))
    assert set(before) <= {i.id for i in world.live()}
    world.assert_sound()


async def test_a_machine_that_never_answers_is_given_up_with_its_last_words(world):
    world.outside.reachable = False
    world.begin()
    await world.pod("web")
    await world.until("given up", lambda: _told(world, "CellUnreachable"))
    [told] = await world.events("CellUnreachable")
    assert told["message"].startswith("attempt 1: no SSH connection to 10.0.0.")
    assert len(world.live()) <= 1


async def _told(world, reason: str) -> bool:
    return bool(await world.events(reason))


async def test_after_three_machines_there_is_a_rest(world):
    world.outside.reachable = False
    world.settings = replace(world.settings, retry_s=120)
    world.begin()
    await world.pod("web")
    await world.let_pass(110)
    assert len(world.cloud.all()) == 3
    assert world.live() == []
    assert (await world.get("web"))["status"]["reason"] == "CellUnreachable"
    await world.let_pass(100)
    assert len(world.cloud.all()) == 4


async def test_a_machine_that_may_not_be_ended_is_told_of_on_pod_and_cell_and_asked_for_now_and_then(world):
    world.begin()
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    [instance] = world.live()
    world.cloud.protected.add(instance.id)
    await world.api.patch("/api/v1/namespaces/shop/pods/web/status", {"status": {"phase": "Failed"}})
    await world.let_pass(90)
    [told] = await world.events("CloudError")
    assert told["message"].startswith(f"instance {instance.id} is not ended: The instance")
    [cell] = await world.cells()
    conditions = {c["type"]: (c["status"], c["reason"]) for c in cell["status"]["conditions"]}
    assert conditions["Terminated"] == ("Unknown", "CloudError")
    assert conditions["Ready"] == ("False", "CloudError")
    assert 5 <= len(world.cloud.called("TerminateInstances")) <= 8, "every 15 s"
    world.cloud.protected.clear()
    await world.until("gone", world.empty)


async def test_a_useless_machine_that_may_not_be_ended_is_not_forgotten(world):
    world.outside.reachable = False
    world.begin()
    await world.pod("web")
    await world.until("launched", lambda: bool(world.outside.live()))
    [instance] = world.live()
    world.cloud.protected.add(instance.id)
    await world.let_pass(60)
    assert [i.id for i in world.cloud.all()] == [instance.id]
    pod = await world.get("web")
    assert pod["status"]["reason"] == "CloudError"
    assert f"instance {instance.id} is not ended" in pod["status"]["message"]
    assert len(world.cloud.called("TerminateInstances")) <= 5, "every 15 s"
    world.outside.reachable = True
    world.cloud.protected.clear()
    await world.until("running", lambda: world.serving("web"))
    assert len(world.live()) == 1


async def test_a_pod_that_lost_its_machine_is_told_so_though_the_process_died_before_that(world):
    world.begin()
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    [instance] = world.live()
    world.cloud.protected.add(instance.id)
    world.cloud.set_state(instance.id, "stopped", "Server.ScheduledStop: retired")
    await world.until("refused", lambda: _told(world, "CloudError"))
    await world.restart()
    world.cloud.protected.clear()
    await world.until("gone", world.empty)
    status = (await world.get("web"))["status"]
    assert status["reason"] == "InstanceGone"
    assert "Server.ScheduledStop: retired" in status["message"]


async def test_a_process_that_was_away_tries_before_it_gives_a_machine_up(world):
    world.outside.reachable = False
    world.settings = replace(world.settings, connect_timeout_s=60)
    world.begin()
    await world.pod("web")
    await world.until("launched", lambda: bool(world.outside.live()))
    await world.process.bury()
    world.process = None
    await world.let_pass(3600)
    for machine in world.outside.live():
        machine.reachable = True
    world.begin()
    await world.until("running", lambda: world.serving("web"))
    assert len(world.cloud.all()) == 1


async def test_user_data_that_did_not_run_is_told_as_such(world):
    world.outside.boots = False
    world.begin()
    await world.pod("web")
    await world.until("given up", lambda: _told(world, "BootFailed"))
    assert world.process.counted["given up BootFailed"] >= 1
    assert "user data" in (await world.get("web"))["status"]["message"]


async def test_a_connection_lost_for_long_is_told_once_and_the_pod_goes_on(world):
    world.begin()
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    machine = world.outside.machines[world.live()[0].id]
    machine.reachable = False
    world.process.tunnels.cut_all()
    await world.let_pass(300)
    [told] = await world.events("ConnectionLost")
    assert "the pod goes on running" in told["message"]
    assert [c["status"]["phase"] for c in await world.cells()] == ["Running"]
    assert await world.phase("web") == "Running"
    machine.reachable = True
    await world.let_pass(30)
    [cell] = await world.cells()
    conditions = {c["type"]: c["status"] for c in cell["status"]["conditions"]}
    assert (conditions["Connected"], conditions["Ready"]) == ("True", "True")
    assert len(world.cloud.all()) == 1


async def out_of_reach(world, **annotations: str) -> None:
    """A pod with these annotations runs, and its machine cannot be reached any more."""
    world.begin()
    await world.pod(
        "web", annotations={f"pod.elotl.co/{k.replace('_', '-')}": v for k, v in annotations.items()}
    )
    await world.until("running", lambda: world.serving("web"))
    world.outside.machines[world.live()[0].id].reachable = False
    world.process.tunnels.cut_all()


async def test_a_pod_that_allows_its_machine_to_be_out_of_reach_for_so_long_is_then_given_up(world):
    await out_of_reach(world, healthcheck_healthy_timeout="40")
    await world.let_pass(35)
    assert await world.phase("web") == "Running"
    await world.let_pass(10)
    pod = await world.get("web")
    assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "CellUnreachable")
    assert "healthcheck-healthy-timeout allows 40 s" in pod["status"]["message"]
    await world.until("no machine is left", lambda: not world.live(), seconds=30)


async def test_a_pod_that_allows_any_time_goes_on(world):
    await out_of_reach(world, healthcheck_healthy_timeout="0")
    await world.let_pass(600)
    assert await world.phase("web") == "Running"


async def test_an_annotation_without_effect_is_said_once(world):
    world.begin()
    await world.pod("web", annotations={"pod.elotl.co/image-overlay-rootfs": "false"})
    await world.until("running", lambda: world.serving("web"))
    [told] = await world.events("AnnotationWithoutEffect")
    assert told["message"].startswith("annotation pod.elotl.co/image-overlay-rootfs has no effect: ")


async def test_an_annotation_that_nobody_knows_is_warned_of(world):
    world.begin()
    await world.pod("web", annotations={"pod.elotl.co/lauch-type": "spot"})
    await world.until("running", lambda: world.serving("web"))
    [told] = await world.events("UnknownAnnotation")
    assert (told["type"], told["message"]) == (
        "Warning",
        "annotation pod.elotl.co/lauch-type has no effect: did you mean pod.elotl.co/launch-type?",
    )


async def test_of_a_cell_only_that_it_was_launched_is_written_when_there_is_time(world, monkeypatch):
    """Its pod waits for all else; and who is killed before that finds the instance by the intent."""
    written, request = [], world.api.request

    async def watched(method, path, **options):
        if method == "PATCH" and path.startswith(f"{CELLS_PATH}/") and path.endswith("/status"):
            status = json.loads(options["body"])["status"]
            written.append((bool(status["launch"]), bool(status["instanceID"]), is_patient()))
        return await request(method, path, **options)

    monkeypatch.setattr(world.api, "request", watched)
    world.begin()
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    asked, launched, *later = written
    assert (asked, launched) == ((True, False, False), (True, True, True))
    assert later
    assert not any(patient for *_, patient in later)


async def test_a_pod_on_hardware_of_its_own_says_so(world):
    world.begin()
    await world.pod("web", annotations={"pod.elotl.co/launch-type": "dedicated"})
    await world.until("running", lambda: world.serving("web"))
    [cell] = await world.cells()
    assert (cell["status"]["launchType"], cell["status"]["launch"]["launchType"]) == (
        "Dedicated",
        "dedicated",
    )
    assert "pricePerHour" not in cell["status"], "never a price that is made up"
    assert world.live()[0].dedicated


async def test_what_a_pod_inherits_is_named_when_ec2_refuses_it(world):
    world.begin()
    world.process.defaults = (Layer("namespace shop", {"pod.elotl.co/security-groups": "sg-0none"}),)
    await world.pod("web")
    await world.let_pass(5)
    pod = await world.get("web")
    assert pod["status"]["reason"] == "NotFound"
    assert "annotation pod.elotl.co/security-groups" in pod["status"]["message"]
    assert pod["status"]["message"].endswith(
        "(not the pod's own: pod.elotl.co/security-groups=sg-0none of namespace shop); next try in 20 s"
    )


async def test_a_short_loss_is_not_worth_a_write(world):
    world.begin()
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    before = len(world.api.writes())
    world.process.tunnels.cut_all()
    await world.let_pass(60)
    assert writes_since(world, before) == []
    assert [link.state for link in world.process.links.all()] == ["up"]


async def test_a_connection_lost_before_the_pod_began_has_a_deadline(world):
    """Its host key is recorded, its kubelet never asked, and then nobody answers any more."""
    world.outside.kubelets_ask = False
    world.begin()
    await world.pod("web")
    await world.until("connected", lambda: _connected(world))
    world.outside.machines[world.live()[0].id].reachable = False
    world.outside.kubelets_ask = True
    world.process.tunnels.cut_all()
    await world.until("running elsewhere", lambda: world.serving("web"), seconds=120)
    assert len(world.cloud.all()) == 2
    assert len(world.live()) == 1


async def _connected(world) -> bool:
    return any((c.get("status") or {}).get("hostKey") for c in await world.cells())


async def test_a_cell_deleted_before_its_pod_began_is_replaced_and_the_pod_lives(world):
    world.outside.reachable = False
    world.begin()
    await world.pod("web")
    await world.until("launched", lambda: bool(world.outside.live()))
    [cell] = await world.cells()
    world.outside.reachable = True
    await world.api.delete(f"{CELLS_PATH}/{cell['metadata']['name']}")
    await world.until("running", lambda: world.serving("web"))
    assert len(world.live()) == 1


async def test_tags_taken_away_by_somebody_do_not_end_a_pod(world):
    world.begin()
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    [instance] = world.live()
    world.cloud._instances[instance.id] = replace(instance, tags={})
    await world.let_pass(600)
    assert await world.phase("web") == "Running"
    assert [i.id for i in world.live()] == [instance.id]


async def test_somebody_who_keeps_changing_the_cell_only_costs_patience(world):
    world.begin()
    await world.pod("web")
    await world.until("a cell", world.cells)
    [cell] = await world.cells()
    path = f"{CELLS_PATH}/{cell['metadata']['name']}"
    for number in range(8):
        await world.api.patch(path, {"metadata": {"annotations": {"n": str(number)}}})
        await world.clock.advance(0.01)
    await world.until("running", lambda: world.serving("web"))


async def test_a_cell_that_seems_to_change_for_ever_is_not_read_in_a_tight_loop(world):
    world.api.fail("PATCH", "/status", status=409, times=10_000)
    world.begin()
    await world.pod("web")
    await world.let_pass(60)
    lists = [r for r in world.api.requests if r.method == "GET" and r.path == CELLS_PATH]
    assert len(lists) < 40


async def test_a_process_that_may_not_write_does_nothing(world):
    process = world.begin()
    process.may_write = False
    await world.pod("web")
    before = len(world.api.writes())
    await world.let_pass(60)
    assert writes_since(world, before) == []
    assert world.cloud.called("RunInstances") == []


async def test_two_processes_at_once_still_launch_once(world):
    """The Lease forbids it; optimistic concurrency and client tokens bear it for a moment."""
    world.begin()
    other = world.process
    world.process = None
    world.begin()
    await world.pod("web")
    await world.until("launched", lambda: bool(world.live()))
    await world.let_pass(5)
    await other.bury()
    await world.until("running", lambda: world.serving("web"))
    await world.let_pass(25)
    assert len(world.live()) == 1
    assert await world.one_instance_each()


async def test_a_pod_that_was_replaced_under_its_name_is_not_deleted_in_place_of_the_old_one(world):
    """The news of the first one's end is late; its confirmation must not hit the second."""
    world.outside.reachable = False
    world.begin()
    first = await world.pod("db-0")
    await world.until("launched", lambda: bool(world.live()))
    await world.delete("db-0", gracePeriodSeconds=0)
    second = await world.pod("db-0")
    stale = {**first, "metadata": {**first["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    await world.process.tools.report.remove(stale)
    await world.process.tools.report.failed(stale, "CellLost", "")
    pod = await world.get("db-0")
    assert pod["metadata"]["uid"] == second["metadata"]["uid"]
    assert pod["status"]["phase"] == "Pending"


async def test_a_process_that_cannot_read_a_running_pods_cell_does_not_fail_the_pod(world):
    """As after an upgrade and back; in the store of the process before it the Cell was still there."""
    world.begin()
    await world.pod("web")
    await world.until("running", lambda: world.serving("web"))
    [cell] = await world.cells()
    path = f"{CELLS_PATH}/{cell['metadata']['name']}/status"
    await world.process.bury()
    await world.api.patch(path, {"status": {"conditions": [{"type": "Launched"}]}})
    world.begin()
    await world.let_pass(100)
    assert await world.phase("web") == "Running"
    [told] = await world.events("CellUnreadable")
    assert cell["metadata"]["name"] in told["message"]
    assert len(world.live()) == 1
    await world.api.patch(path, {"status": cell["status"]})
    await world.until("connected", lambda: [link.state for link in world.process.links.all()] == ["up"])
    assert await world.serving("web")
    assert len(world.cloud.all()) == 1

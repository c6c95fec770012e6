"""The watcher against a real HTTP server that misbehaves."""

import asyncio
import time
from typing import Any

import pytest

from spotwatchd.core.words import MachineAction
from spotwatchd.testing import FakeIMDS, Instance
from spotwatchd.watch.health import WatchState
from tests.shell.watch.helpers import Watch, boottime, eventually, free_port, quick, watching

SPOT = "spot/instance-action"

# Fault on demand -> the kind under which the watcher counts it.
FAULTS = [
    ("hang", "timeout"),
    ("latency", "timeout"),
    ("slowloris", "timeout"),
    ("drop", "dropped"),
    ("reset", "dropped"),
    ("500", "server_error"),
    ("503", "server_error"),
    ("unauthorized", "unauthorized"),
    ("disabled", "forbidden"),
    ("garbage", "garbage"),
    ("html", "garbage"),
    ("truncated", "garbage"),
    ("huge", "garbage"),
]


def paths_asked(imds: FakeIMDS, method: str) -> list[str]:
    return [request.path for request in imds.requests if request.method == method]


async def a_failure(watch: Watch, kind: str, more: int = 2) -> None:
    before = watch.failures(kind)
    await eventually(lambda: watch.failures(kind) >= before + more)


@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
async def test_a_notice_is_delivered_with_its_deadline(imds: FakeIMDS, action: str) -> None:
    """Action, text and deadline are those of the notice, and repeated polls repeat them."""
    async with watching(quick(imds.url)) as watch:
        await watch.polls(2)
        told = imds.announce(action, seconds=20)
        expected = boottime() + (told - time.time())
        await eventually(lambda: len(watch.events) >= 3)
        (notice,) = watch.notices
        assert (notice.source, notice.action.value) == ("ec2-spot", action)
        assert expected - 2.1 < notice.deadline <= expected + 0.05


@pytest.mark.parametrize(("fault", "kind"), FAULTS)
async def test_after_any_fault_the_next_good_poll_delivers(
    imds: FakeIMDS, fault: str, kind: str
) -> None:
    """While the notice's path is broken nothing is delivered; healed, the notice arrives."""
    async with watching(quick(imds.url)) as watch:
        await watch.polls(2)
        imds.fault(fault, path=SPOT, amount=0.4 if fault == "latency" else None)
        await a_failure(watch, kind)
        imds.announce()
        await a_failure(watch, kind)
        assert watch.events == []
        assert SPOT in watch.watcher.health().last_error
        imds.heal()
        await eventually(lambda: watch.notices)
        assert watch.notices[0].action is MachineAction.TERMINATE


@pytest.mark.parametrize(("fault", "kind"), FAULTS)
async def test_no_fault_makes_a_shown_notice_disappear(
    imds: FakeIMDS, fault: str, kind: str
) -> None:
    """Errors are no withdrawal, and after them the notice has its old deadline."""
    imds.announce()
    async with watching(quick(imds.url)) as watch:
        await eventually(lambda: watch.notices)
        imds.fault(fault, amount=0.4 if fault == "latency" else None)
        await a_failure(watch, kind)
        imds.heal()
        seen = len(watch.events)
        await eventually(lambda: len(watch.events) > seen)
        assert watch.gone == []
        assert len(watch.notices) == 1


@pytest.mark.parametrize("fault", ["hang", "slowloris", "503", "garbage", "drop"])
async def test_a_broken_token_path_is_survived(imds: FakeIMDS, fault: str) -> None:
    """Without a token nothing is asked; with one again, the notice arrives."""
    imds.announce()
    imds.fault(fault, path="api/token")
    async with watching(quick(imds.url)) as watch:
        await watch.polls(3)
        assert watch.events == []
        assert watch.watcher.health().failures
        imds.heal()
        await eventually(lambda: watch.notices)


async def test_a_401_is_answered_with_a_new_token_in_the_same_poll(imds: FakeIMDS) -> None:
    """One renewal and one retry: no poll fails when all tokens are forgotten."""
    async with watching(quick(imds.url, rebalance=False, autoscaling=False)) as watch:
        await eventually(lambda: watch.watcher.health().instance.life_cycle)
        imds.fault("expire-tokens")
        imds.announce()
        await eventually(lambda: watch.notices)
        assert watch.watcher.health().failures == {}
        assert len(paths_asked(imds, "PUT")) == 2


async def test_a_storm_of_401_costs_one_renewal_per_poll(imds: FakeIMDS) -> None:
    """The watcher does not hammer a service that refuses every token."""
    async with watching(quick(imds.url)) as watch:
        await watch.polls(2)
        imds.fault("unauthorized")
        await a_failure(watch, "unauthorized")
        imds.requests.clear()
        before = watch.watcher.health().polls
        await watch.polls(5)
        polls = watch.watcher.health().polls - before + 1
        assert len(paths_asked(imds, "PUT")) <= polls
        assert len([path for path in paths_asked(imds, "GET") if SPOT in path]) <= 2 * polls


async def test_one_token_serves_many_polls(imds: FakeIMDS) -> None:
    """A token is asked for once, with the longest life that EC2 grants."""
    async with watching(quick(imds.url)) as watch:
        await watch.polls(20)
        assert paths_asked(imds, "PUT") == ["/latest/api/token"]


async def test_a_token_is_renewed_before_it_expires(imds: FakeIMDS) -> None:
    """By the boot clock, while the old one serves: no request ever sees a 401."""
    later = 0.0
    async with watching(quick(imds.url), clock=lambda: boottime() + later) as watch:
        await watch.polls(2)
        later = 21600 - 200.0
        await eventually(lambda: len(paths_asked(imds, "PUT")) == 2)
        await watch.polls(5)
        assert len(paths_asked(imds, "PUT")) == 2
        assert watch.watcher.health().failures == {}


async def test_a_failed_early_renewal_leaves_the_old_token_in_use(imds: FakeIMDS) -> None:
    """The token path may be broken for minutes before that matters."""
    later = 0.0
    async with watching(quick(imds.url), clock=lambda: boottime() + later) as watch:
        await watch.polls(2)
        imds.fault("503", path="api/token")
        later = 21600 - 200.0
        await a_failure(watch, "server_error")
        imds.announce()
        await eventually(lambda: watch.notices)


async def test_imds_v1_is_used_only_when_set() -> None:
    """With imds_v1 no token is asked for, and the health says so."""
    async with FakeIMDS(imds_v1=True) as imds:
        imds.announce()
        async with watching(quick(imds.url, imds_v1=True)) as watch:
            await eventually(lambda: watch.notices)
            assert paths_asked(imds, "PUT") == []
            assert watch.watcher.health().imds_v1


async def test_there_is_no_silent_fallback_to_v1() -> None:
    """A service that would answer without a token is not asked without one."""
    async with FakeIMDS(imds_v1=True) as imds:
        imds.announce()
        imds.fault("hang", path="api/token")
        async with watching(quick(imds.url)) as watch:
            await watch.polls(3)
            assert watch.events == []
            assert paths_asked(imds, "GET") == []
            assert "hop limit" in watch.watcher.health().last_error


@pytest.mark.parametrize("path", ["rebalance", "maintenance", "autoscaling", "instance-id"])
async def test_a_hanging_side_path_does_not_delay_the_notice(imds: FakeIMDS, path: str) -> None:
    """The notice is asked for at its own pace while another path holds its request."""
    imds.fault("hang", path=path)
    async with watching(quick(imds.url, timeout=5.0, poll_timeout=5.0)) as watch:
        await eventually(lambda: any(path in request.path for request in imds.requests))
        started = time.monotonic()
        imds.announce()
        await eventually(lambda: watch.notices)
        assert time.monotonic() - started < 2.5


async def test_slow_loris_cannot_stretch_a_poll(imds: FakeIMDS) -> None:
    """A byte now and then is no progress: the poll ends in its time."""
    imds.fault("slowloris", path=SPOT, amount=0.05)
    async with watching(quick(imds.url)) as watch:
        await watch.polls(1)
        started = time.monotonic()
        await watch.polls(3)
        assert time.monotonic() - started < 3 * 0.5 + 1.5


async def test_a_poll_as_a_whole_is_bounded(imds: FakeIMDS) -> None:
    """Token and notice, each within its own limit, do not add up beyond the poll's."""
    imds.fault("latency", amount=0.2)
    async with watching(quick(imds.url, poll_timeout=0.3)) as watch:
        await a_failure(watch, "timeout", more=1)
        assert "no answer within 0.3 s" in watch.watcher.health().last_error


async def test_a_huge_answer_is_not_read_to_its_end(imds: FakeIMDS) -> None:
    """64 KiB are enough for anything that EC2 says."""
    imds.fault("huge", path=SPOT)
    async with watching(quick(imds.url)) as watch:
        await a_failure(watch, "garbage")
        assert "larger than 65536 bytes" in watch.watcher.health().last_error


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
async def test_a_skewed_service_clock_leaves_the_deadline_right(
    imds: FakeIMDS, skew: float
) -> None:
    """Time and Date are an hour off together: 60 s are 60 s."""
    imds.fault("skew", amount=skew)
    imds.announce(seconds=60)
    async with watching(quick(imds.url)) as watch:
        await eventually(lambda: watch.notices)
        assert 57 < watch.notices[0].deadline - boottime() <= 60.6


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
async def test_a_skewed_local_clock_leaves_the_deadline_right(imds: FakeIMDS, skew: float) -> None:
    """The local wall clock takes no part."""
    imds.announce(seconds=60)
    async with watching(quick(imds.url), wall=lambda: time.time() + skew) as watch:
        await eventually(lambda: watch.notices)
        assert 57 < watch.notices[0].deadline - boottime() <= 60.6


async def test_an_unusable_date_falls_back_to_the_local_clock(imds: FakeIMDS) -> None:
    """Better the local clock than no deadline."""
    imds.fault("bad-date")
    imds.announce(seconds=60)
    async with watching(quick(imds.url), wall=lambda: time.time() + 10) as watch:
        await eventually(lambda: watch.notices)
        assert 47 < watch.notices[0].deadline - boottime() <= 50.6


@pytest.mark.parametrize("left", [108.0, 5.0, -600.0])
async def test_late_and_past_notices_keep_their_time(imds: FakeIMDS, left: float) -> None:
    """The deadline follows the time in the notice, into the past if need be."""
    imds.announce(seconds=left)
    async with watching(quick(imds.url)) as watch:
        await eventually(lambda: watch.notices)
        assert left - 3 < watch.notices[0].deadline - boottime() <= left + 0.6


async def test_a_sliding_notice_is_passed_on_with_a_new_key_each_second(imds: FakeIMDS) -> None:
    """The core is the one to ignore the later ones."""
    imds.announce()
    imds.fault("sliding")
    async with watching(quick(imds.url)) as watch:
        await eventually(lambda: len(watch.notices) >= 2)
        first, second = watch.notices[:2]
        assert first.key != second.key
        assert first.deadline < second.deadline


async def test_a_withdrawn_notice_is_gone_after_two_answers_without_it(imds: FakeIMDS) -> None:
    """Gone once, and a later notice with another time is a new one."""
    imds.announce(seconds=60)
    async with watching(quick(imds.url)) as watch:
        await eventually(lambda: watch.notices)
        imds.withdraw()
        await eventually(lambda: watch.gone)
        await watch.polls(4)
        assert watch.gone == ["ec2-spot"]
        imds.announce(seconds=90)
        await eventually(lambda: len(watch.notices) == 2)


async def test_no_notice_is_gone_that_was_never_shown(imds: FakeIMDS) -> None:
    """404 is the normal state and says nothing."""
    async with watching(quick(imds.url)) as watch:
        await watch.polls(10)
        assert watch.events == []


async def test_an_unknown_action_counts_as_terminate_and_is_told_once(imds: FakeIMDS) -> None:
    """A new word of EC2 must not cost the checkpoint."""
    imds.announce("evaporate", seconds=60)
    async with watching(quick(imds.url)) as watch:
        await eventually(lambda: len(watch.events) >= 3)
        assert watch.notices[0].action is MachineAction.TERMINATE
        assert watch.alarms == ["unknown spot action 'evaporate', taken for terminate"]


async def test_a_rebalance_recommendation_is_one_hint(imds: FakeIMDS) -> None:
    """A hint, not a notice, and once however often it is read."""
    imds.rebalance()
    async with watching(quick(imds.url)) as watch:
        await eventually(lambda: watch.hints)
        await watch.polls(8)
        assert len(watch.hints) == 1
        assert watch.notices == []


@pytest.mark.parametrize(
    ("code", "action"),
    [
        ("instance-stop", MachineAction.STOP),
        ("instance-retirement", MachineAction.TERMINATE),
        ("instance-reboot", MachineAction.REBOOT),
        ("system-reboot", MachineAction.REBOOT),
    ],
)
async def test_a_near_scheduled_event_is_a_notice(
    imds: FakeIMDS, code: str, action: MachineAction
) -> None:
    """Within the lead time, with its NotBefore as deadline."""
    imds.schedule(code, seconds=200)
    async with watching(quick(imds.url)) as watch:
        await eventually(lambda: watch.notices)
        (notice,) = watch.notices
        assert (notice.source, notice.action) == ("ec2-event", action)
        assert 196 < notice.deadline - boottime() <= 200.1


async def test_a_far_event_is_upcoming_until_it_is_near(imds: FakeIMDS) -> None:
    """Two days ahead it is shown in the health only."""
    imds.schedule("system-reboot", seconds=2 * 86400)
    async with watching(quick(imds.url)) as watch:
        await eventually(lambda: watch.watcher.health().upcoming)
        (event,) = watch.watcher.health().upcoming
        assert event.code == "system-reboot"
        assert 2 * 86400 - 5 < event.seconds_left <= 2 * 86400
        assert watch.events == []


async def test_system_maintenance_is_a_hint(imds: FakeIMDS) -> None:
    """The machine stays: save early, keep training."""
    imds.schedule("system-maintenance", seconds=60)
    async with watching(quick(imds.url)) as watch:
        await eventually(lambda: watch.hints)
        await watch.polls(20)
        assert len(watch.hints) == 1
        assert watch.notices == []


async def test_a_cancelled_event_is_gone(imds: FakeIMDS) -> None:
    """The list answers, and the event is no longer on it."""
    imds.schedule("system-reboot", seconds=60)
    async with watching(quick(imds.url)) as watch:
        await eventually(lambda: watch.notices)
        imds.withdraw()
        await eventually(lambda: watch.gone)
        assert watch.gone == ["ec2-event"]


async def test_auto_scaling_termination_gets_a_deadline_at_first_sight(imds: FakeIMDS) -> None:
    """The state tells no time, so the setting does, once."""
    imds.autoscaling("InService")
    async with watching(quick(imds.url, autoscaling_seconds=45.0)) as watch:
        await watch.polls(5)
        assert watch.events == []
        imds.autoscaling("Terminated")
        await eventually(lambda: len(watch.events) >= 3)
        (notice,) = watch.notices
        assert (notice.source, notice.action) == ("ec2-asg", MachineAction.TERMINATE)
        assert 40 < notice.deadline - boottime() <= 45


async def test_other_paths_speak_while_the_notice_path_is_broken(imds: FakeIMDS) -> None:
    """One broken path does not blind the watcher to the rest."""
    imds.fault("503", path=SPOT)
    imds.autoscaling("Terminated")
    async with watching(quick(imds.url)) as watch:
        await eventually(lambda: watch.notices)
        assert watch.notices[0].source == "ec2-asg"


async def test_two_auto_scaling_terminations_are_two_notices(imds: FakeIMDS) -> None:
    """One that was called off and comes again has another key."""
    imds.autoscaling("Terminated")
    async with watching(quick(imds.url)) as watch:
        await eventually(lambda: watch.notices)
        imds.autoscaling("InService")
        await eventually(lambda: watch.gone)
        imds.autoscaling("Terminated")
        await eventually(lambda: len(watch.notices) == 2)
        assert watch.notices[0].key != watch.notices[1].key


async def test_sides_can_be_turned_off(imds: FakeIMDS) -> None:
    """What is not wanted is not asked for."""
    imds.rebalance()
    imds.autoscaling()
    imds.schedule()
    off: dict[str, Any] = dict.fromkeys(("rebalance", "scheduled_events", "autoscaling"), False)
    async with watching(quick(imds.url, **off)) as watch:
        await watch.polls(20)
        assert watch.events == []
        paths = paths_asked(imds, "GET")
        assert not [path for path in paths if "/events/" in path or "autoscaling" in path]


async def test_identity_is_learned() -> None:
    """Id, type, zone and life cycle are in the health."""
    instance = Instance(instance_id="i-0123", instance_type="p4d.24xlarge")
    async with FakeIMDS(instance=instance) as imds, watching(quick(imds.url)) as watch:
        await eventually(lambda: watch.watcher.health().instance.life_cycle)
        facts = watch.watcher.health().instance
        assert (facts.instance_id, facts.instance_type) == ("i-0123", "p4d.24xlarge")
        assert (facts.availability_zone, facts.life_cycle) == ("us-east-1a", "spot")


async def test_identity_is_asked_for_until_it_is_known(imds: FakeIMDS) -> None:
    """A service that fails at the start is asked again."""
    imds.fault("503", path="instance-type")
    async with watching(quick(imds.url)) as watch:
        await a_failure(watch, "server_error")
        assert watch.watcher.health().instance.instance_type == ""
        imds.heal()
        await eventually(lambda: watch.watcher.health().instance.instance_type == "g5.xlarge")


async def test_identity_is_learned_anew_after_a_long_silence(imds: FakeIMDS) -> None:
    """The machine may have slept meanwhile, and be of another type."""
    later = 0.0
    async with watching(quick(imds.url), clock=lambda: boottime() + later) as watch:
        await eventually(lambda: watch.watcher.health().instance.life_cycle)
        imds.fault("503")
        imds.override("meta-data/instance-type", b"g6.xlarge")
        later = 31.0
        await eventually(lambda: watch.alarms)
        imds.heal()
        await eventually(lambda: watch.watcher.health().instance.instance_type == "g6.xlarge")


async def test_silence_raises_one_alarm_and_its_end_is_told(imds: FakeIMDS) -> None:
    """Once per episode, with the last error; after it everything is as before."""
    later = 0.0
    async with watching(quick(imds.url), clock=lambda: boottime() + later) as watch:
        await watch.polls(2)
        imds.fault("503", path=SPOT)
        await a_failure(watch, "server_error")
        assert watch.alarms == []
        assert watch.watcher.health().state is WatchState.FAILING
        later = 31.0
        await eventually(lambda: watch.alarms)
        await watch.polls(5)
        assert len(watch.alarms) == 1
        assert "for 31 s" in watch.alarms[0]
        assert "answered 503" in watch.alarms[0]
        health = watch.watcher.health()
        assert health.stale
        assert health.state is WatchState.STALE
        imds.heal()
        await eventually(lambda: len(watch.alarms) == 2)
        assert "answers again" in watch.alarms[1]
        assert watch.watcher.health().state is WatchState.WATCHING


async def test_off_ec2_is_shown_and_alarms_nobody() -> None:
    """Refused from the start is a laptop, not an incident."""
    later = 0.0
    settings = quick(f"http://127.0.0.1:{free_port()}")
    async with watching(settings, clock=lambda: boottime() + later) as watch:
        await watch.polls(3)
        later = 600.0
        await watch.polls(3)
        health = watch.watcher.health()
        assert health.state is WatchState.ABSENT
        assert not health.stale
        assert set(health.failures) == {"unreachable"}
        assert watch.alarms == []


async def test_a_service_that_was_there_and_is_refused_is_an_alarm() -> None:
    """Once on EC2, always on EC2; and when it is back, notices are."""
    later = 0.0
    imds = FakeIMDS()
    await imds.start()
    try:
        async with watching(quick(imds.url), clock=lambda: boottime() + later) as watch:
            await watch.polls(2)
            await imds.stop()
            await a_failure(watch, "unreachable")
            later = 40.0
            await eventually(lambda: watch.alarms)
            await imds.start()
            imds.announce()
            await eventually(lambda: watch.notices)
    finally:
        await imds.stop()


async def test_a_service_that_comes_later_is_found() -> None:
    """The daemon may start before the network does."""
    imds = FakeIMDS(port=free_port())
    async with watching(quick("http://127.0.0.1:" + str(imds._port))) as watch:
        await watch.polls(2)
        imds.announce()
        async with imds:
            await eventually(lambda: watch.notices)


async def test_ipv6_works() -> None:
    """The endpoint may be an IPv6 address."""
    async with FakeIMDS("::1") as imds:
        imds.announce()
        async with watching(quick(imds.url)) as watch:
            await eventually(lambda: watch.notices)
            assert watch.watcher.health().endpoint.startswith("http://[::1]:")


async def test_a_proxy_in_the_environment_is_ignored(
    imds: FakeIMDS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would answer for another machine, or leak the token."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    imds.announce()
    async with watching(quick(imds.url)) as watch:
        await eventually(lambda: watch.notices)


async def test_polls_share_one_connection(imds: FakeIMDS) -> None:
    """Keep-alive: one connection, and a second at most where a side request overlaps a poll."""
    ports = set[int]()
    async with watching(quick(imds.url)) as watch:
        await watch.polls(2)
        for _ in range(10):
            await watch.polls(1)
            ports |= await asyncio.to_thread(established_to, int(imds.url.rpartition(":")[2]))
        assert len(ports) <= 2


def established_to(port: int) -> set[int]:
    """Local ports of connections to ``port`` of this host, as the kernel lists them."""
    with open("/proc/net/tcp", encoding="ascii") as table:  # noqa: PTH123 - a kernel file
        rows = [line.split() for line in table.readlines()[1:]]
    return {
        int(row[1].split(":")[1], 16)
        for row in rows
        if row[3] == "01" and int(row[2].split(":")[1], 16) == port
    }

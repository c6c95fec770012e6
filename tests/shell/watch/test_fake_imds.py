"""The fake answers as EC2 does."""

import asyncio
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from datetime import datetime

import aiohttp
import pytest

from spotwatchd.errors import SpotwatchError
from spotwatchd.testing import KINDS, FakeIMDS, Instance
from tests.shell.watch.helpers import eventually

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"  # noqa: S105 - the name of a header


class Client:
    """Requests and their answers: (status, body, headers)."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def ask(
        self, method: str, url: str, **headers: str
    ) -> tuple[int, str, Mapping[str, str]]:
        """Underscores in header names stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.request(method, url, headers=named) as response:
            return response.status, await response.text(), response.headers

    async def token(self, imds: FakeIMDS, seconds: int = 60) -> str:
        """A fresh one."""
        status, text, _ = await self.ask(
            "PUT", imds.url + "/latest/api/token", **{TTL: str(seconds)}
        )
        assert status == 200
        return text

    async def get(self, imds: FakeIMDS, path: str) -> tuple[int, str]:
        """With a token."""
        status, text, _ = await self.ask(
            "GET", f"{imds.url}/latest/{path}", **{TOKEN: await self.token(imds)}
        )
        return status, text


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A session that is closed afterwards."""
    async with aiohttp.ClientSession() as session:
        yield Client(session)


@pytest.mark.parametrize(
    ("seconds", "status"),
    [("1", 200), ("21600", 200), ("0", 400), ("21601", 400), ("-1", 400), ("x", 400), ("", 400)],
)
async def test_token_life_is_one_second_to_six_hours(
    imds: FakeIMDS, client: Client, seconds: str, status: int
) -> None:
    """Anything else is a bad request."""
    got, _, headers = await client.ask("PUT", imds.url + "/latest/api/token", **{TTL: seconds})
    assert got == status
    assert (TTL in headers) == (status == 200)


async def test_a_token_request_without_its_header_is_bad(imds: FakeIMDS, client: Client) -> None:
    """400, as documented."""
    assert (await client.ask("PUT", imds.url + "/latest/api/token"))[0] == 400


async def test_forwarded_and_versioned_token_requests_are_forbidden(
    imds: FakeIMDS, client: Client
) -> None:
    """403 for what came through a proxy, and for any version but latest."""
    forwarded = {TTL: "60", "X-Forwarded-For": "10.0.0.1"}
    assert (await client.ask("PUT", imds.url + "/latest/api/token", **forwarded))[0] == 403
    versioned = imds.url + "/2021-07-15/api/token"
    assert (await client.ask("PUT", versioned, **{TTL: "60"}))[0] == 403


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE"])
async def test_the_token_path_takes_put_only(imds: FakeIMDS, client: Client, method: str) -> None:
    """405 for every other method."""
    assert (await client.ask(method, imds.url + "/latest/api/token"))[0] == 405


async def test_missing_invalid_foreign_and_expired_tokens_are_401(
    imds: FakeIMDS, client: Client
) -> None:
    """A token is good for the instance that gave it, and for its time."""
    url = imds.url + "/latest/meta-data/instance-id"
    good = await client.token(imds)
    async with FakeIMDS() as other:
        foreign = await client.token(other)
    assert (await client.ask("GET", url))[0] == 401
    assert (await client.ask("GET", url, **{TOKEN: "nonsense"}))[0] == 401
    assert (await client.ask("GET", url, **{TOKEN: foreign}))[0] == 401
    assert (await client.ask("GET", url, **{TOKEN: good}))[0] == 200
    imds.fault("expire-tokens")
    assert (await client.ask("GET", url, **{TOKEN: good}))[0] == 401


async def test_a_token_ends_after_its_seconds(imds: FakeIMDS, client: Client) -> None:
    """One second is the shortest life there is."""
    url = imds.url + "/latest/meta-data/instance-id"
    token = await client.token(imds, seconds=1)
    end = time.monotonic() + 40
    while (await client.ask("GET", url, **{TOKEN: token}))[0] == 200:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    assert (await client.ask("GET", url, **{TOKEN: token}))[0] == 401


async def test_answers_are_plain_text_with_date_and_remaining_life(
    imds: FakeIMDS, client: Client
) -> None:
    """JSON is text/plain too, and compact."""
    imds.announce(seconds=60)
    token = await client.token(imds)
    url = imds.url + "/latest/meta-data/spot/instance-action"
    status, text, headers = await client.ask("GET", url, **{TOKEN: token})
    assert status == 200
    assert re.fullmatch(r'\{"action":"terminate","time":"[0-9T:-]+Z"\}', text)
    assert headers["Content-Type"].startswith("text/plain")
    assert 58 <= int(headers[TTL]) <= 60
    assert headers["Date"].endswith(" GMT")


async def test_the_parents_of_absent_things_are_absent(imds: FakeIMDS, client: Client) -> None:
    """meta-data/spot is 404 until there is a notice, then a directory."""
    assert (await client.get(imds, "meta-data/spot"))[0] == 404
    assert (await client.get(imds, "meta-data/spot/instance-action"))[0] == 404
    assert (await client.get(imds, "meta-data/events/recommendations/rebalance"))[0] == 404
    assert (await client.get(imds, "meta-data/autoscaling/target-lifecycle-state"))[0] == 404
    imds.announce()
    assert await client.get(imds, "meta-data/spot") == (200, "instance-action\ntermination-time\n")
    assert "spot/\n" in (await client.get(imds, "meta-data/"))[1]


async def test_directories_are_listed_line_by_line(imds: FakeIMDS, client: Client) -> None:
    """With a slash after directories, and a newline at the end."""
    assert (await client.get(imds, ""))[1] == "dynamic/\nmeta-data/\n"
    placement = await client.get(imds, "meta-data/placement")
    assert placement == (200, "availability-zone\navailability-zone-id\nregion\n")


async def test_the_deadline_is_constant(imds: FakeIMDS, client: Client) -> None:
    """Unlike a mock that slides, the time stays while the clock goes on."""
    told = imds.announce(seconds=5)
    first = await client.get(imds, "meta-data/spot/instance-action")
    await asyncio.sleep(1.1)
    assert await client.get(imds, "meta-data/spot/instance-action") == first
    shown = datetime.fromisoformat(json.loads(first[1])["time"])
    assert shown.timestamp() == told
    assert abs(told - time.time() - 3.9) < 1.5


@pytest.mark.parametrize(("action", "there"), [("terminate", 200), ("stop", 404)])
async def test_termination_time_is_for_terminate_only(
    imds: FakeIMDS, client: Client, action: str, there: int
) -> None:
    """The legacy path says nothing about stop and hibernate."""
    imds.announce(action)
    assert (await client.get(imds, "meta-data/spot/termination-time"))[0] == there


async def test_the_identity_document_names_the_instance(client: Client) -> None:
    """Region from the zone, and the time of the last start."""
    instance = Instance(instance_id="i-0abc", availability_zone="eu-west-2b", pending_time=0.0)
    async with FakeIMDS(instance=instance) as imds:
        _, text = await client.get(imds, "dynamic/instance-identity/document")
    document = json.loads(text)
    assert document["instanceId"] == "i-0abc"
    assert document["region"] == "eu-west-2"
    assert document["pendingTime"] == "1970-01-01T00:00:00Z"


async def test_tags_are_there_only_when_enabled(imds: FakeIMDS, client: Client) -> None:
    """Off is EC2's default."""
    assert (await client.get(imds, "meta-data/tags"))[0] == 404
    async with FakeIMDS(instance=Instance(tags={"Name": "trainer"})) as tagged:
        assert await client.get(tagged, "meta-data/tags/instance") == (200, "Name\n")
        assert await client.get(tagged, "meta-data/tags/instance/Name") == (200, "trainer")


async def test_scheduled_events_have_the_documented_shape(imds: FakeIMDS, client: Client) -> None:
    """An empty list without any."""
    assert await client.get(imds, "meta-data/events/maintenance/scheduled") == (200, "[]")
    imds.schedule("instance-stop", seconds=3600)
    (event,) = json.loads((await client.get(imds, "meta-data/events/maintenance/scheduled"))[1])
    assert event["Code"] == "instance-stop"
    assert re.fullmatch(r"\d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT", event["NotBefore"])


async def test_head_is_get_without_a_body(imds: FakeIMDS, client: Client) -> None:
    """Status and length are those of the GET."""
    token = await client.token(imds)
    url = imds.url + "/latest/meta-data/instance-type"
    status, text, headers = await client.ask("HEAD", url, **{TOKEN: token})
    assert (status, text, headers["Content-Length"]) == (200, "", str(len("g5.xlarge")))


async def test_versions(imds: FakeIMDS, client: Client) -> None:
    """Old versions answer, unknown ones do not."""
    token = {TOKEN: await client.token(imds)}
    for version, status in (("2021-07-15", 200), ("1999-01-01", 404)):
        url = f"{imds.url}/{version}/meta-data/instance-id"
        assert (await client.ask("GET", url, **token))[0] == status
    assert "latest\n" in (await client.ask("GET", imds.url + "/", **token))[1]


async def test_disabled_metadata_is_forbidden(imds: FakeIMDS, client: Client) -> None:
    """403 to everything, tokens included."""
    imds.fault("disabled")
    assert (await client.ask("PUT", imds.url + "/latest/api/token", **{TTL: "60"}))[0] == 403
    assert (await client.ask("GET", imds.url + "/latest/meta-data/"))[0] == 403


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_every_fault_is_noticed_and_ends(imds: FakeIMDS, client: Client, kind: str) -> None:
    """A client sees the difference, and after heal() it is as if nothing had been."""
    imds.announce(seconds=60)
    token = await client.token(imds)
    url = imds.url + "/latest/meta-data/spot/instance-action"

    async def look() -> object:
        try:
            async with asyncio.timeout(0.4):
                status, text, headers = await client.ask("GET", url, **{TOKEN: token})
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error)
        sent = headers["Date"].startswith(time.strftime("%a, %d %b %Y", time.gmtime(imds.now())))
        return status, text, sent

    good = await look()
    imds.fault(kind, amount=3 * 86400 if kind == "skew" else None)
    if kind == "skew":
        assert abs(imds.now() - time.time() - 3 * 86400) < 5
    else:
        assert await look() != good
    imds.heal()
    token = await client.token(imds)
    assert await look() == good


async def test_a_fault_can_be_limited(imds: FakeIMDS, client: Client) -> None:
    """By path, by number of requests, by time."""
    imds.fault("503", path="instance-id", times=2)
    for expected in (503, 503, 200):
        assert (await client.get(imds, "meta-data/instance-type"))[0] == 200
        assert (await client.get(imds, "meta-data/instance-id"))[0] == expected
    imds.fault("500", path="instance-id", seconds=0.2)
    assert (await client.get(imds, "meta-data/instance-id"))[0] == 500
    end = time.monotonic() + 40
    while (await client.get(imds, "meta-data/instance-id"))[0] == 500:
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


async def test_an_unknown_fault_is_refused(imds: FakeIMDS) -> None:
    """With the names that there are."""
    with pytest.raises(ValueError, match="slowloris"):
        imds.fault("gremlins")


async def test_requests_are_remembered(imds: FakeIMDS, client: Client) -> None:
    """So that a test can say what its program asked for."""
    await client.get(imds, "meta-data/instance-id")
    assert [request.method for request in imds.requests] == ["PUT", "GET"]
    assert imds.requests[1].path == "/latest/meta-data/instance-id"


async def test_a_restarted_fake_keeps_its_port() -> None:
    """A service that comes back is at its old address."""
    imds = FakeIMDS()
    await imds.start()
    first = imds.url
    await imds.stop()
    await imds.start()
    assert imds.url == first
    await imds.stop()


async def test_a_taken_port_is_an_error_for_people(imds: FakeIMDS) -> None:
    """What, where and the remedy."""
    second = FakeIMDS(port=int(imds.url.rpartition(":")[2]))
    with pytest.raises(SpotwatchError, match="cannot listen") as caught:
        await second.start()
    assert caught.value.remedy


async def test_it_stops_at_once_while_a_request_hangs(imds: FakeIMDS, client: Client) -> None:
    """Nobody waits for a fault to end."""
    imds.fault("hang")
    asking = asyncio.create_task(client.ask("GET", imds.url + "/latest/"))
    await eventually(lambda: imds.requests)
    started = time.monotonic()
    await imds.stop()
    with pytest.raises(aiohttp.ClientError):
        await asking
    assert time.monotonic() - started < 3


def fetch(url: str) -> bytes:
    """As a program without a loop would."""
    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(url, timeout=40) as response:  # noqa: S310 - checked above
        body: bytes = response.read()
        return body


def test_without_a_loop_it_serves_from_a_thread() -> None:
    """For users whose tests are not asynchronous."""
    with FakeIMDS(imds_v1=True) as imds:
        url = imds.url + "/latest/meta-data/spot/instance-action"
        with pytest.raises(urllib.error.HTTPError, match="404") as caught:
            fetch(url)
        caught.value.close()
        imds.announce(seconds=20)
        assert json.loads(fetch(url))["action"] == "terminate"
    with pytest.raises(OSError, match="refused"):
        fetch(url)


def test_the_thread_raises_what_kept_it_from_listening() -> None:
    """In the thread of the caller."""
    with (
        FakeIMDS() as imds,
        pytest.raises(SpotwatchError, match="cannot listen"),
        FakeIMDS(port=int(imds.url.rpartition(":")[2])),
    ):
        pass


ORDERS = [
    ("notice", {"seconds": 20, "action": "stop"}, 200),
    ("notice", {}, 200),
    ("notice", {"seconds": "20"}, 400),
    ("notice", {"seconds": True}, 400),
    ("notice", {"seconds": 1e300}, 400),
    ("notice", {"in": 20}, 400),
    ("notice", [], 400),
    ("rebalance", {}, 200),
    ("event", {"code": "system-reboot", "seconds": 60}, 200),
    ("event", {"seconds": 1e18}, 400),
    ("asg", {"state": "Terminated"}, 200),
    ("asg", {"state": None}, 200),
    ("fault", {"kind": "503", "seconds": 1.5}, 200),
    ("fault", {"kind": "gremlins"}, 400),
    ("fault", {"kind": "huge", "amount": 1e12}, 400),
    ("fault", {}, 400),
    ("heal", {}, 200),
    ("clear", {}, 200),
]


@pytest.mark.parametrize(("order", "body", "status"), ORDERS)
async def test_orders(
    imds: FakeIMDS, client: Client, order: str, body: object, status: int
) -> None:
    """Each order answers with the new state or names what is wrong."""
    async with client.session.post(f"{imds.url}/fake/v1/{order}", json=body) as response:
        document = await response.json()
        assert response.status == status
    assert ("error" in document) == (status == 400)
    assert ("faults" in document) == (status == 200)
    imds.clear()
    assert (await client.get(imds, "meta-data/"))[0] == 200


async def test_an_order_that_is_not_json_is_refused(imds: FakeIMDS, client: Client) -> None:
    """400, whatever the bytes."""
    for body in (b"{", b"\xff\xfe", b"[" * 60_000, b"NaN"):
        async with client.session.post(imds.url + "/fake/v1/notice", data=body) as response:
            assert response.status == 400


async def test_orders_reach_a_broken_service(imds: FakeIMDS, client: Client) -> None:
    """A fault can be ended by the same way that it came."""
    imds.fault("drop")
    async with client.session.post(imds.url + "/fake/v1/clear") as response:
        assert (await response.json())["faults"] == []
    assert (await client.get(imds, "meta-data/"))[0] == 200

"""The admin API over real sockets: who may do what, what it takes and tells, and what it refuses and how."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from httpx2 import AsyncClient

from ak_guard import KeyManager
from ak_guard.admin import AdminTokens, admin_app, serve_app
from ak_guard.admin.bodies import MAX_BODY
from ak_guard.admin.door import FAILURES
from ak_guard.backends import MemoryBackend, SQLBackend
from ak_guard.usage import UsageRecord
from tests.support import bearer, client_for, running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from httpx2 import Response

    from ak_guard.admin.tokens import AdminIdentity

OWNER = "the-owner-of-these-tests"


def _place(sort: str, value: float) -> str:
    """A place in a list that nobody was told."""
    text = json.dumps([sort, value, "key_00000000000000000000"])
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def keys() -> KeyManager:
    return KeyManager(MemoryBackend())


@pytest.fixture(scope="module")
def url(keys: KeyManager) -> Iterator[str]:
    around = FastAPI()
    # A mounted app is told nothing of start and stop.
    around.mount("/ops/keys-api", admin_app(keys, tokens=AdminTokens(keys, environment=OWNER)))
    with running(around) as served:
        yield f"{served}/ops/keys-api"


@pytest.fixture
async def api(url: str) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(base_url=url, headers=bearer(OWNER), trust_env=False) as client:
        yield client


async def made(api: AsyncClient, **rules: Any) -> tuple[dict[str, Any], str]:
    """A key that was created, and its ETag."""
    answer = await api.post("/keys", json={"name": "prod-api", **rules})
    assert answer.status_code == 201, answer.text
    return answer.json()["key"], answer.headers["etag"]


def fields(answer: Response) -> list[str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return [error["field"] for error in answer.json()["errors"]]


async def test_a_key_lives_from_its_creation_to_its_end(api: AsyncClient, keys: KeyManager) -> None:
    rules = {"name": "prod-web", "group": "paid", "quota": 7, "limits": ["10/1d"], "allow_ips": ["10.0.0.5/8"]}
    created = await api.post("/keys", json=rules)
    assert created.status_code == 201
    assert created.headers["cache-control"] == "no-store"
    secret, key = created.json()["secret"], created.json()["key"]
    assert (key["allow_ips"], key["environment"], key["state"]) == (["10.0.0.0/8"], "production", "active")
    assert (await keys.explain(secret, ip="10.1.1.1")).key.id == key["id"]

    at = f"/keys/{key['id']}"
    assert (await api.get(at)).json() == {"key": key}
    status = (await api.get(f"{at}/status")).json()
    assert (status["quota"]["remaining"], [window["name"] for window in status["windows"]]) == (7, ["1d"])

    disabled = await api.post(f"{at}/disable", params={"wait": 1})
    assert disabled.status_code == 200
    assert (disabled.json()["key"]["state"], disabled.json()["confirmation"]["complete"]) == ("disabled", True)
    explained = await api.post("/explain", json={"key": secret, "ip": "10.1.1.1", "path": "/v1/models"})
    assert explained.json()["code"] == "api_key_disabled"
    assert (await api.post(f"{at}/enable")).json()["key"]["enabled"] is True

    rotated = await api.post(f"{at}/rotate", json={"grace": "5m"})
    assert rotated.json()["secret"] != secret
    assert rotated.json()["key"]["id"] == key["id"]
    listed = (await api.get("/keys", params={"search": key["id"], "status": "true"})).json()["keys"]
    assert listed[0]["old_secret_until"] is not None
    assert listed[0]["status"]["quota"]["limit"] == 7
    assert (await api.post(f"{at}/reset", json={"quota": True, "limits": True})).json()["quota"]["used"] == 0

    assert (await api.delete(at)).json() == {"deleted": key["id"], "confirmation": None}
    assert (await api.get(at)).status_code == 404
    trail = (await api.get(f"{at}/audit")).json()["entries"]
    assert [entry["action"] for entry in trail][::-1] == [
        "key.create", "key.disable", "key.enable", "key.rotate", "key.reset", "key.delete",
    ]  # fmt: skip
    assert {entry["actor"] for entry in trail} == {"api:AK_GUARD_ADMIN_TOKEN"}
    assert secret not in repr(trail)


async def test_a_leaked_key_is_replaced(api: AsyncClient) -> None:
    key, _ = await made(api, name="prod-leaky", quota=10)
    told = await api.post(f"/keys/{key['id']}/leak", json={"wait": 1})
    assert told.status_code == 200, told.text
    report = told.json()
    assert report["environment_lines"] == [f"LEAKY_API_KEY={report['secret']}"]
    assert report["secret"] not in report["markdown"]
    replacement = report["report"]["replacement"]
    assert replacement["replaces"] == key["id"]
    assert (await api.get(f"/keys/{key['id']}")).json()["key"]["replaced_by"] == replacement["id"]


async def test_what_stands_out_and_an_allow_list_are_told(api: AsyncClient, keys: KeyManager) -> None:
    key, _ = await made(api)
    assert isinstance(keys.backend, MemoryBackend)
    now = time.time()
    calls = [(now - 2 * 86_400 + second, "203.0.113.7") for second in range(20)] + [(now, "198.51.100.9")]
    records = [UsageRecord(at, key["id"], "default", ip, "GET", "/", 200, "admitted", 1, 0.1) for at, ip in calls]
    await keys.backend.add_usage("standing out", records)
    (found,) = (await api.get(f"/keys/{key['id']}/anomalies")).json()["anomalies"]
    assert (found["kind"], found["subject"], found["calls"]) == ("new_network", "198.51.100.0/24", 1)
    assert "a network this key never came from" in found["text"]
    learned = await api.get(f"/keys/{key['id']}/learned-addresses", params={"since": "2026-01-01T00:00:00Z"})
    assert (learned.status_code, fields(learned)) == (422, ["since"])
    learned = await api.get(f"/keys/{key['id']}/learned-addresses")
    assert learned.json() == {"addresses": ["203.0.113.7"]}
    listed = (await api.get("/keys", params={"search": "198.51.100.9"})).json()["keys"]
    assert [(row["id"], row["new_network"]) for row in listed] == [(key["id"], True)]


async def test_two_editors_do_not_overwrite_each_other(api: AsyncClient) -> None:
    key, tag = await made(api, quota=1)
    at = f"/keys/{key['id']}"
    unconditional = await api.patch(at, json={"quota": 2})
    assert (unconditional.status_code, unconditional.json()["code"]) == (428, "precondition_required")

    first = await api.patch(at, json={"quota": 2, "owner": "ann"}, headers={"if-match": tag})
    assert (first.status_code, first.json()["key"]["quota"]) == (200, 2)
    for late in (
        await api.patch(at, json={"quota": 3}, headers={"if-match": tag}),
        await api.post(f"{at}/rotate", json={}, headers={"if-match": tag}),
        await api.delete(at, headers={"if-match": tag}),
    ):
        assert (late.status_code, late.json()["code"]) == (412, "precondition_failed")
    assert (await api.get(at)).headers["etag"] == first.headers["etag"]

    cleared = await api.patch(at, json={"owner": None}, headers={"if-match": f'"x", {first.headers["etag"]}'})
    assert (cleared.json()["key"]["owner"], cleared.json()["key"]["quota"]) == (None, 2)
    assert (await api.patch(at, json={"quota": 9}, headers={"if-match": "*"})).json()["key"]["quota"] == 9


async def test_of_many_patches_of_one_version_one_is_made(api: AsyncClient) -> None:
    key, tag = await made(api)
    patches = (
        api.patch(f"/keys/{key['id']}", json={"quota": number}, headers={"if-match": tag}) for number in range(10)
    )
    assert sorted([answer.status_code for answer in await asyncio.gather(*patches)]) == [200, *[412] * 9]


async def test_groups_are_made_replaced_and_deleted(api: AsyncClient) -> None:
    new = {"name": "paid/gold", "routes": ["POST /v1/chat/*"], "limits": ["60/1m"], "multiplier": "1/3"}
    created = await api.post("/groups", json=new)
    assert created.status_code == 201
    assert created.json()["group"] == {**new, "shared_limits": [], "enabled": True}
    assert (await api.get("/groups")).json()["groups"] == [created.json()["group"]]
    again = await api.post("/groups", json=new)
    assert (again.status_code, fields(again)) == (422, ["name"])

    rules = {"multiplier": "2"}
    assert (await api.put("/groups/paid/gold", json=rules)).status_code == 428
    tag = {"if-match": created.headers["etag"]}
    replaced = await api.put("/groups/paid%2Fgold", json=rules, headers=tag)
    assert (replaced.json()["group"]["multiplier"], replaced.json()["group"]["limits"]) == ("2", [])
    assert (await api.put("/groups/paid/gold", json=rules, headers=tag)).status_code == 412
    assert (await api.delete("/groups/paid/gold", headers=tag)).status_code == 412
    assert (await api.delete("/groups/paid/gold")).json()["deleted"] == "paid/gold"
    assert (await api.get("/groups/paid/gold")).status_code == 404
    assert (await api.get("/groups/%00")).status_code == 404


async def test_lists_are_narrowed_sorted_and_paged_both_ways(api: AsyncClient) -> None:
    for number in range(5):
        await made(api, name=f"staging-{number}", owner="lists", quota=number)
    where: dict[str, Any] = {"owner": "lists", "environment": "staging", "sort": "-quota", "limit": 2}

    async def page(**place: str) -> dict[str, Any]:
        answer = await api.get("/keys", params={**where, **place})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    first = await page()
    assert ([key["name"] for key in first["keys"]], first["total"]) == (["staging-4", "staging-3"], 5)
    assert (first["counts"]["active"], first["counts"]["endless"]) == (5, 5)
    second = await page(after=first["next"])
    assert [key["name"] for key in second["keys"]] == ["staging-2", "staging-1"]
    assert (await page(before=second["previous"]))["keys"] == first["keys"]
    assert (await page(state="disabled"))["total"] == 0
    assert (await page(unused_days="1"))["total"] == 0


async def test_a_request_sent_twice_makes_one_key(api: AsyncClient) -> None:
    once = {"idempotency-key": "deploy-1"}
    first = await api.post("/keys", json={"name": "prod-once", "quota": 1}, headers=once)
    again = await api.post("/keys", json={"name": "prod-once", "quota": 1}, headers=once)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {"secret": None, "key": first.json()["key"]}
    another = await api.post("/keys", json={"name": "prod-once", "quota": 2}, headers=once)
    assert (another.status_code, fields(another)) == (422, ["Idempotency-Key"])
    await api.delete(f"/keys/{first.json()['key']['id']}")
    gone = await api.post("/keys", json={"name": "prod-once", "quota": 1}, headers=once)
    assert (gone.status_code, gone.json()["code"]) == (409, "conflict")
    assert (await api.get("/keys", params={"search": "prod-once"})).json()["total"] == 0


@pytest.mark.parametrize(
    ("method", "path", "sent", "field"),
    [
        ("POST", "/keys", {}, "name"),
        ("POST", "/keys", {"name": "a", "colour": "red"}, "colour"),
        ("POST", "/keys", {"name": "a", "quota": "7"}, "quota"),
        ("POST", "/keys", {"name": "a", "limits": ["1000/0 day"]}, "limits"),
        ("POST", "/keys", {"name": "a", "allow_ips": ["10.0.0.0/33"]}, "allow_ips"),
        ("POST", "/keys", {"name": "a", "expires_in": "soon"}, "expires_in"),
        ("POST", "/keys", {"name": "a", "expires_at": "0001-01-01T00:00:00+14:00"}, "expires_at"),
        ("POST", "/keys", {"name": "a", "expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at"),
        ("POST", "/keys", {"name": "a", "key": "aaaaaaaaaaaaaaaaaaaaaaaa"}, "key"),
        ("POST", "/keys", {"name": "a", "metadata": {"a": "x" * 20_000}}, "metadata"),
        ("POST", "/groups", {"name": "a", "routes": ["models"]}, "routes"),
        ("POST", "/tokens", {"name": "a", "role": "admin"}, "role"),
        ("POST", "/explain", {"key": "key_00000000000000000000", "ip": "example.org"}, "ip"),
        ("GET", "/keys?limit=0", None, "limit"),
        ("GET", "/keys?sort=colour", None, "sort"),
        ("GET", "/keys?unused_days=0", None, "unused_days"),
        ("GET", "/keys?colour=red", None, "colour"),
        ("GET", "/keys?after=nonsense", None, "after"),
        ("GET", f"/keys?sort=quota&after={_place('quota', 10**400)}", None, "after"),
        ("GET", f"/keys?sort=quota&after={_place('quota', float('nan'))}", None, "after"),
        ("GET", "/keys?search=%00", None, "search"),
        ("GET", "/me?verbose=1", None, "verbose"),
        ("GET", "/usage?since=soon", None, "since"),
        ("GET", "/usage?since=0001-01-01T00:00:00%2B14:00", None, "since"),
        ("GET", "/audit?since=9999-12-31T23:59:59-14:00", None, "since"),
        ("GET", "/audit?before=-1", None, "before"),
    ],
)
async def test_what_is_wrong_is_named(
    api: AsyncClient, method: str, path: str, sent: dict[str, Any] | None, field: str
) -> None:
    answer = await api.request(method, path, json=sent)
    assert (answer.status_code, fields(answer)) == (422, [field]), answer.text
    assert answer.json()["detail"].startswith(f"{field}: ")


async def test_half_a_letter_is_told_and_not_stored(api: AsyncClient) -> None:
    for member in (
        b'"metadata": {"a": "\\ud800"}',
        b'"owner": "\\ud800"',
        b'"metadata": {"\\ud800": 1}',
        b'"\\ud800": 1',
    ):
        body = b'{"name": "prod-api", ' + member + b"}"
        answer = await api.post("/keys", content=body, headers={"content-type": "application/json"})
        assert answer.status_code == 422, answer.text


async def test_each_role_may_do_its_own(api: AsyncClient, url: str) -> None:
    key, _ = await made(api)
    asked = [
        ("GET", "/keys", None),
        ("GET", "/workers", None),
        ("POST", "/keys", {"name": "by-role"}),
        ("POST", f"/keys/{key['id']}/disable", None),
        ("DELETE", "/groups/none", None),
        ("GET", "/tokens", None),
        ("POST", "/tokens", {"name": "more", "role": "owner"}),
    ]
    expected = {
        "viewer": [200, 200, 403, 403, 403, 403, 403],
        "editor": [200, 200, 201, 200, 404, 403, 403],
        "owner": [200, 200, 201, 200, 404, 200, 201],
        "service": [403] * 7,
    }
    for role, statuses in expected.items():
        issued = (await api.post("/tokens", json={"name": f"a {role}", "role": role})).json()
        async with AsyncClient(base_url=url, headers=bearer(issued["secret"]), trust_env=False) as client:
            answers = [await client.request(method, path, json=sent) for method, path, sent in asked]
            assert [answer.status_code for answer in answers] == statuses, role
            await api.delete(f"/tokens/{issued['token']['id']}")
            assert (await client.get("/me")).status_code == 401
    newest = (await api.get("/audit", params={"actor": "api:a editor"})).json()["entries"]
    assert [entry["action"] for entry in newest] == ["key.disable", "key.create"]


async def test_a_token_may_have_the_longest_name_there_is(api: AsyncClient, url: str) -> None:
    name = "n" * 200
    issued = (await api.post("/tokens", json={"name": name, "role": "editor"})).json()
    async with AsyncClient(base_url=url, headers=bearer(issued["secret"]), trust_env=False) as client:
        await made(client)
        entries = (await client.get("/audit", params={"action": "key.create"})).json()["entries"]
        assert entries[0]["actor"] == f"api:{name}"[:200]


async def test_an_api_key_and_a_wrong_token_are_refused_alike(api: AsyncClient, url: str, keys: KeyManager) -> None:
    key = await keys.create("prod-api")
    async with AsyncClient(base_url=url, trust_env=False) as client:
        answers = [
            await client.get("/keys"),
            await client.get("/keys", headers=bearer(key.secret)),
            await client.get("/keys", headers=bearer("akadm_" + "0" * 38)),
            await client.get("/nowhere", headers=bearer("nobody")),
        ]
    assert [answer.status_code for answer in answers] == [401] * 4
    assert len({answer.text for answer in answers}) == 1
    assert all(answer.headers["www-authenticate"].startswith("Bearer") for answer in answers)
    assert (await api.get("/nowhere")).json()["code"] == "not_found"
    wrong_method = await api.put("/keys")
    assert (wrong_method.status_code, wrong_method.headers["allow"]) == (405, "GET, POST")


async def test_an_address_that_guesses_is_slowed_down(keys: KeyManager) -> None:
    app = admin_app(keys, tokens=AdminTokens(keys, environment=OWNER))
    async with client_for(app, ip="203.0.113.66") as guesser, client_for(app, ip="203.0.113.67") as other:
        assert (await guesser.get("/me", headers=bearer(OWNER))).status_code == 200
        for _ in range(FAILURES):
            assert (await guesser.get("/me", headers=bearer("wrong"))).status_code == 401
        answers = [await guesser.get("/me", headers=bearer("wrong")) for _ in range(3)]
        # One a second is still looked at, so that nobody is locked out for good.
        assert {answer.status_code for answer in answers} <= {401, 429}
        assert answers[-1].status_code == 429
        assert answers[-1].headers["retry-after"] == "1"
        # Whoever shares the address and showed the right token before goes on, and so does everybody elsewhere.
        for client in (guesser, other):
            assert (await client.get("/me", headers=bearer(OWNER))).json()["role"] == "owner"


async def test_an_address_that_guesses_much_at_once_is_slowed_down_alike(
    keys: KeyManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = AdminTokens(keys, environment=OWNER)
    who = tokens.who

    async def after_a_moment(text: str | bytes) -> AdminIdentity | None:
        await asyncio.sleep(0.001)  # as a database takes it
        return await who(text)

    monkeypatch.setattr(tokens, "who", after_a_moment)
    async with client_for(admin_app(keys, tokens=tokens), ip="203.0.113.68") as guesser:
        # Whoever works with one right token at many places at once is not taken for a guesser.
        right = await asyncio.gather(*(guesser.get("/me", headers=bearer(OWNER)) for _ in range(2 * FAILURES)))
        wrong = await asyncio.gather(*(guesser.get("/me", headers=bearer(f"no-{n}")) for n in range(3 * FAILURES)))
    assert {answer.status_code for answer in right} == {200}
    looked_at = [answer.status_code for answer in wrong].count(401)
    # One a second is looked at beyond the limit, and this takes less than a few.
    assert FAILURES <= looked_at <= FAILURES + 3


async def test_bodies_are_json_and_not_too_long(api: AsyncClient) -> None:
    answers = [
        await api.post("/keys", content=b"name=a", headers={"content-type": "text/plain"}),
        await api.post("/keys", content=b"{", headers={"content-type": "application/json"}),
        await api.post("/keys", content=b" " * (MAX_BODY + 1), headers={"content-type": "application/json"}),
        await api.post("/keys", content=b"[" * 100_000, headers={"content-type": "application/json"}),
    ]
    assert [answer.status_code for answer in answers] == [415, 400, 413, 400]
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}


async def test_the_document_needs_no_token_and_shows_how_to_send_one(url: str) -> None:
    async with AsyncClient(base_url=url, trust_env=False) as client:
        document = (await client.get("/openapi.json")).json()
    assert document["servers"] == [{"url": "/ops/keys-api"}]
    assert document["components"]["securitySchemes"]["admin token"] == {"type": "http", "scheme": "bearer"}
    assert document["components"]["schemas"]["NewKey"]["examples"][0]["name"] == "prod-api"
    assert all(
        {"401", "422"} <= set(operation["responses"]) and operation["summary"]
        for path in document["paths"].values()
        for operation in path.values()
    )


async def test_no_other_site_may_call_it(api: AsyncClient) -> None:
    answer = await api.get("/me", headers={"origin": "https://example.org"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_it_is_served_under_api_with_tokens_out_of_the_database(tmp_path: Any) -> None:
    async def play(served: str) -> None:
        async with KeyManager(f"sqlite:///{tmp_path}/keys.db") as beside:
            owner = await AdminTokens(beside).create("ann", role="owner")
        async with AsyncClient(base_url=served, headers=bearer(owner.secret), trust_env=False) as client:
            key = (await client.post("/api/keys", json={"name": "prod-api"})).json()["key"]
            assert [found["id"] for found in (await client.get("/api/keys")).json()["keys"]] == [key["id"]]
            entries = (await client.get("/api/audit")).json()["entries"]
            assert [(entry["actor"], entry["action"]) for entry in entries] == [
                ("api:ann", "key.create"),
                ("python", "token.create"),
            ]
            summary = (await client.get("/api/usage", params={"bucket": "day"})).json()
            assert (summary["calls"], (await client.get("/api/records")).json()) == (0, {"records": [], "next": None})

    with running(serve_app(KeyManager(SQLBackend(f"sqlite:///{tmp_path}/keys.db")))) as served:
        asyncio.run(play(served))

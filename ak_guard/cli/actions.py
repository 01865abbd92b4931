"""What is done to keys: enable, disable, rotate, delete, reset, explain."""

# No `from __future__ import annotations`: see desk.py.

from typing import Annotated, Any

import typer

from ak_guard import documents, inputs
from ak_guard.backends.workers import Confirmation
from ak_guard.cli import ask, exits, issue, show, workers
from ak_guard.cli.desk import AsJson, Db, Desk, examples
from ak_guard.cli.find import find_key, find_keys
from ak_guard.cli.options import CustomKey, KeyId, KeyIds, Yes, moment
from ak_guard.cli.workers import Timeout, Wait
from ak_guard.errors import BackendError, InputError, Unconfirmed
from ak_guard.explain import Explanation
from ak_guard.manager import CONFIRM_SECONDS, KeyManager
from ak_guard.notation import stamp
from ak_guard.records import ApiKey
from ak_guard.status import Status
from ak_guard.usage.anomalies import whole_network, with_network
from ak_guard.versions import version_of


def enable(context: typer.Context, keys: KeyIds, db: Db = None, as_json: AsJson = False) -> None:
    """Let keys in again."""
    desk = Desk(context, db, as_json)

    async def work(manager: KeyManager) -> list[ApiKey]:
        return [await manager.enable(key.id) for key in await find_keys(manager, keys)]

    changed = desk.run(work)
    document = {"keys": [documents.key(key, desk.now) for key in changed]}
    _answer(desk, document, [f"enabled {key.name} ({key.id})" for key in changed], None)


def disable(
    context: typer.Context,
    keys: KeyIds,
    wait: Wait = False,
    timeout: Timeout = CONFIRM_SECONDS,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Refuse keys. If one is not found, none is changed."""
    desk = Desk(context, db, as_json)
    inputs.wait("--timeout", timeout)

    async def work(manager: KeyManager) -> tuple[list[ApiKey], Confirmation | None]:
        changed = [await manager.disable(key.id) for key in await find_keys(manager, keys)]
        return changed, await _confirmed(manager, timeout) if wait else None

    changed, confirmation = desk.run(work)
    document = {"keys": [documents.key(key, desk.now) for key in changed]}
    _answer(desk, document, [f"disabled {key.name} ({key.id})" for key in changed], confirmation)


async def _confirmed(manager: KeyManager, timeout: float) -> Confirmation:  # noqa: ASYNC109  # late is an answer
    try:
        return await manager.confirm(timeout=timeout)
    except BackendError as error:
        raise Unconfirmed(None) from error


def _answer(desk: Desk, document: dict[str, Any], lines: list[str], confirmation: Confirmation | None) -> None:
    if confirmation is None:
        desk.answer(document, *lines)
        desk.note_delay()
        return
    told = {**document, "confirmation": documents.confirmation(confirmation)}
    desk.answer(told, *lines, workers.told(confirmation))
    workers.end(desk, confirmation)


def rotate(
    context: typer.Context,
    key: KeyId,
    grace: Annotated[
        str, typer.Option(metavar="DURATION", help="How long the old secret works on; 0: not at all.")
    ] = "1h",
    no_grace: Annotated[bool, typer.Option("--no-grace", help="Let the old secret end with this command.")] = False,
    custom_key: CustomKey = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Give a key a new secret and show it, this once. Id, name, rules and usage stay."""
    desk = Desk(context, db, as_json)
    lasting = None if no_grace or grace.strip() in {"0", "0s"} else grace
    text = ask.secret("New text of the key", twice=True) if custom_key else None

    async def work(manager: KeyManager) -> None:
        issued = await manager.rotate((await find_key(manager, key)).id, grace=lasting, key=text)
        issue.hand_over(desk, issued, "rotated")

    desk.run(work)
    desk.note("The old secret has ended." if lasting is None else f"The old secret works on for {lasting}.")
    desk.note_delay()


def delete(
    context: typer.Context,
    keys: KeyIds,
    yes: Yes = False,
    wait: Wait = False,
    timeout: Timeout = CONFIRM_SECONDS,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Remove keys for good, with their secrets and counters. Asks for each name unless --yes is given."""
    desk = Desk(context, db, as_json)
    inputs.wait("--timeout", timeout)

    async def work(manager: KeyManager) -> tuple[list[ApiKey], Confirmation | None]:
        found = await find_keys(manager, keys)
        if not yes:
            for key in found:
                ask.confirm_by_name(key.name, f"Delete {key.name} ({key.id}, {key.hint}) for good?")
        for key in found:
            await manager.delete(key.id)
        return found, await _confirmed(manager, timeout) if wait else None

    deleted, confirmation = desk.run(work)
    document = {"deleted": [key.id for key in deleted]}
    _answer(desk, document, [f"deleted {key.name} ({key.id})" for key in deleted], confirmation)


def reset(
    context: typer.Context,
    keys: KeyIds,
    quota: Annotated[bool, typer.Option("--quota", help="Give back the whole quota.")] = False,
    limits: Annotated[bool, typer.Option("--limits", help="Give back the whole windows.")] = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Give back what was used of the quota, the windows, or both. Windows that a group shares stay."""
    desk = Desk(context, db, as_json)
    if not quota and not limits:
        raise InputError("options", "say what to give back: --quota, --limits or both")

    async def work(manager: KeyManager) -> list[tuple[ApiKey, Status]]:
        found = await find_keys(manager, keys)
        for key in found:
            await manager.reset(key.id, quota=quota, limits=limits)
        return [(key, await manager.status(key.id)) for key in found]

    done = desk.run(work)
    document = [{"key": documents.key(key, desk.now), "status": documents.status(status)} for key, status in done]
    desk.answer({"keys": document}, show.key_list(done, desk.now))


def known(
    context: typer.Context,
    key: KeyId,
    network: Annotated[str, typer.Argument(metavar="NETWORK", help="An address or network: 203.0.113.0/24.")],
    forget: Annotated[bool, typer.Option("--forget", help="It is a stranger again.")] = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Say that a network is the caller's own, so that its first call is no news."""
    desk = Desk(context, db, as_json)
    normal = whole_network(inputs.networks("network", [network])[0])

    async def work(manager: KeyManager) -> ApiKey:
        found = await find_key(manager, key)
        metadata = with_network(found.metadata, normal, known=not forget)
        if metadata == found.metadata:
            return found
        return await manager.update(found.id, metadata=metadata, version=version_of(found))

    changed = desk.run(work)
    said = "is a stranger to it again" if forget else "is kept as its own: calls from there are no news"
    desk.answer({"key": documents.key(changed, desk.now)}, f"{changed.name} ({changed.id}): {normal} {said}")


def learn(
    context: typer.Context,
    key: KeyId,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Look so far back: a duration, or 2027-01-31T12:00:00Z.")
    ] = "30d",
    apply: Annotated[bool, typer.Option("--apply", help="Let in only these from now on.")] = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Propose an allow list out of where the calls of a key came from."""
    desk = Desk(context, db, as_json)
    begin = moment("--since", since, desk.now)

    async def work(manager: KeyManager) -> tuple[ApiKey, list[str]]:
        found = await find_key(manager, key)
        addresses = list(await manager.learned_addresses(found.id, since=begin))
        if apply and not addresses:
            raise InputError("--apply", f"no call of {found.name} was admitted since then; an empty list lets all in")
        if apply:
            found = await manager.update(found.id, allow_ips=addresses, version=version_of(found))
        return found, addresses

    found, addresses = desk.run(work)
    document = {"key": documents.key(found, desk.now), "addresses": addresses, "applied": apply}
    desk.answer(document, "\n".join(addresses) or f"No call was admitted since {stamp(begin or desk.now)}.")
    if apply:
        desk.note(f"{found.name} ({found.id}) lets in only these.")
        desk.note_delay()
    elif addresses:
        desk.note("Nothing was changed; with --apply the key lets in only these.")


def explain(
    context: typer.Context,
    key: Annotated[
        str | None, typer.Argument(metavar="[KEY]", help="Id or name of the key; leave it out with --stdin.")
    ] = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read the text of a key from standard input.")] = False,
    ip: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Where the request comes from.")] = None,
    path: Annotated[str, typer.Option(help="Which path it asks for.")] = "/",
    method: Annotated[str, typer.Option(help="With which method.")] = "GET",
    cost: Annotated[int, typer.Option(metavar="UNITS", help="What it costs.")] = 1,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="When: 2027-01-31T12:00:00Z. Default: now.")] = None,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Say what would become of a request, rule by rule, and when it would pass. Nothing is charged.

    Ends with 0 when the request would be admitted and with 4 when it would be refused.
    """
    desk = Desk(context, db, as_json)
    if (key is None) != stdin:
        raise InputError("options", "name a key by id or name, or read its text with --stdin: one of the two")
    text = ask.secret("Text of the key") if stdin else key or ""

    async def work(manager: KeyManager) -> Explanation:
        subject = text if stdin else (await find_key(manager, text)).id
        return await manager.explain(subject, ip=ip, path=path, method=method, cost=cost, at=at)

    found = desk.run(work)
    desk.answer(documents.explanation(found, desk.now), *show.explanation(found))
    if not found.admitted:
        raise typer.Exit(exits.REFUSED)


def add_to(keys: typer.Typer) -> None:
    """Make these commands of `ak-guard keys`."""
    keys.command(epilog=examples("keys enable prod-api"))(enable)
    keys.command(epilog=examples("keys disable prod-api", "keys disable prod-api staging-web --wait"))(disable)
    keys.command(
        epilog=examples(
            "keys rotate prod-api",
            "keys rotate prod-api --grace 1d",
            "keys rotate prod-api --no-grace --json",
        )
    )(rotate)
    keys.command(epilog=examples("keys delete dev-old", "keys delete dev-old --yes"))(delete)
    keys.command(epilog=examples("keys reset prod-api --limits", "keys reset prod-api --quota --limits"))(reset)
    keys.command(epilog=examples("keys known prod-api 203.0.113.0/24", "keys known prod-api 203.0.113.0/24 --forget"))(
        known
    )
    keys.command(epilog=examples("keys learn prod-api", "keys learn prod-api --since 7d --json"))(learn)
    keys.command(
        epilog=examples(
            "keys explain prod-api --ip 203.0.113.7 --method POST --path /v1/chat/completions --cost 20",
            "keys explain prod-api --at 2027-01-31T12:00:00Z --json",
            "keys explain --stdin < key.txt",
        )
    )(explain)

"""Scenarios for the published Python client: `SCENARIO URL USERNAME PASSWORD`."""

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager, contextmanager

import polympics

RECEIVER = os.environ.get("RECEIVER")
SECRET = os.environ.get("SECRET")


@asynccontextmanager
async def closing(client):
    """Close a client at the end."""
    try:
        yield client
    finally:
        await client.close()


class Raised:
    """The error that a block raised."""

    value: Exception


@contextmanager
def raises(kind):
    """Require that a block raises an error."""
    raised = Raised()
    try:
        yield raised
    except kind as error:
        raised.value = error
    else:
        raise AssertionError(f"no {kind}")


async def app_and_visitor(auth, url):
    app = polympics.AppClient(auth, url)
    visitor = polympics.UnauthenticatedClient(base_url=url)
    async with closing(app), closing(visitor):
        assert await visitor.check_signups() is True
        me = await app.get_self()
        assert (me.name, me.username) == ("The bot of app_and_visitor", auth.username)

        red = await app.create_team("Red")
        blue = await app.create_team("Blue")
        ann = await app.create_account(10, "Ann", 42)
        assert (ann.id, ann.discriminator, ann.team, ann.avatar_url) == (10, "0042", None, None)
        bob = await app.create_account(
            11, "Bob", 1, "http://x/y.png", red, polympics.Permissions(manage_teams=True)
        )
        assert (bob.team.name, bob.team.member_count) == ("Red", 1)
        assert bob.permissions.manage_teams
        assert not bob.permissions.manage_own_team

        ann = await app.update_account(
            ann,
            name="Anna",
            discriminator=7,
            avatar_url="http://x/a.png",
            team=blue,
            grant_permissions=polympics.Permissions(manage_own_team=True),
        )
        assert (ann.name, ann.discriminator, ann.team.id) == ("Anna", "0007", blue.id)
        assert ann.permissions.manage_own_team
        ann = await app.update_account(ann, team=polympics.NO_TEAM)
        assert ann.team is None
        assert not ann.permissions.manage_own_team

        red = await app.update_team(red, "Rouge")
        assert (await visitor.get_team(red.id)).name == "Rouge"
        award = await app.create_award("First", "http://x/1.png", red, [bob, ann])
        award = await app.update_award(award, title="Winner")
        assert (award.title, award.image_url) == ("Winner", "http://x/1.png")
        award = await app.update_award(award, team=blue)
        await app.take_award(award, bob)
        details = await visitor.get_award(award.id)
        assert [holder.id for holder in details.awardees] == [10]
        assert details.team.name == "Blue"
        await app.give_award(award, bob)
        await app.give_award(award, bob)
        assert [given.title for given in (await visitor.get_account(11)).awards] == ["Winner"]
        await app.delete_award(award)
        await app.delete_team(blue)
        await app.delete_account(bob)
        with raises(polympics.DataError) as missing:
            await visitor.get_account(11)
        assert str(missing.value) == (
            "422: 1 data validation error/s:\n"
            "  path -> account: There is no such account. (not_found)"
        )
        with raises(polympics.ClientError) as refused:
            await visitor.update_account(ann, name="X")
        assert refused.value.code == 401


async def errors_can_be_printed(auth, url):
    app = polympics.AppClient(auth, url)
    async with closing(app):
        team = await app.create_team("Red")
        ghost = polympics.Account(12, "", "", None, None, [])
        with raises(polympics.DataError) as invalid:
            await app.create_award("", "nowhere", team, [ghost])
        assert str(invalid.value) == (
            "422: 3 data validation error/s:\n"
            "  body -> title: This must have 1 to 255 characters. (length)\n"
            "  body -> image_url: This must be an absolute http or https URL. (invalid)\n"
            "  body -> accounts -> 0: There is no such account. (not_found)"
        )


async def user_and_tokens(auth, url):
    app = polympics.AppClient(auth, url)
    async with closing(app):
        ann = await app.create_account(10, "Ann", 0)
        session = await app.create_session(ann)
        user = polympics.UserClient(session, url)
        async with closing(user):
            assert (await user.get_self()).name == "Ann"
            with raises(polympics.ClientError) as refused:
                await user.create_team("Mine")
            assert refused.value.code == 403
            renewed = await user.reset_token()
            assert renewed.username == session.username
            assert renewed.password != session.password
            assert (await user.get_self()).id == 10
            await user.delete_account(await user.get_self())
        renewed = await app.reset_token()
        assert renewed.password != auth.password
        assert (await app.get_self()).username == auth.username


async def callbacks(auth, url):
    app = polympics.AppClient(auth, url)
    async with closing(app):
        event = polympics.EventType.ACCOUNT_TEAM_UPDATE
        assert await app.get_callbacks() == {}
        with raises(polympics.ClientError) as missing:
            await app.get_callback(event)
        assert missing.value.code == 404
        callback = await app.create_callback(event, RECEIVER, SECRET)
        assert (callback.id, callback.event, callback.url) == (1, event, RECEIVER)
        assert await app.get_callback(event) == callback
        assert await app.get_callbacks() == {event: RECEIVER}
        red = await app.create_team("Red")
        ann = await app.create_account(10, "Ann", 42, team=red)
        await app.update_account(ann, team=polympics.NO_TEAM)
        await app.delete_callback(event)
        assert await app.get_callbacks() == {}


async def handler(_auth, _url):
    events = [polympics.account_team_update(body) for body in json.loads(os.environ["BODIES"])]
    assert [event.account.id for event in events] == [10, 10]
    assert [event.team and event.team.name for event in events] == ["Red", None]


async def paginator(auth, url):
    app = polympics.AppClient(auth, url)
    async with closing(app):
        red = await app.create_team("Red")
        for key in range(1, 46):
            name = f"user {key:02}" if key % 2 else f"USER {key:02}"
            await app.create_account(key, name, 1, team=red if key > 4 else None)
        pages = app.list_accounts("user")
        found = [account.id async for account in pages]
        assert found == list(range(1, 46))
        await pages.get_page(1)
        assert (pages.meta.pages, pages.meta.results, pages.meta.page) == (3, 45, 1)
        assert [one.id async for one in app.list_accounts(team=red)] == list(range(5, 46))
        assert [team.name async for team in app.list_teams("RE")] == ["Red"]
        assert [team.name async for team in app.list_teams("blue")] == []


async def pauses(auth, url):
    async def write(number):
        app = polympics.AppClient(auth, url)
        async with closing(app):
            for turn in range(3):
                await app.create_team(f"{number} {turn}")
                await asyncio.sleep(2)

    await asyncio.gather(*map(write, range(20)))


if __name__ == "__main__":
    scenario, url, username, password = sys.argv[1:]
    asyncio.run(globals()[scenario](polympics.Credentials(username, password), url))

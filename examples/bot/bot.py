"""A Discord bot to start from: slash commands for Laurels, and a Discord role for each team.

A role belongs to the team whose id is in its name, as in `Team 1: Red`. An event only says where to
look: Laurels and Discord are asked for the current state, so a late or repeated one does no harm.
"""

import asyncio
import logging
import re
import secrets
import sys
from os import environ

import discord
import polympics
from aiohttp import ClientError, web
from discord import Interaction, Member, app_commands
from standardwebhooks import Webhook, WebhookVerificationError

if missing := {"DISCORD_TOKEN", "GUILD_ID", "LAURELS_USERNAME", "LAURELS_PASSWORD"} - {*environ}:
    sys.exit(f"Set these in the environment: {', '.join(sorted(missing))}.")
GUILD = discord.Object(int(environ["GUILD_ID"]))
LOGIN = polympics.Credentials(environ["LAURELS_USERNAME"], environ["LAURELS_PASSWORD"])
LAURELS = polympics.AppClient(LOGIN, environ.get("LAURELS_URL", "http://127.0.0.1:8000"))
FAULTS = (discord.DiscordException, polympics.PolympicsError, ClientError, OSError)
LOG = logging.getLogger("bot")


class Bot(discord.Client):
    """Receives events, and keeps the roles up to date."""

    todo: asyncio.Queue[int] = asyncio.Queue()  # ids of users; 0 stands for everything
    secret = secrets.token_urlsafe(32)  # a new one at each start, so there is none to store
    webhook = Webhook(secret.encode())

    async def setup_hook(self) -> None:
        """Listen for events, register for them, and catch up on those missed."""
        host, port = environ.get("HOST", "127.0.0.1"), int(environ.get("PORT", "8001"))
        await self.loop.create_server(web.Server(self.receive, access_log=None), host, port)
        body = {"url": environ.get("CALLBACK_URL", f"http://{host}:{port}/"), "secret": self.secret}
        for event in ("account_team_update", "account_delete", "team_update", "team_delete"):
            await LAURELS.request("PUT", f"/callback/{event}", json=body)
        await COMMANDS.sync(guild=GUILD)
        self.worker = asyncio.create_task(self.work())

    async def receive(self, request: web.BaseRequest) -> web.Response:
        """Accept a delivery; do the rest later, since whoever caused the event is waiting."""
        try:
            event = self.webhook.verify(await request.read(), dict(request.headers))
        except (WebhookVerificationError, ValueError):  # ValueError: it is malformed
            return web.Response(status=401)
        self.todo.put_nowait(int(event["account"]["id"]) if "account" in event else 0)
        return web.Response(status=204)

    async def work(self, user_id: int = 0) -> None:
        """Do one thing after another, and try again later whatever fails."""
        while True:
            try:
                await (self.bring_member(user_id) if user_id else self.bring_all())
            except Exception as error:
                if self.is_closed():
                    return
                name, bug = type(error).__name__, not isinstance(error, FAULTS)
                LOG.warning("Trying again in a minute: %s: %s", name, error, exc_info=bug)
                self.loop.call_later(60, self.todo.put_nowait, user_id)
            user_id = await self.todo.get()

    async def bring_member(self, user_id: int) -> None:
        """Give a member their team's role, made if it is missing, and take away all others."""
        guild = await self.fetch_guild(GUILD.id)
        try:
            member = await guild.fetch_member(user_id)
            team = (await LAURELS.get_account(user_id)).team
        except discord.NotFound:
            return
        except polympics.DataError:  # there is no such account
            team = None
        roles = [role for role in member.roles[1:] if not team_id(role)]  # the first is @everyone
        if team:
            own = next((role for role in guild.roles if team_id(role) == team.id), None)
            roles.append(own or await guild.create_role(name=f"Team {team.id}: {team.name}"[:100]))
        if set(roles) != set(member.roles[1:]):
            await member.edit(roles=roles)

    async def bring_all(self) -> None:
        """Rename and delete roles as their teams were, and give all members the right ones."""
        guild = await self.fetch_guild(GUILD.id)
        for role in filter(team_id, guild.roles):
            try:
                team = await LAURELS.get_team(team_id(role))
                if role.name != (name := f"Team {team.id}: {team.name}"[:100]):
                    await role.edit(name=name)
            except polympics.DataError:  # there is no such team
                await role.delete()
        pages = LAURELS.list_accounts()
        pages.params["per_page"] = 1000
        teams = {account.id: account.team.id async for account in pages if account.team}
        async for member in guild.fetch_members(limit=None):
            if set(map(team_id, member.roles)) != {0, teams.get(member.id, 0)}:
                await self.bring_member(member.id)

    async def on_member_join(self, member: Member) -> None:
        self.todo.put_nowait(member.id)  # who may have a team already

    async def close(self) -> None:
        await super().close()
        await (await LAURELS.get_client()).close()


def team_id(role: discord.Role) -> int:
    """Return the id of the team that a role belongs to, or 0."""
    match = re.match(r"Team (\d+):", role.name)
    return int(match[1]) if match else 0


class Commands(app_commands.CommandTree[Bot]):
    """The commands: each answers only its caller."""

    async def interaction_check(self, interaction: Interaction[Bot]) -> bool:
        await interaction.response.defer(ephemeral=True)  # for more time than 3 seconds
        return True

    async def on_error(self, interaction: Interaction[Bot], error: Exception) -> None:
        """Tell the caller about a refusal, and log anything wrong on our side."""
        error = getattr(error, "original", error)
        text = str(getattr(error, "detail", error))
        if isinstance(error, polympics.DataError):
            text = " ".join(issue["msg"] for issue in error.issues)
            text += " `/register` creates one." * ("account" in error.issues[0]["loc"])
        elif not isinstance(error, polympics.ClientError | app_commands.AppCommandError):
            LOG.error("A command failed.", exc_info=error)
            text = "Something is wrong on our side. Please try again later."
        await interaction.followup.send(text)


BOT = Bot(intents=discord.Intents(guilds=True, members=True))
COMMANDS = Commands(BOT)
TEAM = app_commands.Group(name="team", description="Teams")
COMMANDS.add_command(TEAM, guild=GUILD)


async def team_of(user: discord.abc.User) -> polympics.Team:
    """Return the team of a member."""
    if team := (await LAURELS.get_account(user.id)).team:
        return team
    raise app_commands.AppCommandError(f"{user.mention} is in no team yet: see `/team join`.")


async def team_named(name: str) -> polympics.Team:
    """Return the only team with a name, regardless of case."""
    teams = [t async for t in LAURELS.list_teams(name) if t.name.casefold() == name.casefold()]
    if len(teams) == 1:
        return teams[0]
    raise app_commands.AppCommandError(f"{len(teams) or 'No'} teams have this name.")


@COMMANDS.command(guild=GUILD)
async def register(interaction: Interaction[Bot]) -> None:
    """Create your account."""
    user, avatar = interaction.user, interaction.user.display_avatar.url
    await LAURELS.create_account(user.id, user.display_name, int(user.discriminator), avatar)
    await interaction.followup.send("You have an account now. `/team join` is next.")


@TEAM.command()
async def join(interaction: Interaction[Bot], name: str) -> None:
    """Join a team, and leave the one you are in."""
    team = await team_named(name)
    await LAURELS.update_account(interaction.user, team=team)
    await interaction.followup.send(discord.utils.escape_markdown(f"You are in {team.name} now."))


@TEAM.command()
async def view(interaction: Interaction[Bot], name: str = "") -> None:
    """Show a team, or your own."""
    team = await (team_named(name) if name else team_of(interaction.user))
    page = await LAURELS.list_accounts(team=team).get_page(0)
    members = ", ".join(account.name for account in page)
    awards = ", ".join(award.title for award in team.awards)
    text = f"{team.name}\nMembers ({team.member_count}): {members}\nAwards: {awards}"
    await interaction.followup.send(discord.utils.escape_markdown(text)[:2000])


@COMMANDS.command(guild=GUILD)
@app_commands.default_permissions(manage_guild=True)
@app_commands.checks.has_permissions(manage_guild=True)
async def award(interaction: Interaction[Bot], member: Member, title: str, image_url: str) -> None:
    """Give a member an award, which counts for their team; one that the team has is given again."""
    team = await team_of(member)
    known = [award for award in team.awards if award.title == title]
    given = known[0] if known else await LAURELS.create_award(title, image_url, team, [member])
    await LAURELS.give_award(given, member)  # giving it twice changes nothing
    await interaction.followup.send(f"{member.mention} has the award now.")


try:
    BOT.run(environ["DISCORD_TOKEN"], root_logger=True)
except FAULTS as error:
    sys.exit(f"The bot cannot run: {type(error).__name__}: {error}")

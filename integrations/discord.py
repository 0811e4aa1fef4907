"""The one place that knows Discord, where it looks up the user that a token belongs to.

Source: `GET /oauth2/@me` of Discord's API v10, and its image formatting reference.
"""

import math
import re
import time
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from threading import BoundedSemaphore
from typing import Any

import marshmallow as ma
from flask import current_app, request
from limits import RateLimitItem, RateLimitItemPerMinute, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from werkzeug.exceptions import BadGateway, ServiceUnavailable, TooManyRequests

from config import VERSION, settings
from fields import Discriminator, Name, Number
from integrations.http import Answer, UnreachableError, fetch
from models import MAX_ID

BAD_TOKEN = "This is not a Discord token with the scope `identify`."  # noqa: S105
TOO_OFTEN = "Too many sign-ins with Discord from this address. Wait a moment."
UNREACHABLE = "Discord could not be reached. Try again later."
SECONDS = 10.0
MAX_ANSWER = 2**18
AT_ONCE = 16
"""How many requests may wait for Discord at once: half of the server's threads."""

TOKEN = re.compile(r"[!-~]+")
LIMITER = MovingWindowRateLimiter(MemoryStorage())
REFUSALS = 5000
"""How many requests Discord may refuse within 10 minutes before all workers leave it alone: at
10,000 it blocks this address, and with it the bot beside this server."""

WAITING = BoundedSemaphore(AT_ONCE)


class BadTokenError(Exception):
    """The token is not valid, lacks `identify`, or was issued to another application."""


@dataclass(frozen=True)
class DiscordUser:
    """The attributes that an account takes from Discord."""

    id: int
    name: str
    discriminator: str
    avatar_url: str


class _Reply(ma.Schema):
    class Meta:
        unknown = ma.EXCLUDE


class _UserReply(_Reply):
    id = Number(1, MAX_ID, digits=True, required=True)
    username = Name(required=True)
    discriminator = Discriminator(load_default="0")
    avatar = ma.fields.String(
        load_default=None, allow_none=True, validate=ma.validate.Regexp(r"\w{1,255}\Z")
    )


class _ApplicationReply(_Reply):
    id = Number(1, MAX_ID, digits=True, required=True)


class _MeReply(_Reply):
    scopes = ma.fields.List(ma.fields.String())
    user = ma.fields.Nested(_UserReply)
    application = ma.fields.Nested(_ApplicationReply)


def identify(token: str) -> DiscordUser:
    """Return the user of a Discord token. It takes up to 10 s, so no transaction may be open.

    Raises `BadTokenError`, or an HTTP error: 429 if this client asks too often; 503 if Discord says
    that we do, or has refused too many requests, or too many are waiting for it; 502 if Discord
    does not answer, or not as it should.
    """
    if not TOKEN.fullmatch(token):
        raise BadTokenError
    _count_request()
    _heed_refusals()
    if not WAITING.acquire(blocking=False):
        raise ServiceUnavailable("Many people are signing in. Try again.", retry_after=2)
    try:
        answer = _ask(token)
    finally:
        WAITING.release()
    if answer.status in {401, 403, 429}:
        LIMITER.hit(_refusals(), "refused")
    me = _read(answer)
    client_id = settings().discord_client_id
    if client_id is not None:
        if "application" not in me:
            raise _garbled()
        if me["application"]["id"] != client_id:
            raise BadTokenError
    if "user" not in me:
        if "scopes" in me:
            raise BadTokenError
        raise _garbled()
    user = me["user"]
    return DiscordUser(user["id"], user["username"], user["discriminator"], _avatar_url(**user))


def _count_request() -> None:
    """Refuse a client that asks too often: Discord blocks addresses with many bad requests."""
    rate = parse(settings().discord_rate_limit)
    if not LIMITER.hit(rate, _client(request.remote_addr or "")):
        raise TooManyRequests(
            TOO_OFTEN,
            retry_after=rate.get_expiry(),
        )


def _client(address: str) -> str:
    """Return the address or, for IPv6, the /64 network that counts as one client."""
    try:
        ip = ip_address(address)
    except ValueError:  # a Unix socket has no address, and a proxy may send anything
        return address
    if not isinstance(ip, IPv6Address):
        return address
    return str(ip.ipv4_mapped or IPv6Network((int(ip), 64), strict=False))


def _refusals() -> RateLimitItem:
    """Return this worker's share of the refusals: it does not know of the others'."""
    return RateLimitItemPerMinute(REFUSALS // settings().workers, 10)


def _heed_refusals() -> None:
    """Leave Discord alone after so many refusals that it may soon block this server."""
    if not LIMITER.test(_refusals(), "refused"):
        seconds = LIMITER.get_window_stats(_refusals(), "refused").reset_time - time.time()
        raise ServiceUnavailable(
            "Discord refused many sign-ins. Try again later.",
            retry_after=max(1, math.ceil(seconds)),
        )


def _ask(token: str) -> Answer:
    try:
        return fetch(
            "GET",
            f"{settings().discord_api_url}/oauth2/@me",
            headers={
                "Authorization": f"Bearer {token}",
                "User-Agent": f"DiscordBot ({request.root_url.rstrip('/')}, {VERSION})",
            },
            seconds=SECONDS,
            read=MAX_ANSWER,
        )
    except UnreachableError as error:
        current_app.logger.warning("Discord could not be reached: %s", error)
        raise BadGateway(UNREACHABLE) from None


def _read(answer: Answer) -> dict[str, Any]:
    if answer.status in {401, 403}:
        raise BadTokenError
    if answer.status == 429:
        raise ServiceUnavailable(
            "Discord asks this server to wait. Try again later.",
            retry_after=_seconds(answer.headers.get("Retry-After", "")),
        )
    if answer.status != 200:
        current_app.logger.warning("Discord answered with status %d", answer.status)
        raise BadGateway("Discord has a problem. Try again later.")
    try:
        me: dict[str, Any] = _MeReply().loads(answer.body)
    except (ma.ValidationError, ValueError, RecursionError):
        raise _garbled() from None
    return me


def _garbled() -> BadGateway:
    return BadGateway("Discord's answer could not be understood. Try again later.")


def _seconds(retry_after: str) -> int:
    return math.ceil(float(retry_after)) if re.fullmatch(r"\d{1,6}(\.\d+)?", retry_after) else 60


def _avatar_url(*, id: int, discriminator: str, avatar: str | None, **_: Any) -> str:  # noqa: A002
    cdn = settings().discord_cdn_url
    if avatar:
        return f"{cdn}/avatars/{id}/{avatar}.{'gif' if avatar.startswith('a_') else 'png'}"
    number = (id >> 22) % 6 if discriminator == "0" else int(discriminator) % 5
    return f"{cdn}/embed/avatars/{number}.png"

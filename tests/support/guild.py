"""A stand-in for Discord: the parts of its HTTP API and of its gateway that a bot uses."""

import json
from http.server import BaseHTTPRequestHandler
from itertools import count
from queue import Queue
from threading import Condition, Thread
from typing import Any, Self
from urllib.parse import urlsplit

from websockets.sync.server import Server, ServerConnection, serve

from tests.support.receiver import HttpServer

GUILD, BOT = "1000", "2000"
MANAGE_GUILD = 1 << 5


def _user(user_id: str) -> dict[str, Any]:
    return {"id": user_id, "username": f"user{user_id}", "discriminator": "0", "avatar": None}


class Guild(HttpServer):
    """One guild with its members and roles, and the bot that is connected.

    `changes` lists in words each change that the bot made; `refuses` is the number of requests for
    changes that are answered with 403 first.
    """

    def __init__(self, *member_ids: int) -> None:
        super().__init__(self._answer)
        self.ids = count(5000)
        self.roles = {GUILD: "@everyone", "1001": "Moderator"}
        self.members: dict[str, set[str]] = {str(key): set() for key in member_ids}
        self.members[BOT] = set()
        self.changes: list[str] = []
        self.refuses = 0
        self.changed = Condition()
        self.answers: Queue[str] = Queue()
        self.connections: Queue[ServerConnection] = Queue()

    def __enter__(self) -> Self:
        self.gateway: Server = serve(self._talk, "127.0.0.1", 0)
        Thread(target=self.gateway.serve_forever, daemon=True).start()
        return super().__enter__()

    @property
    def gateway_url(self) -> str:
        return f"ws://127.0.0.1:{self.gateway.socket.getsockname()[1]}/"

    def expect(self, *changes: str) -> None:
        """Wait for changes; require that only these were made since the last call."""
        with self.changed:
            self.changed.wait_for(lambda: len(self.changes) >= len(changes), timeout=60)
            assert self.changes == list(changes), self.changes
            self.changes.clear()

    def roles_of(self, user_id: int) -> set[str]:
        return {self.roles[role_id] for role_id in self.members[str(user_id)]}

    def command(self, user_id: int, command: str, permissions: int = 0, /, **options: Any) -> str:
        """Have a member give a command (`/team join` is "team join"); return the answer."""
        *group, last = command.split()
        mentioned = [str(value) for value in options.values() if isinstance(value, int)]
        given: list[dict[str, Any]] = [
            {"name": key, "type": 6 if isinstance(value, int) else 3, "value": str(value)}
            for key, value in options.items()
        ]
        data = {"id": "1", "name": last, "type": 1, "guild_id": GUILD, "options": given}
        if group:
            data |= {"name": group[0], "options": [{"name": last, "type": 1, "options": given}]}
        data["resolved"] = {
            "users": {key: _user(key) for key in mentioned},
            "members": {key: self._member(key) | {"permissions": "0"} for key in mentioned},
        }
        interaction = {
            "id": str(next(self.ids)),
            "application_id": BOT,
            "type": 2,
            "token": "interaction",
            "version": 1,
            "guild_id": GUILD,
            "attachment_size_limit": 0,
            "member": self._member(str(user_id)) | {"permissions": str(permissions)},
            "data": data,
        }
        self._tell("INTERACTION_CREATE", interaction)
        return self.answers.get(timeout=60)

    def join(self, user_id: int) -> None:
        """Have somebody join the guild."""
        self.members[str(user_id)] = set()
        self._tell("GUILD_MEMBER_ADD", self._member(str(user_id)) | {"guild_id": GUILD})

    def _tell(self, event: str, data: Any) -> None:
        """Tell the bot about an event, once it is connected."""
        connection = self.connections.get(timeout=60)
        self.connections.put(connection)
        self._send(connection, event, data)

    def _send(self, connection: ServerConnection, event: str, data: Any) -> None:
        connection.send(json.dumps({"op": 0, "t": event, "s": next(self.ids), "d": data}))

    def _talk(self, connection: ServerConnection) -> None:
        connection.send(json.dumps({"op": 10, "d": {"heartbeat_interval": 40000}}))
        for message in connection:
            sent = json.loads(message)
            if sent["op"] == 1:
                connection.send('{"op": 11}')
            elif sent["op"] == 2:
                ready = {
                    "user": _user(BOT),
                    "guilds": [{"id": GUILD, "unavailable": True}],
                    "session_id": "session",
                    "resume_gateway_url": self.gateway_url,
                    "application": {"id": BOT, "flags": 0},
                }
                self._send(connection, "READY", ready)
                self._send(connection, "GUILD_CREATE", self._guild() | {"unavailable": False})
                self.connections.put(connection)
        self.connections.get(timeout=60)

    def _guild(self) -> dict[str, Any]:
        members = [self._member(key) for key in self.members]
        roles = [self._role(key) for key in self.roles]
        common = {"id": GUILD, "name": "Guild", "owner_id": "1"}
        return common | {"roles": roles, "members": members, "member_count": len(members)}

    def _role(self, role_id: str) -> dict[str, Any]:
        common = {"permissions": "0", "color": 0, "hoist": False, "managed": False, "flags": 0}
        position = 0 if role_id == GUILD else 1
        name = self.roles[role_id]
        return {"id": role_id, "name": name, "position": position, "mentionable": False} | common

    def _member(self, user_id: str) -> dict[str, Any]:
        common = {"joined_at": "2026-01-01T00:00:00+00:00", "deaf": False, "mute": False}
        return {"user": _user(user_id), "roles": sorted(self.members[user_id]), "flags": 0} | common

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"] or 0))
        path = urlsplit(request.path).path.split("/")[1:]
        with self.changed:
            before = len(self.changes)
            status, reply = self._reply(request.command, path, json.loads(body or "null"))
            if len(self.changes) > before:
                self.changed.notify_all()
        answer = b"" if status == 204 else json.dumps(reply).encode()
        request.send_response(status)
        if answer:
            request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)

    def _reply(self, method: str, path: list[str], body: Any) -> tuple[int, Any]:  # noqa: PLR0911 - a table
        match method, path:
            case "GET", ["users", "@me"]:
                return 200, _user(BOT)
            case "GET", ["oauth2", "applications", "@me"]:
                texts = {"name": "", "description": "", "verify_key": "", "icon": None}
                flags = {"bot_public": False, "bot_require_code_grant": False}
                return 200, {"id": BOT, "owner": _user("1")} | texts | flags
            case "PUT", ["applications", _, "guilds", _, "commands"]:
                common = {"id": "1", "application_id": BOT, "version": "1"}
                return 200, [common | command for command in body]
            case "POST", ["interactions", _, _, "callback"]:
                assert body == {"type": 5, "data": {"flags": 64}}, "not deferred, or not private"
                return 200, {"interaction": {"id": path[1], "type": 2}}
            case "POST", ["webhooks", _, _]:
                self.answers.put(body["content"])
                message = {"id": "1", "type": 0, "channel_id": "1", "author": _user(BOT)}
                lists: Any = {"embeds": [], "attachments": [], "mentions": [], "mention_roles": []}
                flags = {"pinned": False, "tts": False, "mention_everyone": False}
                times = {"timestamp": "2026-01-01T00:00:00+00:00", "edited_timestamp": None}
                return 200, message | {"content": body["content"]} | lists | flags | times
            case "GET", ["guilds", _]:
                return 200, self._guild()
            case "GET", ["guilds", _, "members"]:
                return 200, [self._member(key) for key in self.members]
            case "GET", ["guilds", _, "members", user_id]:
                if user_id not in self.members:
                    return 404, {"code": 10007, "message": "Unknown Member"}
                return 200, self._member(user_id)
        return self._change(method, path[2:], body)

    def _change(self, method: str, path: list[str], body: Any) -> tuple[int, Any]:
        if self.refuses:
            self.refuses -= 1
            return 403, {"code": 50013, "message": "Missing Permissions"}
        match method, path:
            case "PATCH", ["members", user_id]:
                before, after = self.members[user_id], set(map(str, body["roles"]))
                self.members[user_id] = after
                for sign, keys in ("-", before - after), ("+", after - before):
                    self.changes += [f"{user_id} {sign}{self.roles[key]}" for key in keys]
                return 200, self._member(user_id)
            case "POST", ["roles"]:
                role_id = str(next(self.ids))
                self.roles[role_id] = body["name"]
                assert body["permissions"] == "0"
                self.changes.append(f"made {body['name']}")
                return 200, self._role(role_id)
            case "PATCH", ["roles", role_id]:
                self.changes.append(f"renamed {self.roles[role_id]} to {body['name']}")
                self.roles[role_id] = body["name"]
                return 200, self._role(role_id)
            case "DELETE", ["roles", role_id]:
                self.changes.append(f"deleted {self.roles.pop(role_id)}")
                for held in self.members.values():
                    held.discard(role_id)
                return 204, None
        return 404, {"code": 0, "message": f"The stand-in does not know {method} {path}."}

    def __exit__(self, *_: object) -> None:
        self.gateway.shutdown()
        super().__exit__()

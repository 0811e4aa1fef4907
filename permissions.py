"""The permissions, and the rules of who may do what, as pure functions.

Nothing here knows about Flask or the database. `RULES` is the whole policy, except for granting
and revoking, which `may_grant` and `may_revoke` decide one permission at a time.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, IntFlag, auto


class Permission(IntFlag):
    """The permissions of an app or an account, as the bit flags of the API."""

    MANAGE_PERMISSIONS = auto()
    """Change the permissions of accounts."""
    MANAGE_ACCOUNT_TEAMS = auto()
    """Move accounts between teams."""
    MANAGE_ACCOUNT_DETAILS = auto()
    """Create, edit and delete accounts."""
    MANAGE_TEAMS = auto()
    """Create, edit and delete teams."""
    AUTHENTICATE_USERS = auto()
    """Create sessions for accounts; apps only."""
    MANAGE_OWN_TEAM = auto()
    """Manage the team one belongs to; accounts only."""
    MANAGE_AWARDS = auto()
    """Create, edit, delete, give and take awards."""

    @property
    def label(self) -> str:
        """The name that people use for one permission: `manage_teams`."""
        return (self.name or "").lower()


def labels_of(permissions: Iterable[Permission]) -> str:
    """Return the names of permissions, as a list to read."""
    return ", ".join(permission.label for permission in permissions)


ALL_PERMISSIONS = Permission(sum(Permission))
APP_PERMISSIONS = ALL_PERMISSIONS & ~Permission.MANAGE_OWN_TEAM
ACCOUNT_PERMISSIONS = ALL_PERMISSIONS & ~Permission.AUTHENTICATE_USERS


@dataclass(frozen=True, kw_only=True)
class Principal:
    """The caller of a request, as they were before it: an app, or an account with a session."""

    permissions: Permission
    app_id: int | None = None
    app_name: str = ""
    session_id: int | None = None
    account_id: int | None = None
    team_id: int | None = None

    @property
    def label(self) -> str:
        """The caller in the log of events: an id, no name."""
        if self.account_id is None:
            return f"app {self.app_id}"
        return f"account {self.account_id}"

    def owns(self, team_id: int | None) -> bool:
        """Return whether the caller is a member of this team who may manage it."""
        return (
            Permission.MANAGE_OWN_TEAM in self.permissions
            and self.account_id is not None
            and team_id is not None
            and self.team_id == team_id
        )


@dataclass(frozen=True, kw_only=True)
class Target:
    """The subject of a request, as it was before the request, and the team it asks for."""

    account_id: int | None = None
    team_id: int | None = None
    new_team_id: int | None = None


class Action(Enum):
    """The actions that a caller may be allowed."""

    CREATE_ACCOUNT = auto()
    EDIT_ACCOUNT = auto()
    DELETE_ACCOUNT = auto()
    MOVE_ACCOUNT = auto()
    CREATE_TEAM = auto()
    EDIT_TEAM = auto()
    DELETE_TEAM = auto()
    MANAGE_AWARDS = auto()
    CREATE_SESSION = auto()
    MANAGE_CALLBACKS = auto()
    READ_LOG = auto()
    USE_CREDENTIALS = auto()


@dataclass(frozen=True)
class Allowance:
    """One way to be allowed something: a test, and the same in words.

    `of_target` says whether the test looks at the request's target, or only at the caller.
    """

    words: str
    holds: Callable[[Principal, Target], bool]
    of_target: bool = True


def _has(permission: Permission) -> Allowance:
    return Allowance(
        f"the permission {permission.label}",
        lambda caller, _: permission in caller.permissions,
        of_target=False,
    )


_IS_SELF = Allowance(
    "a session of this account",
    lambda caller, target: caller.account_id is not None and caller.account_id == target.account_id,
)
_IS_APP = Allowance("an app", lambda caller, _: caller.app_id is not None, of_target=False)
_ANYBODY = Allowance("credentials", lambda *_: True, of_target=False)
_OWNS_TEAM = Allowance(
    "the permission manage_own_team in this team",
    lambda caller, target: caller.owns(target.team_id),
)
_KICKS = Allowance(
    "the permission manage_own_team in this account's team, to remove it from there",
    lambda caller, target: caller.owns(target.team_id) and target.new_team_id is None,
)

RULES: Mapping[Action, tuple[Allowance, ...]] = {
    Action.CREATE_ACCOUNT: (_has(Permission.MANAGE_ACCOUNT_DETAILS),),
    Action.EDIT_ACCOUNT: (_has(Permission.MANAGE_ACCOUNT_DETAILS),),
    Action.DELETE_ACCOUNT: (_has(Permission.MANAGE_ACCOUNT_DETAILS), _IS_SELF),
    Action.MOVE_ACCOUNT: (_has(Permission.MANAGE_ACCOUNT_TEAMS), _IS_SELF, _KICKS),
    Action.CREATE_TEAM: (_has(Permission.MANAGE_TEAMS),),
    Action.EDIT_TEAM: (_has(Permission.MANAGE_TEAMS), _OWNS_TEAM),
    Action.DELETE_TEAM: (_has(Permission.MANAGE_TEAMS), _OWNS_TEAM),
    Action.MANAGE_AWARDS: (_has(Permission.MANAGE_AWARDS),),
    Action.CREATE_SESSION: (_has(Permission.AUTHENTICATE_USERS),),
    Action.MANAGE_CALLBACKS: (_IS_APP,),
    Action.READ_LOG: (_IS_APP, _has(Permission.MANAGE_PERMISSIONS)),
    Action.USE_CREDENTIALS: (_ANYBODY,),
}


LIST = ", ".join(f"{permission:d} `{permission.label}`" for permission in Permission)
"""All permissions, in words."""


def may(caller: Principal, action: Action, target: Target) -> bool:
    """Return whether a rule allows the caller this action; anything else is denied."""
    return any(allowance.holds(caller, target) for allowance in RULES[action])


def depends_on_target(action: Action) -> bool:
    """Return whether an action's rules look at the target, not only at the caller."""
    return any(rule.of_target for rule in RULES[action])


def may_ever(caller: Principal, action: Action) -> bool:
    """Return whether the caller may be allowed this action on some target."""
    nothing = Target()
    return any(rule.of_target or rule.holds(caller, nothing) for rule in RULES[action])


def needs(action: Action) -> str:
    """Return the requirements of an action, in words."""
    return ", or ".join(allowance.words for allowance in RULES.get(action, ()))


def may_grant(caller: Principal, permission: Permission, team_id: int | None) -> bool:
    """Return whether the caller may grant one permission to an account in this team.

    `authenticate_users` is for apps: no account ever gets it.
    """
    return permission is not Permission.AUTHENTICATE_USERS and may_revoke(
        caller, permission, team_id
    )


def may_revoke(caller: Principal, permission: Permission, team_id: int | None) -> bool:
    """Return whether the caller may revoke one permission from an account in this team."""
    if Permission.MANAGE_PERMISSIONS | permission in caller.permissions:
        return True
    return permission is Permission.MANAGE_OWN_TEAM and (
        caller.owns(team_id)
        or Permission.MANAGE_PERMISSIONS | Permission.MANAGE_TEAMS in caller.permissions
    )


def refused_grants(caller: Principal, granted: Permission, team_id: int | None) -> list[Permission]:
    """Return the permissions that the caller may not grant to an account in this team."""
    return [permission for permission in granted if not may_grant(caller, permission, team_id)]


def refused_revocations(
    caller: Principal, revoked: Permission, team_id: int | None
) -> list[Permission]:
    """Return the permissions that the caller may not revoke from an account in this team."""
    return [permission for permission in revoked if not may_revoke(caller, permission, team_id)]


def after_move(
    caller: Principal, held: Permission, granted: Permission, team_id: int | None
) -> Permission:
    """Return an account's permissions after the caller moves it to another team, or to none.

    `manage_own_team` belongs to a team, so it stays behind, unless this request grants it for
    the new team or its caller could; with no team there is nothing to hold it for.
    """
    keeps = team_id is not None and (
        Permission.MANAGE_OWN_TEAM in granted
        or may_grant(caller, Permission.MANAGE_OWN_TEAM, team_id)
    )
    return held if keeps else held & ~Permission.MANAGE_OWN_TEAM

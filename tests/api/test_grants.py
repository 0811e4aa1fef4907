"""Granting and revoking permissions: the whole matrix, by the specification's own sentences."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import pytest

from permissions import ACCOUNT_PERMISSIONS, APP_PERMISSIONS, Permission
from tests.support.community import As, Auth, Community, issues, refusal

OWN = Permission.MANAGE_OWN_TEAM
MANAGE = Permission.MANAGE_PERMISSIONS
TEAMS = Permission.MANAGE_TEAMS
DETAILS = Permission.MANAGE_ACCOUNT_DETAILS
MOVE = Permission.MANAGE_ACCOUNT_TEAMS

RED, BLUE = 1, 2
TARGET = 5


@dataclass
class Someone:
    """A caller of the matrix."""

    is_app: bool
    permissions: Permission
    team: int | None
    auth: Auth


def allowed(caller: Someone, bit: Permission, target_team: int | None, *, grant: bool) -> bool:
    """Decide as the specification says, in its order and its words."""
    # "authenticate_users can never be given to an account (403 even for an app that has it)."
    if grant and bit == Permission.AUTHENTICATE_USERS:
        return False
    # "any bit: the caller has manage_permissions and that bit"
    if caller.permissions & MANAGE and caller.permissions & bit:
        return True
    # "only for manage_own_team:"
    if bit != OWN:
        return False
    # "the caller is an account with manage_own_team and in the same team as the target (both have
    # a team)"
    same_team = caller.team is not None and caller.team == target_team
    if not caller.is_app and caller.permissions & OWN and same_team:
        return True
    # "or the caller has manage_permissions and manage_teams"
    return bool(caller.permissions & MANAGE and caller.permissions & TEAMS)


def callers(community: Community) -> Iterator[Someone]:
    """Make apps and accounts: with each bit, important pairs, all and none; in every team."""
    sets = [Permission(0), *Permission, ACCOUNT_PERMISSIONS, APP_PERMISSIONS]
    sets += [MANAGE | bit for bit in Permission if bit != MANAGE]
    sets += [OWN | TEAMS, OWN | MOVE, MANAGE | TEAMS | OWN, APP_PERMISSIONS & ~MANAGE]
    for number, permissions in enumerate(sets):
        if permissions in APP_PERMISSIONS:
            auth = community.bot(permissions, f"bot {number}")
            yield Someone(True, permissions, None, auth)  # noqa: FBT003 - an app
        if permissions in ACCOUNT_PERMISSIONS:
            for team in (None, RED, BLUE):
                auth = community.user(1000 + 10 * number + (team or 0), permissions, team)
                yield Someone(False, permissions, team, auth)  # noqa: FBT003 - an account


@pytest.fixture
def someones(community: Community) -> list[Someone]:
    """Return all callers of the matrix, and the two teams."""
    assert [community.team("Red"), community.team("Blue")] == [RED, BLUE]
    return list(callers(community))


def test_grant_and_revoke_matrix(community: Community, as_: As, someones: list[Someone]) -> None:
    community.account(TARGET)
    judged = 0
    for team in (None, RED):
        for caller, bit, grant in product(someones, Permission, (True, False)):
            held = Permission(0) if grant else ACCOUNT_PERMISSIONS
            community.set(TARGET, team_id=team, permissions=int(held))
            field = "grant_permissions" if grant else "revoke_permissions"
            response = as_(caller.auth)("PATCH", f"/account/{TARGET}", {field: int(bit)})
            case = (caller, bit, team, field)
            if allowed(caller, bit, team, grant=grant):
                after = int(held | bit if grant else held & ~bit)
                assert response.status_code == 200, case
                assert response.get_json()["permissions"] == after, case
            else:
                assert refusal(response) == 403, case
            judged += 1
    assert judged == 2 * len(someones) * 7 * 2 > 1500


def test_create_matrix(as_: As, someones: list[Someone]) -> None:
    target = 10**6
    for team in (None, RED):
        for caller, bit in product(someones, Permission):
            target += 1
            body = {"id": target, "name": "T", "discriminator": 1, "team": team or 0}
            response = as_(caller.auth)("POST", "/accounts/new", body | {"permissions": int(bit)})
            case = (caller, bit, team)
            if caller.permissions & DETAILS and allowed(caller, bit, team, grant=True):
                assert response.status_code == 201, case
                assert response.get_json()["permissions"] == bit, case
            else:
                assert refusal(response) == 403, case
                assert as_(None)("GET", f"/account/{target}").status_code == 422


def test_move_matrix(community: Community, as_: As, someones: list[Someone]) -> None:
    """`manage_own_team` stays behind, unless the caller could grant it in the new team."""
    community.account(TARGET)
    for caller, before, after in product(someones, (None, RED), (None, RED, BLUE)):
        community.set(TARGET, team_id=before, permissions=int(OWN | TEAMS))
        response = as_(caller.auth)("PATCH", f"/account/{TARGET}", {"team": after or 0})
        kicks = caller.permissions & OWN and caller.team and caller.team == before and not after
        case = (caller, before, after)
        if not (caller.permissions & MOVE or kicks):
            assert refusal(response) == 403, case
            continue
        keeps = before == after or (after is not None and allowed(caller, OWN, after, grant=True))
        assert response.status_code == 200, case
        assert response.get_json()["permissions"] == (OWN | TEAMS if keeps else TEAMS), case


def test_one_refused_bit_refuses_the_request(community: Community, as_: As) -> None:
    community.account(TARGET)
    bot = as_(community.bot(MANAGE | TEAMS | DETAILS))
    before = community.dump()
    for body in (
        {"grant_permissions": int(TEAMS | Permission.MANAGE_AWARDS)},
        {"grant_permissions": int(TEAMS), "revoke_permissions": int(MOVE)},
        {"name": "New", "grant_permissions": int(MOVE)},
        {"name": "New", "team": 0},
    ):
        assert refusal(bot("PATCH", f"/account/{TARGET}", body)) == 403
    new = {"id": 99, "name": "N", "discriminator": 1, "permissions": int(TEAMS | MOVE)}
    assert refusal(bot("POST", "/accounts/new", new)) == 403
    assert community.dump() == before


def test_grant_and_revoke_the_same_bit(community: Community, as_: As) -> None:
    community.account(TARGET)
    bot = as_(community.bot(APP_PERMISSIONS))
    body = {"grant_permissions": 1 | 8, "revoke_permissions": 8, "name": ""}
    assert issues(bot("PATCH", f"/account/{TARGET}", body)) == [
        ("body name", "length"),
        ("body revoke_permissions", "conflict"),
    ]
    body = {"grant_permissions": 1, "revoke_permissions": 8}
    assert bot("PATCH", f"/account/{TARGET}", body).get_json()["permissions"] == 1


def test_permission_is_judged_where_nothing_would_change(community: Community, as_: As) -> None:
    red = community.team()
    community.account(TARGET, red, TEAMS)
    bot = as_(community.bot(DETAILS))
    for body in ({"grant_permissions": 8}, {"revoke_permissions": 1}, {"team": red}):
        assert refusal(bot("PATCH", f"/account/{TARGET}", body)) == 403
    nothing = {"grant_permissions": 0, "revoke_permissions": None}
    assert bot("PATCH", f"/account/{TARGET}", nothing).status_code == 200


def test_a_grant_is_judged_by_the_team_after_and_a_revocation_by_the_team_before(
    community: Community, as_: As
) -> None:
    red, blue = community.team("Red"), community.team("Blue")
    owner = as_(community.user(10, OWN | MOVE, red))
    community.account(TARGET, blue)
    into = {"team": red, "grant_permissions": int(OWN)}
    assert owner("PATCH", f"/account/{TARGET}", into).get_json()["permissions"] == OWN
    out_of = {"team": blue, "grant_permissions": int(OWN)}
    assert refusal(owner("PATCH", f"/account/{TARGET}", out_of)) == 403
    out = {"team": blue, "revoke_permissions": int(OWN)}
    assert owner("PATCH", f"/account/{TARGET}", out).get_json()["permissions"] == 0
    community.set(TARGET, permissions=int(OWN))
    back = {"team": red, "revoke_permissions": int(OWN)}
    assert refusal(owner("PATCH", f"/account/{TARGET}", back)) == 403


def test_an_account_that_leaves_its_team_loses_manage_own_team_whoever_asks(
    community: Community, as_: As
) -> None:
    red = community.team()
    admin = as_(community.bot(APP_PERMISSIONS))
    community.account(TARGET, red, OWN | TEAMS)
    body = {"team": 0, "grant_permissions": int(OWN)}
    assert admin("PATCH", f"/account/{TARGET}", body).get_json()["permissions"] == TEAMS
    ann = as_(community.user(10, OWN | TEAMS, red))
    assert ann("PATCH", "/account/10", {"team": 0}).get_json()["permissions"] == TEAMS


class TestAttacks:
    """Attacks that somebody will try."""

    def test_a_team_owner_takes_over_another_team(self, community: Community, as_: As) -> None:
        red, blue = community.team("Red"), community.team("Blue")
        mallory = as_(community.user(10, OWN, red))
        joined = mallory("PATCH", "/account/10", {"team": blue}).get_json()
        assert (joined["team"]["id"], joined["permissions"]) == (blue, 0)
        before = community.dump()
        assert refusal(mallory("PATCH", f"/team/{blue}", {"name": "Mine"})) == 403
        assert refusal(mallory("DELETE", f"/team/{blue}")) == 403
        assert refusal(mallory("PATCH", f"/team/{red}", {"name": "Mine"})) == 403
        assert community.dump() == before

    def test_she_goes_by_way_of_no_team(self, community: Community, as_: As) -> None:
        community.team("Red"), community.team("Blue")
        mallory = as_(community.user(10, OWN))  # holds it, but in no team
        assert mallory("PATCH", "/account/10", {"team": BLUE}).get_json()["permissions"] == 0
        assert refusal(mallory("DELETE", f"/team/{BLUE}")) == 403

    def test_she_joins_and_grants_in_one_request(self, community: Community, as_: As) -> None:
        red, blue = community.team("Red"), community.team("Blue")
        mallory = as_(community.user(10, OWN, red))
        before = community.dump()
        body = {"team": blue, "grant_permissions": int(OWN)}
        assert refusal(mallory("PATCH", "/account/10", body)) == 403
        assert community.dump() == before

    def test_she_grants_herself_a_bit(self, community: Community, as_: As) -> None:
        red = community.team()
        mallory = as_(community.user(10, ACCOUNT_PERMISSIONS & ~MANAGE, red))
        for bit in Permission:
            if bit != OWN:
                body = {"grant_permissions": int(bit)}
                assert refusal(mallory("PATCH", "/account/10", body)) == 403
        manager = as_(community.user(11, MANAGE, red))
        body = {"grant_permissions": int(TEAMS)}
        assert refusal(manager("PATCH", "/account/11", body)) == 403

    def test_she_kicks_a_member_of_another_team(self, community: Community, as_: As) -> None:
        red, blue = community.team("Red"), community.team("Blue")
        mallory = as_(community.user(10, OWN, red))
        community.account(TARGET, blue)
        assert refusal(mallory("PATCH", f"/account/{TARGET}", {"team": 0})) == 403

    def test_an_app_gives_authenticate_users(self, community: Community, as_: As) -> None:
        community.account(TARGET)
        bot = as_(community.bot(APP_PERMISSIONS))
        body = {"grant_permissions": int(Permission.AUTHENTICATE_USERS)}
        assert refusal(bot("PATCH", f"/account/{TARGET}", body)) == 403
        new = {"id": 99, "name": "N", "discriminator": 1, "permissions": 16}
        assert refusal(bot("POST", "/accounts/new", new)) == 403

    def test_a_session_of_a_deleted_account(self, community: Community, as_: As) -> None:
        ghost = as_(community.user(10, ACCOUNT_PERMISSIONS))
        assert as_(community.bot(DETAILS))("DELETE", "/account/10").status_code == 204
        assert refusal(ghost("POST", "/teams/new", {"name": "X"})) == 401
        community.account(10)
        assert refusal(ghost("GET", "/auth/me")) == 401

    def test_a_session_with_the_token_of_an_app(self, community: Community, as_: As) -> None:
        _, token = community.bot(APP_PERMISSIONS)
        community.user(10)
        assert refusal(as_(("S1", token))("GET", "/auth/me")) == 401

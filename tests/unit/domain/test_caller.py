import itertools

import pytest

from notification_engine.domain.caller import Caller, Role


def caller(*roles: Role) -> Caller:
    return Caller("u1", frozenset(roles), 0.0)


@pytest.mark.parametrize(("own", "asked"), list(itertools.product(Role, Role)))
def test_a_role_opens_its_own_door_and_admin_every_door(own: Role, asked: Role) -> None:
    assert caller(own).may(asked) is (own is asked or own is Role.ADMIN)


def test_one_of_the_asked_roles_is_enough() -> None:
    assert caller(Role.USER, Role.SERVICE).may(Role.OPERATOR, Role.SERVICE)


def test_without_roles_nothing_is_open() -> None:
    assert not caller().may(*Role)


def test_asking_for_no_role_opens_to_admin_only() -> None:
    assert not caller(Role.OPERATOR).may()
    assert caller(Role.ADMIN).may()

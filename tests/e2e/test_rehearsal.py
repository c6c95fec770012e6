"""What a rehearsed machine shares with the one before it, and what it does not."""

from __future__ import annotations

import os
import pwd

import pytest

from tests.e2e.conftest import World


@pytest.mark.root
def test_machines_have_host_names_and_users_of_their_own(world: World) -> None:
    """As their own processes see it; whoever rehearses keeps theirs."""
    before = (os.uname().nodename, os.geteuid())
    first, second = world.machine(), world.machine_of(pwd.getpwuid(2))
    user, host = "pwd.getpwuid(os.getuid()).pw_name", "os.uname().nodename"
    assert (first.says(user), first.says(host)) == (first.user.pw_name, "m1")
    assert (second.says(user), second.says(host)) == (pwd.getpwuid(2).pw_name, "m2")
    assert (os.uname().nodename, os.geteuid()) == before

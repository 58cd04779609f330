"""What a partition's profiles say, here and to other partitions."""

from __future__ import annotations

from app.domain.mailbox import Mailbox, Place
from schemas.profile import CALL, VERSION, ProfileEvent


def test_a_call_that_is_passed_on_comes_from_the_partition_and_is_of_no_version() -> None:
    # The other partition may run by a newer version already, and would take it for a former owner's of the call's lane.
    mailbox = Mailbox(Place(0, lambda profile: 1 if profile == "there" else 0))
    call = ProfileEvent(VERSION, CALL, "source/0", 7, 1, 1, 2, "message", definitions=3)
    mailbox.send("here", call)
    mailbox.send("there", call)
    assert list(mailbox.local) == [("here", call)]
    [(profile, passed_on)] = mailbox.take_records()
    assert (profile, passed_on.lane, passed_on.offset, passed_on.index) == ("there", "profiles/0", 1, 0)
    assert (passed_on.message_id, passed_on.definitions) == ("message", 0)

"""Replacing everybody, with the real client and the real clock, against the sandbox."""

from __future__ import annotations

from app.domain.replacing import schema_of
from schemas.control import DesiredRecord
from schemas.membership import Change
from tests.contract.sandbox_client import sha
from tests.contract.test_delivery_sandbox import Line, line


async def wish(made: Line, at: int = 1) -> None:
    """Everybody is to be replaced."""
    record = DesiredRecord(target="vips", number=at, paused=False, resync_at=at, replace=True, written_at=0)
    made.delivery.desire({"vips": record})
    await made.until(lambda: made.ledger.states["vips"].resynced_at == at and made.delivery.idle())


async def audience_of(made: Line) -> str:
    return str(made.ledger.states["vips"].facebook_id)


async def test_the_session_has_all_that_facebook_asks_of_it() -> None:
    async with line() as made:
        await made.send("ann", Change.ENTERED, {"EXTERN_ID": "ann", "EMAIL": sha("a")})
        await made.send("bob", Change.ENTERED, {"EXTERN_ID": "bob"}, {"EMAIL": sha("b")})
        audience = await audience_of(made)
        await made.sandbox.add(audience, ["EXTERN_ID"], ["stranger"])
        await wish(made)
        assert await made.members() == [
            {"EXTERN_ID": "ann", "EMAIL": sha("a")},
            {"EXTERN_ID": "bob"},
            {"EMAIL": sha("b")},
        ]
        [sent] = [one for one in await made.sandbox.log(audience) if one["path"].endswith("/usersreplace")]
        assert sent["body"]["payload"]["schema"] == list(schema_of(external_ids=True))
        session = sent["body"]["session"]
        assert 0 < session.pop("session_id") < 2**63
        assert session == {"batch_seq": 1, "last_batch_flag": True, "estimated_num_total": 2}
        await wish(made, 2)
        ids = [
            one["body"]["session"]["session_id"]
            for one in await made.sandbox.log(audience)
            if one["path"].endswith("/usersreplace")
        ]
        assert len(set(ids)) == 2


async def test_an_audience_that_is_not_in_order_is_sent_the_ordinary_way() -> None:
    async with line() as made:
        await made.until(lambda: made.delivery.destinations()["vips"].facebook_id is not None)
        await wish(made)
        assert not [one for one in await made.sandbox.log() if one["path"].endswith("/usersreplace")]
        assert made.delivery.destinations()["vips"].reason is None

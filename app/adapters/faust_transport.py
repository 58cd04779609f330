"""Faust a batch at a time.

Stock Faust hands an agent one event after another and pays for each. Here the transport hands it one message per
partition and poll whose value is the list of raw records, so that Faust's cost is paid once per batch while group
membership, assignment, tables and web stay Faust's. Everything that leans on Faust's and aiokafka's insides lives
in this module and in `faust_recovery`; both libraries are pinned, and the contract tests of this module fail when
an upgrade changes what is relied on.

What differs from Faust's own transport:

* a topic named in `BatchTransport.batched_topics` arrives as batches, every other one record by record;
* offsets are committed only as far as a stage called them durable (`mark_durable`). Faust would commit the highest
  acknowledged offset, and since it restarts a failed agent in place, a failed batch would be skipped for good;
* all reading is read_committed, without Faust's own transactional producers;
* fetches wait briefly at the broker, so that a record for one partition is not held up by a long poll on others.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections.abc import AsyncIterator, Callable, Mapping
from time import monotonic
from typing import Any

import aiokafka
import aiokafka.consumer.fetcher
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers.aiokafka import (
    AIOKafkaConsumerThread,
    Consumer,
    Transport,
    credentials_to_aiokafka_auth,
    server_list,
)
from faust.types import TP, ConsumerMessage

from app.errors import FatalError

FETCH_MAX_WAIT_MS = 50
# How often, and for how long, a broker is asked for topics that it does not know yet.
_LOOK_UP_SECONDS = 0.2
_KNOWN_WITHIN_SECONDS = 30.0


class _RawRecords(PartitionRecords):
    """Hands out the records of batched topics as aiokafka's parser made them, with the same offset, timestamp, key
    and value: a frozen ConsumerRecord of each costs several times as much as the parsing.
    """

    def __init__(self, batched_topics: set[str], tp: Any, *args: Any) -> None:
        self._raw = tp.topic in batched_topics
        super().__init__(tp, *args)

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        return record if self._raw else super()._consumer_record(tp, record)

    def _contains_abort_marker(self, batch: Any) -> bool:
        """Kafka's cleaner leaves the batch of a marker without the marker; whatever that had ended is gone, too."""
        try:
            return bool(super()._contains_abort_marker(batch))
        except aiokafka.errors.KafkaError:
            return False


def refuse_no_offsets(coordinator: Any, response: Any) -> None:
    """Raises aiokafka's error for the answer of a coordinator that is just being found or loaded.

    It says so for all of a request for committed offsets; aiokafka looks at each partition's error alone, finds no
    partition, and would read every topic from its beginning.
    """
    if response.API_KEY == OffsetFetchRequest.API_KEY and response.error_code:
        error = for_code(response.error_code)
        if error in (GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError):
            coordinator.coordinator_dead()
        raise error()


class _DurableOffset(int):
    """An offset on its way through Faust, which commits bare numbers, with what is to be committed beside it."""

    note = ""


class BatchConsumerThread(AIOKafkaConsumerThread):
    """Creates the aiokafka consumer with this system's settings and lets others look at its insides."""

    _heartbeat_at = -math.inf

    def _create_worker_consumer(self, transport: BatchTransport) -> aiokafka.AIOKafkaConsumer:
        conf = self.app.conf
        self._assignor = self.app.assignor
        # The fetcher offers no other way to say what becomes of a record.
        aiokafka.consumer.fetcher.PartitionRecords = functools.partial(_RawRecords, transport.batched_topics)
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            **credentials_to_aiokafka_auth(conf.broker_credentials),
            **transport.consumer_settings,
        )

    async def on_start(self) -> None:
        await super().on_start()
        coordinator = self._consumer._coordinator
        do_heartbeat = coordinator._do_heartbeat

        async def noted_heartbeat() -> bool:
            asked_at = monotonic()
            success: bool = await do_heartbeat()
            if success:
                self._heartbeat_at = asked_at
            return success

        coordinator._do_heartbeat = noted_heartbeat
        perform_assignment = coordinator._perform_assignment

        async def informed_assignment(response: Any) -> Any:
            await self._know_topics()
            return await perform_assignment(response)

        coordinator._perform_assignment = informed_assignment
        push_error = coordinator._push_error_to_user

        def told_error(error: BaseException) -> Any:
            # aiokafka leaves it for whoever fetches next, and waits; Faust does not fetch during a rebalance.
            self.transport.on_failure(FatalError(f"the consumer group does not let this worker in ({error})"))
            return push_error(error)

        coordinator._push_error_to_user = told_error
        commit = self._consumer.commit

        async def noted_commit(offsets: Mapping[Any, OffsetAndMetadata]) -> None:
            await commit(
                {tp: OffsetAndMetadata(int(one.offset), one.offset.note) for tp, one in offsets.items()}
            )

        self._consumer.commit = noted_commit
        send_request = coordinator._send_req

        async def checked_request(request: Any) -> Any:
            response = await send_request(request)
            refuse_no_offsets(coordinator, response)
            return response

        coordinator._send_req = checked_request
        coordinator._coordination_task.add_done_callback(self._coordination_ended)

    async def _know_topics(self) -> None:
        """Returns when it is known how many partitions each of this worker's topics has.

        A broker that has just come back may not answer that. aiokafka goes on without and asks again in five minutes; until
        then the group would have an assignment of nothing, which a successor that is a static member takes over as it is.
        """
        client, topics = self._consumer._client, self._consumer.subscription()
        deadline = monotonic() + _KNOWN_WITHIN_SECONDS
        while missing := sorted(one for one in topics if not client.cluster.partitions_for_topic(one)):
            if monotonic() >= deadline:
                self.transport.on_failure(
                    FatalError(
                        f"Kafka has not said within {_KNOWN_WITHIN_SECONDS:.0f} s how many partitions these topics have: "
                        + ", ".join(missing)
                    )
                )
                return
            await client.force_metadata_update()
            await asyncio.sleep(_LOOK_UP_SECONDS)

    def _coordination_ended(self, task: asyncio.Task[None]) -> None:
        # Without it the worker is in no group, and nothing else would ever say so.
        if not task.cancelled() and (error := task.exception()) is not None:
            self.transport.on_failure(error)

    def on_crash(self, msg: str, *fmt: Any, **kwargs: Any) -> None:
        """Mode would print the exception, whose text may hold what an event held; the application hears of it."""

    def heartbeat_age(self) -> float:
        """Seconds since the last heartbeat that the group coordinator answered was sent; infinite before the first."""
        return monotonic() - self._heartbeat_at

    def fetch_position(self, tp: TP) -> int | None:
        """Offset of the next record that aiokafka will hand out: also moves past transaction markers."""
        assignment = self._consumer._subscription.subscription.assignment if self._consumer else None
        if assignment is None or tp not in assignment.tps:
            return None
        position: int | None = assignment.state_value(tp)._position
        return position

    def member(self) -> tuple[int, str]:
        """Generation and member id under which this worker belongs to the group now."""
        coordinator = self._consumer._coordinator
        return coordinator.generation, coordinator.member_id

    async def seek_to_start(self, starts: Mapping[TP, int]) -> dict[TP, tuple[int, str]] | None:
        """Move every assigned partition to its offset in `starts`, else to the group's committed one.

        Returns where each then stands, -1 where nothing has been committed, and the note that was committed with it;
        None when the assignment changed before that was done. aiokafka's own way asks the broker for each partition in
        turn, and raises IllegalStateError for one that a rebalance took away meanwhile.
        """

        async def seek() -> dict[TP, tuple[int, str]] | None:
            consumer = self._consumer
            subscription = consumer._subscription.subscription
            assignment = subscription.assignment
            committed = await consumer._coordinator.fetch_committed_offsets(list(assignment.tps))
            # From here on nothing is awaited, and assignments change in this thread alone.
            if subscription.assignment is not assignment:
                return None
            offsets = {}
            for raw_tp in assignment.tps:
                tp = TP(*raw_tp)
                offset, note = starts.get(tp), ""
                if offset is None:
                    offset, note = committed.get(raw_tp, OffsetAndMetadata(-1, ""))
                if offset >= 0:
                    consumer.seek(raw_tp, offset)
                # confluent-kafka sends the zero byte behind a string along.
                offsets[tp] = offset, (note or "").rstrip("\0")
            return offsets

        offsets: dict[TP, tuple[int, str]] | None = await self.call_thread(seek)
        return offsets

    async def pause_fetching(self, tps: set[TP]) -> None:
        """Stop aiokafka itself from fetching: Faust's own pause only leaves what was fetched lying."""

        async def pause() -> None:
            # aiokafka insists on its own class of topic partition.
            self._consumer.pause(*[tp for tp in self._consumer.assignment() if tp in tps])

        await self.call_thread(pause)


class BatchConsumer(Consumer):
    """See the module's text."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._durable: dict[TP, _DurableOffset] = {}
        self._delivered: dict[TP, int] = {}
        self._handed_over: dict[TP, int] = {}

    async def seek_to_start(self, starts: Mapping[TP, int]) -> None:
        """Read on from `starts`, else from what the group has committed; of an assignment that has changed
        meanwhile nothing is moved.
        """
        found = await self._thread.seek_to_start(starts) or {}
        for tp, (offset, _) in found.items():
            # Faust drops what lies before.
            self._read_offset[tp] = offset if offset >= 0 else None
        self.transport.resume({tp: note for tp, (_, note) in found.items()})

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- batches ---------------------------------------------------------------------------------------------

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        records, active = await self._wait_next_records(timeout)
        if records is None or self.should_stop or not self.flow_active:
            return
        generation = self.app.consumer_generation_id
        batched = self.transport.batched_topics
        for raw_tp, batch in records.items():
            tp = TP(*raw_tp)
            if not self.flow_active or self.app.consumer_generation_id != generation:
                return
            if not batch or (active is not None and tp not in active and tp not in self._buffered_partitions):
                continue
            if tp.topic in batched:
                yield tp, self._batch_message(tp, batch, generation)
            else:
                for record in batch:
                    yield tp, self._to_message(raw_tp, record)
            self._delivered[tp] = batch[-1].offset + 1
        if self.app.consumer_generation_id == generation:
            self._note_handed_over(active)

    def _batch_message(self, tp: TP, batch: list[Any], generation: int) -> ConsumerMessage:
        last = batch[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            [],
            None,
            batch,
            None,
            0,
            0,
            tp=tp,
            # Faust silently drops a message of another generation.
            generation_id=generation,
        )

    def _note_handed_over(self, active: set[TP] | None) -> None:
        for tp in active or ():
            position = self._thread.fetch_position(tp)
            if position is not None:
                self._handed_over[tp] = position

    def caught_up(self, tp: TP, end_offset: int, done_offset: int) -> bool:
        """True when every record below `end_offset` has been processed.

        `done_offset` is the offset behind the last record that the stage finished. Where the log ends with
        transaction markers no record ever reaches `end_offset`; then what aiokafka has skipped over counts, once
        all it handed out is finished.
        """
        if done_offset >= end_offset:
            return True
        return self._handed_over.get(tp, -1) >= end_offset and done_offset >= self._delivered.get(tp, -1)

    def position_of(self, topic: str, partition: int, done_offset: int) -> int | None:
        """The next offset to finish: `done_offset`, or beyond it where nothing but markers follows; None: unknown."""
        tp = TP(topic, partition)
        position = self._handed_over.get(tp)
        if position is not None and done_offset >= self._delivered.get(tp, -1):
            return max(position, done_offset)
        return done_offset if done_offset >= 0 else position

    # -- offsets ---------------------------------------------------------------------------------------------

    def mark_durable(self, tp: TP, next_offset: int, note: str = "") -> None:
        """Everything of `tp` below `next_offset` is durable elsewhere and may be committed, with that note."""
        offset = self._durable[tp] = _DurableOffset(next_offset)
        offset.note = note

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> list[TP]:
        return [tp for tp in self._durable if topics is None or tp in topics or tp.topic in topics]

    def _new_offset(self, tp: TP) -> int | None:
        return self._durable.get(tp)

    def ack(self, message: Any) -> bool:
        """Only ends the wait for unfinished messages at a rebalance; what is committed is `mark_durable`'s."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        if self._waiting_for_ack is not None and not self._waiting_for_ack.done():
            self._waiting_for_ack.set_result(None)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Between two batches there is always a gap: Faust would keep one interval per batch for ever."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._durable.pop(tp, None)
            self._delivered.pop(tp, None)
            self._handed_over.pop(tp, None)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust warns of partitions without events; a quiet topic is no fault here, and /stats shows the lag."""

    def verify_recovery_event_path(self, now: float, tp: TP) -> None:
        """As above."""


class BatchTransport(Transport):
    """Faust's aiokafka transport with `BatchConsumer`."""

    Consumer = BatchConsumer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batched_topics: set[str] = set()
        # Of aiokafka's consumer, beyond what this module decides.
        self.consumer_settings: dict[str, int] = {}
        # Called, from the consumer's thread, with what the process cannot go on after.
        self.on_failure: Callable[[BaseException], None] = _unexpected
        # Told what was committed with the offsets from which an assignment is read.
        self.resume: Callable[[Mapping[tuple[str, int], str]], None] = lambda _: None


def _unexpected(error: BaseException) -> None:
    raise error

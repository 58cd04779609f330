"""`audience-sync worker`: run the stream processor."""

from __future__ import annotations

import asyncio
import gc
import os

import click

from app.adapters.definition_files import read_definitions
from app.ending import say
from app.errors import AudienceSyncError
from app.main import Worker
from app.settings import load_settings

GC_THRESHOLDS = (100_000, 50, 100)


@click.command(name="worker")
def command() -> None:
    """Run one worker until SIGTERM; start more of them to share the work.

    Settings come from the environment and the settings file. Prints `ready` on stderr once it processes.
    """
    settings = load_settings()
    definitions = read_definitions(settings.audiences, settings.profile_events)
    for warning in definitions.warnings:
        say(f"warning: {warning}")

    # Batches make many short-lived objects and no cycles: collecting as often as by default costs a fifth of the time.
    gc.set_threshold(*GC_THRESHOLDS)

    async def run() -> None:
        worker = Worker(settings, definitions)
        try:
            status = await worker.run()
        except AudienceSyncError as error:
            say(f"error: {error}")
            status = error.exit_status
        # Without joining threads, which may be waiting for a Kafka that does not answer.
        os._exit(status)

    asyncio.run(run())

"""What topics are created with."""

from __future__ import annotations

import pytest

from topics.catalog import Catalog
from topics.spec import DAY_MS, TopicSpec, staging

CATALOG = Catalog()


@pytest.mark.parametrize("spec", CATALOG.all(), ids=lambda spec: spec.name)
def test_older_records_stay_for_a_bounded_time(spec: TopicSpec) -> None:
    config = spec.kafka_config()
    assert ("compact" in config["cleanup.policy"]) == ("max.compaction.lag.ms" in config)
    assert int(config.get("max.compaction.lag.ms", 0)) <= 7 * DAY_MS
    bounded = {
        CATALOG.profiles_changelog.name,
        CATALOG.memberships.name,
        CATALOG.syncs.name,
        CATALOG.control.name,
        CATALOG.dead_letters.name,
    }
    assert ("max.compaction.lag.ms" in config) == (spec.name in bounded)


def test_nothing_is_cleaned_up_in_a_staging_topic() -> None:
    config = staging(CATALOG.memberships).kafka_config()
    assert (config["cleanup.policy"], config["retention.ms"]) == ("delete", "-1")
    assert "max.compaction.lag.ms" not in config

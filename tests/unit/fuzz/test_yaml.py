"""Files of definitions: whatever the bytes, definitions that can be used and published, or what is wrong in which line."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import yaml
from hypothesis import strategies as st

from app.adapters.definition_files import read_definitions
from app.domain.conditions import compile_audiences
from app.domain.definitions import Document, parse_definitions, published_form
from app.errors import InvalidInputError
from schemas.audience import AudienceDefinition, ComputedTraitDefinition
from tests.unit.fuzz.inputs import as_json, fuzzed, mutated

EXAMPLE = (Path(__file__).parents[3] / "examples" / "audiences.yaml").read_text("utf-8")
MORE = """\
audiences:
  - name: Engage VIPs
    source: engage
    facebook:
      - {ad_account_id: act_123, fields: {email: $.traits.work_email, phone: [$.traits.phone, $.traits.mobile]}}
      - {ad_account_id: act_124, mode: dry_run, external_id: sha256, on_delete: clear}
  - {name: Leads, source: reverse_etl, rows: {where: {$.context.protocols.sourceId: src_9}, id: $.userId}}
  - name: "Abandoned cart"
    created_at: 2025-01-01T00:00:00Z
    lookback: P30D
    when: {event: Product Added, between: [7d, 1d], then: {event: Order Completed, count: {exactly: 0}, within: 1d}}
  - {name: Firms, entity: account, when: {users: {any: {event: Order Completed, count: {at_least: 2}}}}}
traits:
  lifetime_value: {event: Order Completed, sum: revenue}
  run: {event: Order Completed, unique_list: products.$.sku, session: 30m, where: {a: {any_of: [x, 1, true]}}}
"""
# Of YAML and of the language, put in anywhere.
PARTS = (
    "&a ", "*a", "!!str ", "!!python/object:os.system ", "<<: ", "'", '"', "#", "|\n", ">\n", "---\n", "...\n", "%YAML 9\n",
    "? ", ": ", "- ", "{", "}", "[", "]", ",", "\t", "\r", "\x00", "\x85", "\u2028", "\ufeff", "\ud800", "\\ud800", "\\x",
    "9" * 30, "1e400", "-1", ".inf", "~", "30d", "P1Y", "null", "when: ", "not: ", "all: ", "event: ", "[" * 200, "- " * 150,
    "&a [*a, *a]", "{a: " * 120,
)  # fmt: skip
WITH_LINE = re.compile(r"\S+/audiences\.yaml(:\d+)?: .|\.\.\. and ")


@st.composite
def as_yaml(draw: st.DrawFn) -> bytes:
    """A good file with something put in, taken out or doubled."""
    text = draw(st.sampled_from([EXAMPLE, MORE, MORE]))
    for _ in range(draw(st.integers(0, 3))):
        first, length = draw(st.integers(0, len(text))), draw(st.sampled_from([0, 0, 1, 5, 80]))
        text = (
            text[:first] + draw(st.sampled_from([*PARTS, ""]) | st.text(max_size=3)) + text[first + length :]
        )
    encoded = text.encode("utf-8", "surrogatepass")
    return encoded[: draw(st.sampled_from([None, None, None, len(encoded) // 2, 10]))]


STRUCTURES = as_json(mutated([yaml.safe_load(EXAMPLE), yaml.safe_load(MORE)]))


@fuzzed(as_yaml() | STRUCTURES)
def test_definitions(content: bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "audiences.yaml")
        file.write_bytes(content)
        try:
            definitions = read_definitions(file)
        except InvalidInputError as error:
            lines = str(error).split("\n")
            assert len(lines) <= 201
            for line in lines:
                assert WITH_LINE.match(line), line
                assert line.isprintable(), line
                assert len(line) < 1_500, line
            return "refused"
    again = parse_definitions([Document("again", content.decode())])
    assert again.audiences == definitions.audiences
    assert again.traits == definitions.traits
    compile_audiences(definitions.audiences, definitions.traits)
    for trait in definitions.traits:
        assert ComputedTraitDefinition.model_validate(json.loads(json.dumps(published_form(trait)))) == trait
    for audience in definitions.audiences:
        assert AudienceDefinition.model_validate(json.loads(json.dumps(published_form(audience)))) == audience
    return "accepted"

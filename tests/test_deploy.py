"""The files in deploy/ refer only to metrics, alerts and settings that exist."""

import json
import re
import zipfile
from itertools import combinations
from pathlib import Path
from typing import Any

from hatchling.builders.wheel import WheelBuilder

from archiver.observing.health import Observed
from archiver.observing.metrics import Dated, Figures
from archiver.store.surveying import Survey
from tests.observing.conftest import NOW, observed  # noqa: F401  (a fixture)

ROOT = Path(__file__).parent.parent
RULES = (ROOT / "deploy/prometheus/alerts.yml").read_text()
DASHBOARD = json.loads((ROOT / "deploy/grafana/archiver.json").read_text())
ALERTS = set(re.findall(r"- alert: (\w+)", RULES))


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\barchiver_\w+", text))


def names_of(watched: Observed) -> set[str]:
    figures = Figures(watched, flows=1)
    figures.dated = Dated(Survey(flows=[], lost=[], files_missing=0, database_bytes=0), NOW)
    return {
        family.name + ("_total" if family.type == "counter" else "") for family in figures.collect()
    }


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


async def test_rules_and_dashboard_ask_for_figures_that_there_are(
    observed: Observed,  # noqa: F811
) -> None:
    known = names_of(observed)
    assert names_in(re.sub(r"#.*", "", RULES)) <= known
    assert names_in(" ".join(expressions())) <= known
    hidden = {"archiver_build_info", "archiver_survey_age_seconds", "archiver_writer_idle_seconds"}
    shown = names_in(RULES) | names_in(" ".join(expressions()))
    assert len(known - shown - hidden) < len(known) / 3


def test_each_alert_is_tested_to_fire_and_documented() -> None:
    tests = (ROOT / "deploy/prometheus/alerts_test.yml").read_text()
    document = (ROOT / "docs/monitoring.md").read_text()
    assert set(re.findall(r'alertname="(\w+)"', tests)) == ALERTS
    assert set(re.findall(r"^\| `(Archiver\w+)`", document, re.MULTILINE)) == ALERTS


def test_each_alert_says_how_grave_it_is_and_what_to_do() -> None:
    rules = RULES.split("- alert: ")[1:]
    for rule in rules:
        assert re.search(r"severity: (critical|warning)\}", rule), rule
        assert "summary: " in rule, rule
        assert "description: " in rule, rule


def test_panels_have_ids_of_their_own_do_not_overlap_and_use_the_chosen_source() -> None:
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        for place in (panel["gridPos"] for panel in panels)
    ]
    assert all(not one & other for one, other in combinations(cells, 2))
    assert all(x < 24 for one in cells for x, _ in one)
    for panel in panels:
        if panel["type"] != "row":
            assert panel["description"]
            assert panel["datasource"]["uid"] == "${datasource}"
            assert all("$instance" in target["expr"] for target in panel["targets"])


def test_the_documents_that_commands_and_deploy_name_come_with_the_wheel(tmp_path: Path) -> None:
    sources = [*(ROOT / "archiver").rglob("*.py"), ROOT / "deploy/README.md"]
    document = re.compile(r"\bdocs/\w+\.md|\bCHANGELOG\.md")
    named = {name for source in sources for name in document.findall(source.read_text())}
    assert {"docs/search.md", "docs/sql.md", "CHANGELOG.md"} <= named

    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    files = zipfile.ZipFile(wheel).namelist()
    shared = {name.partition("/share/flowdock-archiver/")[2] for name in files}
    assert named | {"README.md", "systemd/archiver.service"} <= shared


def test_an_upgrade_has_all_read_again_that_a_new_release_may_read_otherwise() -> None:
    advice = (ROOT / "README.md").read_text().partition("\n- After an upgrade, ")[2]
    wanted = re.findall(r"`(archiver [^`]+)`", advice.partition("\n- ")[0])
    assert wanted == ["archiver rejects retry --all", "archiver rebuild"]
    upgrade = (ROOT / "deploy/README.md").read_text().partition("\n## Upgrade\n")[2]
    lines = upgrade.partition("\n## ")[0].splitlines()
    done = ["systemctl restart archiver", *wanted]
    assert [line for line in lines if line in done] == done

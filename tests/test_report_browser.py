"""The report in a real browser, where there is one: hostile names, and narrow and wide windows."""

import base64
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from training.data.schema import Schema
from training.report.document import draw_parts, make_report

from training_support import make_rows, train_family

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or ""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine"),
]
ATTACK = (
    "\"'><img src=x onerror=\"top.document.title='taken'\">"
    "<script>top.document.title='taken'</script>"
)
# Writes down what a window of each width shows: it scrolls sideways or not, images and scripts,
# pictures, those that are too small, links without an end, and whether a link takes the focus.
PROBE = """<!DOCTYPE html><title>ours</title><body><script>
async function probe() {
  const bytes = Uint8Array.from(atob('PACKED'), one => one.charCodeAt(0));
  const page = new TextDecoder().decode(bytes), lines = [];
  for (const width of [400, 1600]) {
    const frame = document.createElement('iframe');
    frame.width = width; frame.height = 900; frame.srcdoc = page;
    await new Promise(loaded => { frame.onload = loaded; document.body.append(frame); });
    const shown = frame.contentDocument, root = shown.documentElement;
    const small = [...shown.querySelectorAll('figure > svg')].filter(
      one => one.getBoundingClientRect().width < 250).length;
    const links = [...shown.querySelectorAll('nav a')];
    const dead = links.filter(one => !shown.querySelector(one.getAttribute('href'))).length;
    links[0].focus();
    const focused = shown.activeElement === links[0];
    lines.push([width, root.scrollWidth <= width, shown.images.length + shown.scripts.length,
      shown.querySelectorAll('figure').length > 10, small, dead, focused].join(' '));
    frame.remove();
  }
  document.body.textContent = [document.title, ...lines].join(';');
}
probe();
</script>"""


def test_a_browser_shows_the_page_and_runs_nothing_of_it(tmp_path: Path) -> None:
    schema, train, holdout = make_rows(3)
    features = tuple(replace(f, name=f"{f.name} {ATTACK}") for f in schema.features)
    schema = Schema(features, tuple(f"{label} {ATTACK}" for label in "abc"))
    trained = train_family("lightgbm", schema, train, holdout)
    page = make_report(trained, draw_parts(trained, {}, train, holdout), None)
    packed = base64.b64encode(page.encode()).decode()
    path = tmp_path / "probe.html"
    path.write_text(PROBE.replace("PACKED", packed))

    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=20000"]
    shown = subprocess.run(
        [*command, path.as_uri()], capture_output=True, text=True, timeout=120
    )

    body = re.search(r"<body>(.*?)</body>", shown.stdout, re.DOTALL)
    assert body is not None, shown.stderr[-2000:]
    assert unescape(body[1]).split(";") == [
        "ours",
        "400 true 0 true 0 0 true",
        "1600 true 0 true 0 0 true",
    ]

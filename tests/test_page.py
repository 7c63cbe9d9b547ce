"""The page and Swagger UI in a real browser, where there is one: form, errors, hostile names."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from test_access import ALL_LINES, DESCRIBER, line

from grpc_server.server import PredictionServer
from prediction.artifact.v1.model_artifact_pb2 import ModelArtifact

from drift_support import mixed_artifact
from support import running_server, wait_for, write_artifact
from wire import count_handled, read_metrics

BROWSER = shutil.which("chromium") or shutil.which("google-chrome") or ""
SWAGGER = Path(__file__).parents[1] / "grpc_server/gateway/swagger"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="no Chromium on this machine"),
]
ATTACK = (
    "\"'><img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
    "</textarea>\u202e\u2066${7*7}&lt;"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def artifact() -> ModelArtifact:
    return mixed_artifact(2_000)[0]


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Return a page that must not report an error, and has 10 s for anything."""
    page = browser.new_page(viewport={"width": 400, "height": 900})
    page.set_default_timeout(10_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(dialog.message))
    page.on(
        "console",
        lambda line: (
            errors.append(line.text) if "Content Security Policy" in line.text else None
        ),
    )
    yield page
    page.close()
    assert not errors


@pytest.fixture
def server(artifact: ModelArtifact, tmp_path: Path) -> Iterator[PredictionServer]:
    with running_server(write_artifact(tmp_path / "model", artifact)) as server:
        yield server


def url_of(server: PredictionServer, path: str = "/") -> str:
    return f"http://127.0.0.1:{server.http_port}{path}"


def test_the_form_sends_a_real_request(server: PredictionServer, page: Page) -> None:
    page.goto(url_of(server))
    page.wait_for_selector("figure")
    # By keyboard alone: from the first field, Enter sends the form.
    page.locator("#field-0").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#answer .label")
    assert page.locator("#answer .label").inner_text() in ("0", "1")
    assert page.locator("#answer table").count() == 2
    assert page.locator("#answer table >> nth=0 >> tr").count() == 2
    names = page.locator("#answer table >> nth=1 >> th").all_inner_texts()
    assert sorted(names) == ["age", "city", "grade", "hours", "smoker"]
    wait_for(lambda: count_handled(read_metrics(server), "Predict") == {"OK": 1})
    page.locator("#field-3").select_option("(missing)")
    page.locator("#field-0").fill("")
    page.get_by_label("Show the ten").uncheck()
    page.get_by_role("button", name="Predict").click()
    # Not wait_for_function: it evaluates text if it has to wait, which the page's policy forbids.
    expect(page.locator("#answer table")).to_have_count(1)


def test_what_does_not_fit_is_said_at_its_field(
    server: PredictionServer, page: Page
) -> None:
    page.goto(url_of(server))
    page.wait_for_selector("figure")
    page.locator("#field-1").fill("many")
    page.get_by_role("button", name="Predict").click()
    assert 'not "many"' in page.locator("#field-1-error").inner_text()
    assert page.evaluate("document.activeElement.id") == "field-1"
    assert not count_handled(read_metrics(server), "Predict")
    # What only the server knows: the page takes it for a number.
    page.evaluate(
        "JSON.stringify = (was => body => was(body).replace('9e+99', 'true'))(JSON.stringify)"
    )
    page.locator("#field-1").fill("9e99")
    page.get_by_role("button", name="Predict").click()
    page.get_by_text("takes a finite number").first.wait_for()
    assert "finite number" in page.locator("#field-1-error").inner_text()


def test_a_server_that_is_gone_is_said(server: PredictionServer, page: Page) -> None:
    page.goto(url_of(server))
    page.wait_for_selector("figure")
    page.route("**/v1/predict", lambda route: route.abort())
    page.get_by_role("button", name="Predict").click()
    page.wait_for_selector("#answer .error")
    assert "cannot be reached" in page.locator("#answer").inner_text()


def test_without_a_model_the_page_says_so(page: Page) -> None:
    with running_server(None) as server:
        page.goto(url_of(server))
        page.wait_for_selector("#warnings li")
        assert "no model" in page.locator("#warnings").inner_text()
        assert page.locator("#content").is_hidden()


def make_hostile(artifact: ModelArtifact) -> ModelArtifact:
    """Return the model with names and labels that try to become more than text."""
    hostile = ModelArtifact.FromString(artifact.SerializeToString())
    names = {f.name: f"{ATTACK} {f.name}" for f in hostile.input_schema.features}
    names["age"] = "x" * 10_000
    for feature in hostile.input_schema.features:
        feature.name = names[feature.name]
    for watched in hostile.reference.features:
        watched.name = names[watched.name]
    labels = {"0": f"{ATTACK} no", "1": f"{ATTACK} yes"}
    hostile.class_labels.strings.values.extend(labels.values())
    for example in hostile.golden_examples:
        example.label = labels[example.label]
        values = dict(example.record.fields)
        example.record.Clear()
        for name, value in values.items():
            example.record.fields[names[name]].CopyFrom(value)
    return hostile


def test_hostile_names_stay_text(
    artifact: ModelArtifact, tmp_path: Path, page: Page
) -> None:
    hostile = make_hostile(artifact)
    with running_server(write_artifact(tmp_path / "model", hostile)) as server:
        page.goto(url_of(server))
        page.wait_for_selector("figure")
        page.get_by_role("button", name="Predict").click()
        page.wait_for_selector("#answer .label")
        assert (
            page.locator("#answer .label")
            .evaluate("one => one.textContent")
            .startswith(ATTACK)
        )
        assert page.title().endswith(page.locator("#name bdi >> nth=1").inner_text())
        assert page.locator("img, main script, iframe").count() == 0
        for width in (400, 1600):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        shown = page.locator("#fields label >> nth=1").evaluate(
            "one => one.textContent"
        )
        assert shown == f"{ATTACK} hours"


def test_the_page_asks_for_a_token_and_keeps_it_in_memory(
    artifact: ModelArtifact, tmp_path: Path, page: Page
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(
        ALL_LINES + line("all", "s3cret-of-all", "predict,describe,metrics")
    )
    folder = write_artifact(tmp_path / "model", artifact)
    with running_server(folder, tokens_file=tokens) as server:
        page.goto(url_of(server))
        for token, expected in (
            ("wrong", "wrong or has been revoked"),
            (DESCRIBER, "needs the scope metrics"),
        ):
            page.get_by_label("Token").fill(token)
            page.keyboard.press("Enter")
            page.get_by_text(expected).wait_for()
        page.reload()
        page.get_by_label("Token").fill("s3cret-of-all")
        page.keyboard.press("Enter")
        page.wait_for_selector("figure")
        assert page.locator("#access").is_hidden()
        kept = "[localStorage.length, sessionStorage.length, document.cookie].join()"
        assert page.evaluate(kept) == "0,0,"
        assert "s3cret" not in page.content()
        page.get_by_role("button", name="Predict").click()
        page.wait_for_selector("#answer .label")


@pytest.mark.skipif(not SWAGGER.exists(), reason="no Swagger UI; make swagger-ui")
def test_swagger_ui_sends_a_request(server: PredictionServer, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": 1600, "height": 900})
    page.goto(url_of(server, "/docs"))
    page.locator(".opblock-summary", has_text="/predict").first.click()
    page.locator("textarea.body-param__text").fill(
        '{"record": {"age": 1, "hours": 2, "smoker": true, "city": "Oslo", "grade": 10}}'
    )
    page.locator("button.execute").click()
    page.wait_for_selector(".live-responses-table .response-col_status")
    assert (
        "200"
        in page.locator(
            ".live-responses-table .response-col_status >> nth=1"
        ).inner_text()
    )
    wait_for(lambda: count_handled(read_metrics(server), "Predict") == {"OK": 1})
    assert all(url.startswith((url_of(server), "data:")) for url in asked)

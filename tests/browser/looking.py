"""The checks that are made in the browser."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page

from tests.export.sample import FILES

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTHS = {"wide": 1280, "narrow": 360}
SCHEMES = ("light", "dark")
FILES_DAY = "acme/main/2019-07-12.html"
FOREIGN = (
    "img:not(.file img), svg, iframe, object, embed, video, audio, base, style, "
    "[onerror], [onload], [style]"
)
CONTRAST = """() => {
  // What is read must stand out from what is behind it (WCAG: 4.5 to 1).
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((one) => {
      const part = one / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const faint = new Set();
  for (const one of document.querySelectorAll("body *")) {
    if (![...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim())) continue;
    const [a, b] = [light(getComputedStyle(one).color), light(behind(one))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) faint.add(`${one.tagName}.${one.className}`);
  }
  return [...faint];
}"""


@dataclass
class Watch:
    """Collects findings, such as anything that the browser does and no page of ours asks for."""

    pages: Path
    findings: list[str] = field(default_factory=list)

    def over(self, page: Page) -> None:
        """Watch *page* from now on."""
        inside = self.pages.as_uri()
        page.on("dialog", lambda dialog: self.note(f"a dialog: {dialog.message}"))
        page.on("pageerror", lambda error: self.note(f"a script failed: {error}"))
        page.on("popup", lambda popup: self.note(f"a window was opened: {popup.url}"))
        page.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith(inside)
                else self.note(f"asked for outside the folder: {asked.url}")
            ),
        )

    def note(self, finding: str) -> None:
        """Add a finding."""
        self.findings.append(finding)

    def expect(self, holds: object, finding: str) -> None:
        """Add *finding* unless *holds*."""
        if not holds:
            self.note(finding)


def look(browser: Browser, pages: Path, pictures: Path) -> list[str]:
    """Check *pages*; returns all findings, and puts a screenshot of each kind into *pictures*."""
    watch = Watch(pages)
    for width, pixels in WIDTHS.items():
        for scheme in SCHEMES:
            with opened(browser, watch, width=pixels, scheme=scheme) as page:
                for name, path in shown(pages):
                    page.goto(path.as_uri())
                    looked = f"{name}, {width}, {scheme}"
                    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                    watch.expect(wide <= 0, f"{looked}: {wide} pixels wider than the window")
                    faint = page.evaluate(CONTRAST)
                    watch.expect(not faint, f"{looked}: hardly legible: {', '.join(faint)}")
                    page.screenshot(path=pictures / f"{name}-{width}-{scheme}.png")
                search(page, watch, pages, pictures / f"search-{width}-{scheme}.png")
    with opened(browser, watch, width=1280, scheme="light") as page:
        for path in sorted(pages.rglob("*.html")):
            page.goto(path.as_uri())
            strangers = page.locator(FOREIGN).count()
            watch.expect(not strangers, f"{path.name}: {strangers} elements that chat brought")
            bad = page.locator("a[href^='javascript:' i], a[href^='data:' i]").count()
            watch.expect(not bad, f"{path.name}: a link that is a script")
        follow(page, watch, pages)
        open_files(page, watch, pages)
        narrow_down(page, watch, pages)
        miss(page, pages)
    without_scripts(browser, watch, pages)
    on_paper(browser, watch, pages)
    return watch.findings


def shown(pages: Path) -> Iterator[tuple[str, Path]]:
    """The pages that screenshots are taken of, by name."""
    yield "index", pages / "index.html"
    yield "people", pages / "people.html"
    yield "flow", pages / "acme/main/index.html"
    yield "files", pages / FILES_DAY
    yield "hostile", pages / "acme/main/2019-06-01.html"
    for name, pattern in (("day", "20*.html"), ("threads", "threads-*.html")):
        yield name, max(pages.glob(f"chat/*/{pattern}"), key=lambda one: one.stat().st_size)


@contextmanager
def opened(
    browser: Browser, watch: Watch, *, width: int, scheme: str, scripts: bool = True
) -> Iterator[Page]:
    """Open a page in a new window that is watched."""
    context: BrowserContext = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=scripts,
    )
    try:
        page = context.new_page()
        watch.over(page)
        yield page
    finally:
        context.close()


def search(page: Page, watch: Watch, pages: Path, picture: Path) -> None:
    """Search as a person would, and follow a result."""
    page.goto((pages / "search.html").as_uri())
    page.get_by_label("Text").fill("<script>alert")
    page.get_by_label("Flow").select_option("acme/main")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("status").filter(has_text="1 found").wait_for()
    said = page.locator("#hits li").inner_text()
    watch.expect("<script>alert(1)</script>" in said, f"the search shows {said!r}")
    page.locator("#hits a").click()
    page.wait_for_url("**/acme/main/2019-06-01.html#m-1")
    watch.expect(page.locator("article:target").get_attribute("id") == "m-1", "a hit leads nowhere")
    page.go_back()
    page.goto((pages / "search.html").as_uri() + "#q=e")
    page.reload()
    page.get_by_role("status").filter(has_text="found").wait_for()
    page.locator("#hits li").nth(3).wait_for()
    hits = page.locator("#hits a").evaluate_all("all => all.map((one) => one.getAttribute('href'))")
    days = [hit.partition("#")[0].rpartition("/")[2] for hit in hits if "undated" not in hit]
    watch.expect(days == sorted(days, reverse=True), "the search does not show the newest first")
    page.screenshot(path=picture)


def follow(page: Page, watch: Watch, pages: Path) -> None:
    """Follow links: to a message, to its thread, back to its day, to what a person said."""
    page.goto((pages / "acme/main/2019-07-02.html").as_uri() + "#m-22")
    message = page.locator("article:target")
    watch.expect(
        "an answer" in (message.text_content() or ""), "a deep link leads to another message"
    )
    message.get_by_role("link", name="thread of").click()
    page.wait_for_url("**/threads-*.html#*")
    watch.expect(page.locator("h2:target").count() == 1, "a link to a thread leads nowhere")
    page.locator("#m-22 a[title]").click()
    page.wait_for_url("**/2019-07-02.html#m-22")
    watch.expect(
        page.locator("article:target").get_attribute("id") == "m-22",
        "a thread does not lead back to the day",
    )
    page.goto((pages / "people.html").as_uri())
    page.get_by_role("row", name="Bob B").get_by_role("link").click()
    page.locator("#hits").filter(has_text="an answer").wait_for()
    namesakes(page, watch, pages)
    page.goto((pages / "acme/main/2019-06-01.html").as_uri())
    page.locator("#m-23 summary").click()
    watch.expect(page.get_by_text("soon edited").is_visible(), "a history does not open")


def namesakes(page: Page, watch: Watch, pages: Path) -> None:
    """Find what one of two people with the same nick said, and then what both said."""
    page.goto((pages / "people.html").as_uri())
    page.get_by_role("row", name="Robert").get_by_role("link").click()
    page.get_by_role("status").filter(has_text="1 found").wait_for()
    said = page.locator("#hits li").all_inner_texts()
    watch.expect(
        len(said) == 1 and "said by the namesake" in said[0], f"a person's link finds {said!r}"
    )
    page.get_by_label("Text").fill("answer")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("status").filter(has_text="0 found").wait_for()
    page.goto((pages / "search.html").as_uri() + "#from=bob")
    page.reload()
    for said_by_one in ("an answer", "said by the namesake"):
        page.locator("#hits").filter(has_text=said_by_one).wait_for()


def open_files(page: Page, watch: Watch, pages: Path) -> None:
    """Look at pictures, and click on every attached file: none may be executed."""
    day = (pages / FILES_DAY).as_uri()
    page.goto(day)
    page.locator(".file img").first.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('.file img').naturalWidth === 64")
    links = page.locator(".file a")
    watch.expect(links.count() == len(FILES), f"{links.count()} files of {len(FILES)} are there")
    for number in range(links.count()):
        page.goto(day)
        named = links.nth(number).get_attribute("href")
        links.nth(number).click()
        page.wait_for_load_state()
        scripts = page.locator("script").count()
        watch.expect(not scripts, f"{named} is opened as a page with {scripts} scripts")
        inside = page.url.startswith((pages / "files").as_uri() + "/")
        watch.expect(inside, f"{named} leads to {page.url}")


def narrow_down(page: Page, watch: Watch, pages: Path) -> None:
    """Find text within the page of a day."""
    page.goto((pages / "acme/main/2019-06-01.html").as_uri())
    page.get_by_label("Find in this page").fill("EDITED")
    watch.expect(page.locator("article:visible").count() == 1, "finding in the page finds others")


def miss(page: Page, pages: Path) -> None:
    """Search when a file of the search index is missing: the page must say so."""
    lost = pages / "search/acme/main/2019-06.js"
    kept = lost.rename(lost.with_suffix(".kept"))
    page.goto((pages / "search.html").as_uri() + "#q=e")
    page.reload()
    page.get_by_role("status").filter(has_text="files could not be read").wait_for()
    kept.rename(lost)


def without_scripts(browser: Browser, watch: Watch, pages: Path) -> None:
    """Read pages without JavaScript: everything except the search must work."""
    with opened(browser, watch, width=1280, scheme="light", scripts=False) as page:
        page.goto((pages / "acme/main/2019-06-01.html").as_uri())
        shown = page.locator("article:visible").count()
        watch.expect(shown > 3, f"without JavaScript {shown} messages are shown")
        watch.expect(not page.locator("form:visible").count(), "a form that does nothing is shown")
        page.goto((pages / "search.html").as_uri())
        watch.expect(page.locator("noscript").count(), "nothing says why it does not search")


def on_paper(browser: Browser, watch: Watch, pages: Path) -> None:
    """Print pages in a dark color scheme: the print must be dark on white, with messages only."""
    with opened(browser, watch, width=1280, scheme="dark") as page:
        page.emulate_media(media="print")
        for name, path in shown(pages):
            page.goto(path.as_uri())
            faint = page.evaluate(CONTRAST)
            watch.expect(not faint, f"{name}, printed: hardly legible: {', '.join(faint)}")
            ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
            watch.expect(ground == "rgb(255, 255, 255)", f"{name}, printed on {ground}")
            page.evaluate("dispatchEvent(new Event('beforeprint'))")
            closed = page.locator("details:not([open])").count()
            watch.expect(not closed, f"{name}, printed: {closed} histories are closed")
            asking = page.locator("form:visible, nav:visible").count()
            watch.expect(not asking, f"{name}, printed: {asking} things that only a screen can use")

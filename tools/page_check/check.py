"""The status page in a real browser, against a real server: see `run`."""

import argparse
import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/clients"))

import serving  # noqa: E402
from audit import Audit  # noqa: E402
from chromium import Browser  # noqa: E402

WIDTHS = (360, 768, 1280, 1920)
STORY = "Once upon a time"  # what the demo model goes on from
PLAIN_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def demo_model(directory):
    serving.make_model(directory)
    (directory / "chat_template.jinja").write_text(PLAIN_TEMPLATE)
    return directory


@contextlib.contextmanager
def load(server, streams=6, max_tokens=200):
    """That many clients, each with one completion after the other."""
    stop = threading.Event()

    def client(number):
        while not stop.is_set():
            with contextlib.suppress(OSError):
                prompt = f"Once upon a time there were {number} " + "little houses by the sea. " * (4 + number)
                server.post("/v1/completions", {"prompt": prompt, "max_tokens": max_tokens * (1 + number % 3), "ignore_eos": True})

    threads = [threading.Thread(target=client, args=(i,)) for i in range(streams)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def check_layout(page):
    for width in WIDTHS:
        page.resize(width, 900)
        time.sleep(0.2)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{width} px: wider than the window"
        cut = page.evaluate("""[...document.querySelectorAll('h1,h2,h3,p,button,label,dd,dt')].filter(e => e.offsetParent !== null
            && getComputedStyle(e).position !== 'absolute' && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))""")
        assert not cut, f"{width} px: cut off: {cut}"
    page.resize(1280, 900)


def check_names(page):
    """Whatever can be used has a name, and focus can be seen."""
    nameless = page.evaluate("""[...document.querySelectorAll('input,textarea,button,[role=slider],[role=region],[role=log]')].filter(e =>
        !(e.labels?.length || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || (e.tagName === 'BUTTON' && e.textContent.trim()))).map(e => e.outerHTML)""")
    assert not nameless, f"no name: {nameless}"
    page.press("Tab")
    assert page.evaluate("document.activeElement !== document.body && getComputedStyle(document.activeElement).outlineStyle !== 'none'")


def check_contrast(page):
    """Text against its background, as WCAG AA asks for."""
    ratio = """(() => { const lum = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b; };
      const back = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\\)$/.test(c) && !/ \\/ /.test(c)) return c; } return 'rgb(255,255,255)'; };
      return [...document.querySelectorAll('p,h1,h2,h3,dd,dt,th,td,button,label,a,b')].filter(e => e.offsetParent && e.innerText.trim() && !e.closest('.hidden,.skip')).map(e => {
        const [a, b] = [lum(getComputedStyle(e).color), lum(back(e))].sort((x, y) => y - x); return [(a + .05) / (b + .05), e.outerHTML.slice(0, 60)]; })
        .filter(([r]) => r < 4.5); })()"""
    for dark in (False, True):
        page.dark(dark)
        low = page.evaluate(ratio)
        assert not low, f"{'dark' if dark else 'light'}: {low}"
    page.dark(False)


def check_load(server, page, out, audit):
    path = "document.querySelector('#cache-chart path.area')?.getAttribute('d')"
    before = page.wait(path)
    with load(server):
        page.wait("document.querySelector('#bytes').innerText !== '0 B'", "cache in use")
        page.wait("document.querySelectorAll('#sequence-rows tr').length >= 3", "requests in flight")
        page.wait(f"{path} !== {before!r}", "the chart moves")
        page.wait("Number(document.querySelector('#generation-rate').innerText.replace(',', '')) > 0", "throughput")
        page.wait("/ms|s/.test(document.querySelector('#inter-percentiles b').innerText)", "percentiles")
        page.evaluate("document.querySelector('#cache-chart').focus()")
        said = page.evaluate("document.querySelector('#cache-chart').getAttribute('aria-valuetext')")
        page.press("ArrowLeft")
        page.press("ArrowLeft")
        assert page.evaluate("document.querySelector('#cache-chart').getAttribute('aria-valuetext')") != said
        assert page.text("#cache-chart .reading")
        page.evaluate("document.activeElement.blur()")
        audit.check(page, "under load")
        time.sleep(50 if out else 0)  # something to see in the charts
        for width, dark in ((1280, False), (1280, True), (360, False), (360, True)):
            if not out:
                break
            page.resize(width, 900)
            page.dark(dark)
            time.sleep(1.5)
            page.screenshot(out / f"load-{width}-{'dark' if dark else 'light'}.png")
        page.resize(1280, 900)
        page.dark(False)


def ask(page, text):
    page.evaluate("document.querySelector('#prompt').focus()")
    page.type(text)
    page.press("Enter", "\r")


def check_chat(server, page, out, question):
    ask(page, question)
    page.wait("document.querySelector('.reply .body').innerText.length > 0", "the reply begins")
    page.wait("document.querySelector('#transcript').getAttribute('aria-busy') === 'false'", "the reply ends")
    assert not page.text(".failure"), page.text(".failure")
    assert "token" in page.text(".reply .note"), page.text(".reply .note")
    assert page.text("#held") != "–"
    assert page.evaluate("document.querySelectorAll('.reply .token').length > 0"), "no token has a probability"
    page.hover(".reply .token")
    page.wait("!document.querySelector('#token-card').hidden", "probabilities on hover")
    assert "%" in page.text("#token-card")
    if out:
        page.screenshot(out / "token.png", whole=False)
    page.evaluate("document.querySelector('.reply .body').focus()")
    page.press("ArrowRight")
    assert "%" in page.evaluate("document.querySelector('#announce').textContent")
    page.evaluate("document.activeElement.blur()")


def check_markup(page):
    """What a client writes stays text."""
    markup = "<img src=x onerror=\"document.title='broken'\"><b>bold</b>"
    ask(page, markup)
    page.wait("document.querySelector('#transcript').getAttribute('aria-busy') === 'false'")
    assert page.evaluate(f"[...document.querySelectorAll('.asked')].at(-1).textContent === {markup!r}")
    assert page.evaluate("document.querySelector('#transcript img, #transcript b') === null"), "a prompt became markup"


def check_stop(server, page):
    page.evaluate("document.querySelector('#max_tokens').value = 3000; document.querySelector('#temperature').value = 2")
    page.evaluate("document.querySelector('#reset').click()")
    with load(server, streams=4):
        for _ in range(20):  # a model that ends by itself is asked again
            ask(page, STORY)
            page.wait("!document.querySelector('#stop').hidden || document.querySelector('.reply .note')?.innerText")
            if page.evaluate("!document.querySelector('#stop').hidden"):
                page.click("#stop")
                page.wait("document.querySelector('#stop').hidden")
            if "stopped" in page.evaluate("[...document.querySelectorAll('.reply .note')].at(-1).innerText"):
                break
        else:
            raise AssertionError("never stopped")
    page.evaluate("document.querySelector('#max_tokens').value = 256; document.querySelector('#temperature').value = ''")
    server.wait_until_idle()


def check_refusal(page, audit):
    page.evaluate("document.querySelector('#max_tokens').value = 99999999")
    ask(page, "Hello")
    page.wait("document.querySelector('.failure') !== null", "the refusal is shown")
    assert "max_tokens" in page.text(".failure"), page.text(".failure")
    audit.check(page, "after a refusal")
    page.evaluate("document.querySelector('#max_tokens').value = 64; document.querySelector('#reset').click()")


def check_end(server, page, audit):
    """A server that drains, then one that is gone."""
    page.forget_problems()

    def hold():
        with contextlib.suppress(OSError):
            server.post("/v1/completions", {"prompt": STORY, "max_tokens": 3900, "ignore_eos": True, "n": 8})

    held = threading.Thread(target=hold)
    held.start()
    page.wait("document.querySelector('#running').innerText !== '0'")
    server.process.send_signal(signal.SIGTERM)
    page.wait("document.body.dataset.state === 'DRAINING' && !document.querySelector('#notice').hidden", "the drain is shown")
    server.process.kill()
    page.wait("document.body.dataset.state === 'GONE' && /not answered/.test(document.querySelector('#notice').innerText)", "the end is shown")
    held.join()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait("(({top, bottom}) => top >= 0 && bottom <= innerHeight)(document.querySelector('#notice').getBoundingClientRect())", "it is seen from everywhere")
    audit.check(page, "after the server's end")


def check_keys(browser, model, audit):
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/keys.jsonl"
        tokens = {}
        for right in ("metrics", "inference"):
            made = subprocess.run([os.environ["MEA_BINARY"], "key", "new", right, "--rights", right, "--api-key-file", file], capture_output=True, text=True, check=True)
            tokens[right] = made.stdout.strip()
        with serving.serve(model, "--api-key-file", file) as server:
            page = browser.open(server.url + "/")
            page.wait("!document.querySelector('#key-form').hidden", "a key is asked for")
            audit.check(page, "where a key is asked for")
            for key, expected in (("mea-wrong", "REFUSED"), (tokens["inference"], "REFUSED"), (tokens["metrics"], "SERVING")):
                page.evaluate(f"document.querySelector('#key').value = '{key}'; document.querySelector('#key-form').requestSubmit()")
                page.wait(f"document.body.dataset.state === '{expected}'", f"{expected} with {key[:8]}")
                time.sleep(0.3)
            assert page.evaluate("document.querySelector('#key-form').hidden")
            page.close()


def main(model, out, audit):
    browser = Browser()
    try:
        with serving.serve(model, may_end=True) as server:
            page = browser.open(server.url + "/")
            page.wait("document.body.dataset.state === 'SERVING'", "the page loads")
            checks = [("layout", lambda: check_layout(page)), ("names", lambda: check_names(page)), ("contrast", lambda: check_contrast(page)),
                      ("chat", lambda: check_chat(server, page, out, STORY)), ("load", lambda: check_load(server, page, out, audit)),
                      ("markup", lambda: check_markup(page)), ("layout afterwards", lambda: check_layout(page)), ("stop", lambda: check_stop(server, page))]
            for name, check in checks:
                check()
                print(f"ok: {name}", flush=True)
            assert not page.problems(), page.problems()
            print("ok: nothing in the console", flush=True)
            check_refusal(page, audit)
            print("ok: refusal", flush=True)
            check_end(server, page, audit)
            print("ok: drain and end", flush=True)
            page.close()
        check_keys(browser, model, audit)
        print("ok: keys", flush=True)
    finally:
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--screenshots", type=pathlib.Path)
    parser.add_argument("--axe", type=pathlib.Path, help="axe.min.js; without it nothing is audited")
    flags = parser.parse_args()
    if flags.screenshots:
        flags.screenshots.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        main(flags.model or demo_model(pathlib.Path(temporary) / "model"), flags.screenshots, Audit(flags.axe))

"""Shows with a real browser that a web page of another origin reads and changes nothing while `gorl browse` runs.

    python -m experiments.faults.browser [--browser chromium] [--out FILE.json]

A page on another port of this machine, and one whose name leads here (DNS rebinding), ask for Aim's runs and try to
delete them in every way that a page has. Then the browser opens Aim's own table of runs. Everything is on this machine.
"""

import argparse
import http.server
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from experiments.faults.stress import entry, track

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
REBOUND = "rebound.example"
PAGE = """<!doctype html><title>a stranger's page</title><body><script>
const base = BASE, seen = {};
async function attempt(name, path, options) {
  try {
    const answer = await fetch(base + path, options);
    seen[name] = answer.type === "opaque" ? "opaque" : answer.status + " " + (await answer.text()).slice(0, 60);
  } catch (err) { seen[name] = "refused by the browser"; }
}
(async () => {
  await attempt("read", "/api/runs/search/run/");
  await attempt("read with credentials", "/api/projects/", {credentials: "include"});
  await attempt("delete", "/api/runs/HASH/", {method: "DELETE"});
  await attempt("delete with a simple POST", "/api/runs/delete-batch/",
                {method: "POST", mode: "no-cors", headers: {"Content-Type": "text/plain"}, body: '["HASH"]'});
  await attempt("archive", "/api/runs/HASH/", {method: "PUT", headers: {"Content-Type": "application/json"},
                                               body: '{"archived": true}'});
  const form = document.createElement("form");
  form.method = "post"; form.enctype = "text/plain"; form.action = base + "/api/runs/delete-batch/";
  form.target = "frame"; form.innerHTML = "<input name='[\\"HASH\\", \\"' value='\\"]'>";
  const frame = document.createElement("iframe"); frame.name = "frame";
  document.body.append(frame, form); form.submit();
  await new Promise(done => setTimeout(done, 1500));
  try { seen["frame"] = frame.contentDocument.body.innerText; }
  catch (err) { seen["frame"] = "refused by the browser"; }
  await fetch("/result", {method: "POST", body: JSON.stringify(seen)});
})();
</script>"""


class Stranger(http.server.ThreadingHTTPServer):
    """A web server of somebody else, which keeps what its page reports."""

    def __init__(self, page: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.page, self.result, self.reported = page, None, threading.Event()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(self.server.page.encode())

    def do_POST(self) -> None:
        self.server.result = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._answer(b"")
        self.server.reported.set()

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


def find_browser(name: str | None = None) -> str | None:
    """Returns the path of a browser of the Chromium family, or None."""
    return next(filter(None, map(shutil.which, [name] if name else BROWSERS)), None)


def open_page(browser: str, url: str, profile: pathlib.Path, *more: str) -> subprocess.Popen:
    """Starts a browser without a window that prints the page as it is in the end."""
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}", *more]
    return subprocess.Popen([browser, *words, url], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def attack(browser: str, base: str, run_hash: str, profile: pathlib.Path, *more: str) -> dict[str, str]:
    """Opens a stranger's page that attacks `base`, and returns what it saw."""
    stranger = Stranger(PAGE.replace("BASE", json.dumps(base)).replace("HASH", run_hash))
    threading.Thread(target=stranger.serve_forever, daemon=True).start()
    process = open_page(browser, f"http://127.0.0.1:{stranger.server_port}/", profile, *more)
    try:
        if not stranger.reported.wait(90):
            raise RuntimeError("the page of a stranger did not report.")
    finally:
        process.kill()
        process.communicate()
        stranger.shutdown()
    return stranger.result


def own_page(browser: str, base: str, profile: pathlib.Path, *more: str) -> str:
    """Returns Aim's table of runs as the browser has it after a while."""
    process = open_page(browser, f"{base}/runs", profile, "--virtual-time-budget=20000", "--dump-dom", *more)
    try:
        return process.communicate(timeout=120)[0]
    finally:
        process.kill()


def measure(browser: str, root: pathlib.Path) -> dict[str, Any]:
    """Attacks a server with and without leave to write, and returns what was seen, and whether the run survived."""
    repo, profile = root / "repo", root / "profile"
    track(root / "run-of-mine", repo, [entry(unit, {"return": float(unit)}) for unit in range(3)])
    (chunk,) = (repo / ".aim" / "meta" / "chunks").iterdir()
    found: dict[str, Any] = {
        "browser": subprocess.run([browser, "--version"], capture_output=True, text=True).stdout.strip()
    }
    for words in ([], ["--write"]):
        command = [sys.executable, "-m", "gorl.cli.main", "browse", "--repo", str(repo), "--port", "0", *words]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            base = re.search(r"http://\S+", server.stdout.readline())[0]
            server.stdout.readline()  # the first link: it answers
            port = base.rpartition(":")[2]
            name = "gorl browse " + " ".join(words)
            found[name.strip()] = {
                "another origin": attack(browser, base, chunk.name, profile),
                "a name that leads here": own_page(
                    browser, f"http://{REBOUND}:{port}", profile, f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"
                ),
                "its own page shows the run": "run-of-mine" in own_page(browser, base, profile),
                "the run is there": chunk.is_dir(),
            }
        finally:
            server.terminate()
            server.wait(30)
    return found


def problems(found: dict[str, Any]) -> list[str]:
    """Returns what a stranger could do, and what the own page could not."""
    result = []
    for name, seen in found.items():
        if isinstance(seen, dict):
            for way, answer in seen["another origin"].items():
                if answer not in ("refused by the browser", "opaque") and "gorl browse:" not in answer:
                    result.append(f"{name}: {way}: {answer}")
            if "this machine has another name" not in seen["a name that leads here"]:
                result.append(f"{name}: rebinding: {seen['a name that leads here'][:80]}")
            result += [
                f"{name}: {key} is not so"
                for key in ("its own page shows the run", "the run is there")
                if not seen[key]
            ]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    browser = find_browser(args.browser)
    if browser is None:
        sys.exit(f"there is no browser: name one with --browser, or install one of {', '.join(BROWSERS)}.")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        found = measure(browser, pathlib.Path(root))
    found["seconds"] = round(time.monotonic() - began, 1)
    text = json.dumps(found, indent=2)
    if args.out:
        args.out.write_text(text + "\n")
    print(text)
    if wrong := problems(found):
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()

"""Every tool in JupyterLab and a real browser: open, run, cancel, lasso, create. Makes pictures for the docs too."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1500",
    "--force-device-scale-factor=1", "--disable-extensions", "--no-first-run",
)  # fmt: skip
_NO_NEWS = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}


def missing() -> str:
    """Return what a browser test lacks here, or ""."""
    from importlib.util import find_spec

    packages = ("jupyterlab", "selenium", "nbformat", "hyperspy_gui_ipywidgets", "ipympl")
    lacking = [name for name in packages if find_spec(name) is None]
    programs = [("chromium", "chromium-browser", "google-chrome"), ("chromedriver",)]
    lacking += [names[0] for names in programs if not any(map(shutil.which, names))]
    return ", ".join(lacking)


def _until(what: str, found: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for one condition, and return what it found."""
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.05)
    return value


@contextlib.contextmanager
def lab(folder: Path, cells: list[str]) -> Iterator[Page]:
    """Start JupyterLab on a notebook of these cells, and open it in a browser.

    Parameters
    ----------
    folder
        Empty; becomes the home of both.
    cells
        Code.
    """
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (folder / "tools.ipynb").write_text(nbformat.writes(notebook))
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(_NO_NEWS))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port, token = free.getsockname()[1], secrets.token_hex(16)
    own = {"HOME": folder, "JUPYTER_CONFIG_DIR": folder / "config", "JUPYTER_DATA_DIR": folder / "data"}
    own |= {"JUPYTER_RUNTIME_DIR": folder / "runtime", "IPYTHONDIR": folder / "ipython", "JUPYTER_TOKEN": token}
    own |= {"JUPYTERLAB_SETTINGS_DIR": folder / "settings", "SE_OFFLINE": "true", "SE_AVOID_STATS": "true"}
    own |= {"MPLBACKEND": "agg", "JUPYTER_PLATFORM_DIRS": "1"}
    environment = os.environ | {name: str(value) for name, value in own.items()}
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", "--expose-app-in-browser", "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _until("the server", lambda: _answers(f"{address}/api?token={token}"), 120)
        with _browser(folder) as driver:
            driver.get(f"{address}/doc/tree/tools.ipynb?token={token}")
            yield Page(driver)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{(folder / 'server.log').read_text()[-2000:]}") from error
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # its own session: server and kernels
        server.wait(20)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def _browser(folder: Path) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    for flag in (*_FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.set_script_timeout(60)
        yield driver
    finally:
        driver.quit()


class Page:
    """The notebook in the browser."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def run_all(self) -> None:
        """Run all cells once the kernel is there."""
        context = "const w = window.jupyterapp?.shell?.currentWidget; return w?.sessionContext?.session?.kernel"
        self.until("the kernel", lambda: self.driver.execute_script(f"{context}?.connectionStatus") == "connected", 120)
        self.driver.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")

    def until(self, what: str, found: Callable[[], Any], seconds: float = 90) -> Any:
        """Wait for one condition, and return what it found."""
        return _until(what, found, seconds)

    def find(self, name: str, inside: str = "") -> Any:
        """Return the shown widget of a name, or None."""
        found = self.driver.find_elements("css selector", f"{inside} .specml-{name}")
        return next((element for element in found if element.is_displayed()), None)

    def wait_for(self, name: str, seconds: float = 90) -> Any:
        """Return the shown widget of a name when it is there."""
        return self.until(name, lambda: self.find(name), seconds)

    def click(self, name: str) -> None:
        """Click a button when it is there and can be clicked."""
        button = self.until(f"{name} to be on", lambda: (b := self.find(name)) and b.is_enabled() and b)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    def seconds_until_answered(self, button: str, before: str) -> float:
        """Click a button; return the time until the stage no longer begins with a text, as the page's clock has it."""
        return self.driver.execute_async_script(
            """
            const [button, before, answer] = arguments, start = performance.now();
            const stage = document.querySelector('.specml-stage');
            new MutationObserver((_, observer) => {
                if (stage.textContent.startsWith(before)) return;
                observer.disconnect();
                answer((performance.now() - start) / 1000);
            }).observe(stage, {childList: true, subtree: true, characterData: true});
            document.querySelector(button).click();
            """,
            f".specml-{button}",
            before,
        )

    def text(self, name: str) -> str:
        """Return the text of a widget."""
        element = self.find(name)
        return element.text if element is not None else ""

    def lasso(self, corners: list[tuple[int, int]]) -> None:
        """Drag the mouse over the canvas, from corner to corner, in pixels from its middle."""
        from selenium.webdriver import ActionChains

        canvas = self.driver.execute_script(
            "return arguments[0].querySelectorAll('canvas')[arguments[0].querySelectorAll('canvas').length - 1]",
            self.wait_for("canvas"),
        )
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
        (x, y), *others = corners
        chain = ActionChains(self.driver, duration=60).move_to_element_with_offset(canvas, x, y).click_and_hold()
        for nx, ny in others:
            chain.move_by_offset(nx - x, ny - y)
            x, y = nx, ny
        chain.release().perform()

    def picture(self, path: Path) -> None:
        """Save the tool as a picture."""
        time.sleep(1.5)  # the canvas draws when the browser asks for it
        self.wait_for("tool").screenshot(str(path))

    def errors(self) -> list[str]:
        """Return the errors of the browser's console."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]


START = """
import hyperspy.api as hs, hyperspy_specml as specml
hs.preferences.GUIs.enable_traitsui_gui = False
rare = specml.datasets.RarePhase(n_pixels=9, elements=("Nb",))
s = specml.datasets.fe_cr_ni_map((64, 64), n_channels=128, rare_phase=rare).signal
quick = specml.TrainConfig(max_steps=60, evaluate_every=20)
"""


@pytest.fixture
def open_lab(tmp_path):
    """Return the function that opens a notebook; only where SPECML_GUI_TESTS asks for it."""
    if not os.environ.get("SPECML_GUI_TESTS"):
        pytest.skip("tests in a browser run with SPECML_GUI_TESTS=1")
    if lacking := missing():
        pytest.fail(f"SPECML_GUI_TESTS is set, but this is missing: {lacking}")
    return lambda cell: lab(tmp_path, [START + cell])


def finish(page, name):
    """Check that nothing went wrong in the browser, and keep a picture if pictures are wanted."""
    if folder := os.environ.get("SPECML_SCREENSHOTS"):
        page.picture(Path(folder) / f"{name}.png")
    assert page.errors() == []


def done(page):
    ends = ("Done", "Failed", "Cancelled")
    page.until("the computation", lambda: page.text("stage").startswith(ends), 200)
    assert page.text("stage").startswith("Done"), page.text("message")


def test_a_decomposition_is_cancelled_within_a_second_and_written(open_lab):
    with open_lab(
        "tool = s.decomposition_ae(3, interactive=True,"
        "config=specml.TrainConfig(max_steps=100_000, patience=10**6))\ntool"
    ) as page:
        page.run_all()
        page.click("run_button")
        begun = page.until("training", lambda: page.text("stage").startswith("Train") and page.text("stage"))
        page.until("some steps", lambda: page.text("stage") != begun)  # a cancel before the first keeps nothing
        time.sleep(1)
        assert page.seconds_until_answered("cancel_button", "Train") < 1
        done(page)
        page.click("create_button")
        page.until("the message", lambda: "Written to the learning results" in page.text("message"))
        finish(page, "DecompositionAE")
        page.click("close_button")
        page.until("the tool to go", lambda: page.find("tool") is None)


def test_a_denoised_signal_is_created(open_lab):
    with open_lab("tool = s.denoise_dae(interactive=True, context='spatial', config=quick)") as page:
        page.run_all()
        page.click("run_button")
        done(page)
        page.click("create_button")
        page.until("the message", lambda: "Created" in page.text("message"))
        finish(page, "DenoiseDAE")


def test_a_region_of_an_anomaly_map_is_looked_at_and_exported(open_lab):
    with open_lab("tool = s.anomaly_map(interactive=True)") as page:
        page.run_all()
        page.click("run_button")
        done(page)
        row = page.until("a region", lambda: page.wait_for("rows").find_elements("css selector", "option"))[0]
        row.click()
        page.click("export_button")
        page.until("the message", lambda: "table of regions is in" in page.text("message"))
        finish(page, "AnomalyMap")


def test_a_lasso_selects_pixels_and_saves_a_phase(open_lab):
    with open_lab(
        "dec = s.decomposition_ae(3, architecture='pca', show_progressbar=False)\ntool = dec.explore(s)"
    ) as page:
        page.run_all()
        page.wait_for("canvas")
        time.sleep(2)  # the first picture
        page.lasso([(200, -150), (320, -150), (320, -30), (200, -30), (200, -140)])
        page.until("the selection", lambda: "pixels selected" in page.driver.page_source)
        page.click("save_phase_button")
        page.until("the message", lambda: "Phase 0 in" in page.text("message"))
        finish(page, "LatentExplorer")

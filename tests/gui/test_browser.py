"""Every tool in JupyterLab and a real browser: open, run, cancel, lasso, create. Makes pictures for the docs too.

All tests share one browser, one notebook and one kernel: each runs the cell of its tool, and closes it.
"""

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
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,2200",
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
        driver.set_script_timeout(120)
        yield driver
    finally:
        driver.quit()


class Page:
    """The notebook in the browser."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def run_cell(self, index: int) -> None:
        """Run one cell, once the kernel is there."""
        context = "const w = window.jupyterapp?.shell?.currentWidget; return w?.sessionContext?.session?.kernel"
        self.until("the kernel", lambda: self.driver.execute_script(f"{context}?.connectionStatus") == "connected", 120)
        self.driver.execute_async_script(
            """
            const [index, answer] = arguments, app = window.jupyterapp;
            app.shell.currentWidget.content.activeCellIndex = index;
            app.commands.execute('notebook:run-cell').then(() => answer(null));
            """,
            index,
        )

    def until(self, what: str, found: Callable[[], Any], seconds: float = 90) -> Any:
        """Wait for one condition, and return what it found."""
        return _until(what, found, seconds)

    def find(self, name: str) -> Any:
        """Return the shown widget of a name, or None."""
        return self.driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].find(e => e.offsetParent !== null) ?? null",
            f".specml-{name}",
        )

    def wait_for(self, name: str, seconds: float = 90) -> Any:
        """Return the shown widget of a name when it is there."""
        return self.until(name, lambda: self.find(name), seconds)

    def click(self, name: str) -> None:
        """Click a button when it is there and can be clicked."""
        button = self.until(f"{name} to be on", lambda: (b := self.find(name)) and b.is_enabled() and b)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
        button.click()

    def answered(self, button: str, stage: str) -> float:
        """Click a button; return the seconds until the stage begins with a text, as the page's clock has it."""
        return self.driver.execute_async_script(
            """
            const [name, text, answer] = arguments;
            const stage = document.querySelector('.specml-stage'), button = document.querySelector(name);
            const click = () => {
                if (button.disabled) return setTimeout(click, 10);
                const start = performance.now();
                new MutationObserver((_, observer) => {
                    if (!stage.textContent.startsWith(text)) return;
                    observer.disconnect();
                    answer((performance.now() - start) / 1000);
                }).observe(stage, {childList: true, subtree: true, characterData: true});
                button.click();
            };
            click();
            """,
            f".specml-{button}",
            stage,
        )

    def drawn(self) -> float:
        """Return the part of the canvas that is not one colour: 0 if nothing is drawn, or there is no canvas."""
        return self.driver.execute_script(
            """
            const canvas = document.querySelector('.specml-canvas canvas');
            if (!canvas || !canvas.width) return 0;
            const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            let other = 0;
            for (let i = 4; i < pixels.length; i += 4)
                other += pixels[i] !== pixels[i - 4] || pixels[i + 3] !== pixels[i - 1];
            return other / (pixels.length / 4);
            """
        )

    def type(self, name: str, text: str) -> None:
        """Type over what is in a field."""
        field = self.wait_for(name).find_element("css selector", "input")
        field.send_keys("\ue009a\ue000", text, "\ue007")  # control and a, then Enter

    def value(self, name: str) -> str:
        """Return the text in a field."""
        return self.wait_for(name).find_element("css selector", "input").get_property("value")

    def text(self, name: str) -> str:
        """Return the text of a widget."""
        element = self.find(name)
        return self.driver.execute_script("return arguments[0]?.innerText ?? ''", element)

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
grains = specml.datasets.fe_cr_ni_map((64, 64), n_channels=128, texture="grains").signal
quick = specml.TrainConfig(max_steps=60, evaluate_every=20)
"""


CELLS = {
    "DecompositionAE": "tool = s.decomposition_ae(3, interactive=True, config=specml.TrainConfig(max_steps=400))\ntool",
    "DenoiseDAE": "tool = s.denoise_dae(interactive=True, context='spatial', config=quick)",
    "AnomalyMap": "tool = s.anomaly_map(interactive=True)",
    "PhaseMap": "tool = grains.phase_map(interactive=True)",
    "LatentExplorer": """
dec = s.decomposition_ae(3, architecture='pca', show_progressbar=False)
tool = dec.explore(s)
""",
}


@pytest.fixture(scope="module")
def notebook(tmp_path_factory):
    """A notebook in a browser, with a cell for each tool; only where SPECML_GUI_TESTS asks for it."""
    if not os.environ.get("SPECML_GUI_TESTS"):
        pytest.skip("make test-gui runs the tests in a browser")
    if lacking := missing():
        pytest.fail(f"SPECML_GUI_TESTS is set, but this is missing: {lacking}")
    with lab(tmp_path_factory.mktemp("lab"), [START, *CELLS.values()]) as page:
        page.run_cell(0)
        yield page


@pytest.fixture
def finish(shrink):
    """Return the function that checks figure and console of the browser, and keeps a picture if that is wanted."""

    def finish_tool(page, name):
        page.until("the figure", lambda: page.drawn() > 0.01, 20)
        if folder := os.environ.get("SPECML_SCREENSHOTS"):
            path = Path(folder) / f"{name}.png"
            page.picture(path)
            shrink(path)
        assert page.errors() == []
        page.click("close_button")
        page.until("the tool to go", lambda: page.find("tool") is None)

    return finish_tool


@pytest.fixture
def opened(notebook):
    """Return the function that opens a tool in the notebook; what the test before left open is closed."""

    def open_tool(name):
        if notebook.find("tool") is not None:
            notebook.driver.execute_script(
                "window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute("
                "{code: 'tool.close()'})"
            )
            notebook.until("the tool of another test to go", lambda: notebook.find("tool") is None)
        notebook.errors()  # of another test
        notebook.run_cell(1 + list(CELLS).index(name))
        notebook.wait_for("canvas")
        return notebook

    return open_tool


def done(page):
    ends = ("Done", "Failed", "Cancelled")
    page.until("the computation", lambda: page.text("stage").startswith(ends), 200)
    assert page.text("stage").startswith("Done"), page.text("message")


def cancelled_then_done(page):
    """Begin and cancel, up to three times where the machine does something else, then compute to the end."""
    seconds = []
    while len(seconds) < 3 and min(seconds, default=1) >= 1:
        page.answered("run_button", "Begin")
        page.until("the computation", lambda: page.text("stage") != "Begin")
        seconds.append(page.answered("cancel_button", "Cancelling"))
        page.until("the cancel to end", lambda: page.text("stage").startswith(("Done", "Cancelled")), 60)
    print(f"cancel answered after {', '.join(f'{s:.2f}' for s in seconds)} s")
    assert min(seconds) < 1, seconds
    page.answered("run_button", "Begin")
    done(page)


def test_a_decomposition_is_cancelled_within_a_second_and_written(opened, finish):
    page = opened("DecompositionAE")
    cancelled_then_done(page)
    page.click("create_button")
    page.until("the message", lambda: "Written to the learning results" in page.text("message"))
    finish(page, "DecompositionAE")


def test_a_denoised_signal_is_created(opened, finish):
    page = opened("DenoiseDAE")
    cancelled_then_done(page)
    page.click("create_button")
    page.until("the message", lambda: "Created" in page.text("message"))
    finish(page, "DenoiseDAE")


def test_a_region_of_an_anomaly_map_is_looked_at_and_exported(opened, finish):
    page = opened("AnomalyMap")
    cancelled_then_done(page)
    row = page.until("a region", lambda: page.wait_for("rows").find_elements("css selector", "option"))[0]
    row.click()
    page.click("export_button")
    page.until("the message", lambda: "table of regions is in" in page.text("message"))
    page.click("create_button")
    page.until("the message", lambda: "Created" in page.text("message"))
    finish(page, "AnomalyMap")


def test_phases_are_named_and_created(opened, finish):
    page = opened("PhaseMap")
    cancelled_then_done(page)
    page.until("phases", lambda: page.wait_for("rows").find_elements("css selector", "option"))[0].click()
    page.until("the name of the phase", lambda: page.value("called") == "phase 0")
    page.type("called", "ferrite")
    page.until("the name", lambda: "ferrite" in page.wait_for("rows").text)
    page.click("create_button")
    page.until("the message", lambda: ".created[-2]" in page.text("message"))
    finish(page, "PhaseMap")


def test_a_lasso_selects_pixels_and_saves_a_phase(opened, finish):
    page = opened("LatentExplorer")
    page.until("the figure", lambda: page.drawn() > 0.01, 20)
    page.lasso([(200, -150), (320, -150), (320, -30), (200, -30), (200, -140)])
    page.until("the selection", lambda: "pixels selected" in page.driver.page_source)
    page.click("save_phase_button")
    page.until("the message", lambda: "Phase 0 in" in page.text("message"))
    finish(page, "LatentExplorer")

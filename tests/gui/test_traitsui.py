"""The view in windows of Qt, drawn off screen: real clicks, in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def have(*names):
    from importlib.util import find_spec

    return all(find_spec(name) for name in names)


START = """
import sys, time, warnings
import matplotlib; matplotlib.use("qtagg")
import numpy as np, hyperspy.api as hs, hyperspy_specml as specml
hs.preferences.GUIs.enable_ipywidgets_gui = False
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit, QPushButton
rare = specml.datasets.RarePhase(n_pixels=9, elements=("Nb",))
s = specml.datasets.fe_cr_ni_map((64, 64), n_channels=128, rare_phase=rare).signal
quick = specml.TrainConfig(max_steps=60, evaluate_every=20)


def shown(tool, seconds=90, until=lambda tool: not tool.running):
    end = time.monotonic() + seconds
    while not until(tool):
        assert time.monotonic() < end, (tool.stage, tool.message)
        QApplication.processEvents()
        time.sleep(0.01)
    QApplication.processEvents()


def click(tool, label):
    window = tool.window.control
    (button,) = [b for b in window.findChildren(QPushButton) if b.text() == label]
    assert button.isVisible() and button.isEnabled(), (label, tool.stage, tool.message)
    QTest.mouseClick(button, Qt.LeftButton)
    QApplication.processEvents()


def cancel(tool):
    # Begin, and cancel when something is being done: the window answers within a second of its own time. A machine that
    # does something else may look only when all is done: then again.
    for _ in range(3):
        click(tool, "Run")
        shown(tool, until=lambda tool: tool.stage != "Begin")
        if tool.running:
            break
        assert tool.stage == "Done", tool.message
    start = time.thread_time()
    click(tool, "Cancel")
    shown(tool, until=lambda tool: tool.stage.startswith("Cancel") or not tool.running)
    assert time.thread_time() - start < 1, time.thread_time() - start
    shown(tool)
    assert tool.stage in ("Cancelled", "Done"), tool.message


def picture(tool):
    QApplication.processEvents()
    if len(sys.argv) > 1:
        tool.window.control.grab().save(f"{sys.argv[1]}/{type(tool).__name__}_qt.png")
"""

CASES = {
    "DecompositionAE": """
tool = s.decomposition_ae(3, interactive=True, config=specml.TrainConfig(max_steps=100_000, patience=10**6))
assert tool.window.control.isVisible()
click(tool, "Run")
shown(tool, until=lambda tool: tool.progress.stage == "Train dense")
shown(tool, until=lambda tool: len(tool.progress.curves.get("Train dense", ())) > 3)
start = time.process_time()  # whatever else the machine does
click(tool, "Cancel")
shown(tool, until=lambda tool: tool.progress.stage != "Train dense")
assert time.process_time() - start < 1, time.process_time() - start
shown(tool)
assert tool.result.report.interrupted
picture(tool)
click(tool, "To learning results")
assert s.learning_results.output_dimension >= 3, tool.message
click(tool, "Close")
assert tool.closed
""",
    "DenoiseDAE": """
tool = s.denoise_dae(interactive=True, context="spatial", config=quick)
cancel(tool)
click(tool, "Run")
shown(tool)
assert tool.stage == "Done", tool.message
tool.protect = True
shown(tool)
click(tool, "Create signal")
assert tool.created[0].data.shape == s.data.shape
picture(tool)
click(tool, "Close")
""",
    "AnomalyMap": """
tool = s.anomaly_map(interactive=True)
cancel(tool)
click(tool, "Run")
shown(tool)
assert len(tool.rows) >= 1, tool.message
tool.row = 0
assert s.axes_manager.indices != (0, 0)
click(tool, "Create signals")
assert len(tool.created) == 2, tool.message
picture(tool)
click(tool, "Include as known and search again")
shown(tool)
assert tool.known is not None and tool.stage == "Done", tool.message
click(tool, "Close")
""",
    "PhaseMap": """
s = specml.datasets.fe_cr_ni_map((64, 64), n_channels=128, texture="grains").signal
tool = s.phase_map(interactive=True)
cancel(tool)
click(tool, "Run")
shown(tool)
assert len(tool.rows) == 4, (tool.rows, tool.message)
tool.number = 3
shown(tool)
assert len(tool.rows) == 3, tool.message
tool.row = 1
QApplication.processEvents()
(field,) = [f for f in tool.window.control.findChildren(QLineEdit) if f.text() == "phase 1"]
field.selectAll()
QTest.keyClicks(field, "ferrite")
assert "ferrite" not in tool.rows[1]
QTest.keyClick(field, Qt.Key_Return)
assert "ferrite" in tool.rows[1]
click(tool, "Create signals")
assert tool.created[0].data.shape == (64, 64), tool.message
picture(tool)
click(tool, "Close")
""",
    "LatentExplorer": """
from PySide6.QtCore import QPoint
dec = s.decomposition_ae(3, architecture="pca", show_progressbar=False)
tool = dec.explore(signal=s)
QApplication.processEvents()
canvas, axes = tool.figure.canvas, tool._maps[0]
canvas.draw()
corners = axes.transAxes.transform([(0.3, 0.3), (0.7, 0.3), (0.7, 0.7), (0.3, 0.7), (0.3, 0.35)])
points = [QPoint(int(x / canvas.device_pixel_ratio), int((canvas.figure.bbox.height - y) / canvas.device_pixel_ratio))
          for x, y in corners]
QTest.mousePress(canvas, Qt.LeftButton, pos=points[0])
for point in points[1:]:
    QTest.mouseMove(canvas, point)
    QApplication.processEvents()
QTest.mouseRelease(canvas, Qt.LeftButton, pos=points[-1])
assert 400 < tool.selected.sum() < 900, tool.selected.sum()
shown(tool)
click(tool, "Save as phase")
assert tool.phases is not None, tool.message
picture(tool)
click(tool, "Close")
""",
}


@pytest.mark.parametrize("case", CASES)
def test_a_tool_from_open_to_its_result_by_clicks(tmp_path, shrink, case):
    if not os.environ.get("SPECML_GUI_TESTS"):
        pytest.skip("make test-gui runs the tests in windows")
    if not have("PySide6", "hyperspy_gui_traitsui"):
        pytest.fail("SPECML_GUI_TESTS is set, but there is no PySide6 or hyperspy_gui_traitsui")
    pictures = os.environ.get("SPECML_SCREENSHOTS")
    environment = os.environ | {"QT_QPA_PLATFORM": "offscreen", "HOME": str(tmp_path), "MPLBACKEND": "qtagg"}
    command = [sys.executable, "-c", START + CASES[case], *([pictures] if pictures else [])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    if pictures:
        shrink(f"{pictures}/{case}_qt.png")

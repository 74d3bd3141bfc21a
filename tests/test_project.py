"""The project itself: one set of versions, small modules, clean notebooks, a house in order."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TRIO = ("anywidget", "bokeh", "ipywidgets")


def locked() -> dict[str, str]:
    pins = re.findall(r"^([A-Za-z0-9_.-]+)==([^ ]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    return {name.lower().replace("_", "-"): version for name, version in pins}


def conda() -> dict[str, str]:
    rows = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    rows = [row for row in rows if isinstance(row, str)]
    return {re.split(r"[<>=]", row)[0]: row[len(re.split(r"[<>=]", row)[0]) :] for row in rows}


def required() -> dict[str, str]:
    rows = PYPROJECT["project"]["dependencies"]
    return {re.split(r"[<>=]", row)[0]: row[len(re.split(r"[<>=]", row)[0]) :] for row in rows}


@pytest.mark.parametrize("name", TRIO)
def test_the_widget_trio_is_pinned_to_one_version_everywhere(name):
    version = required()[name].removeprefix("==")
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert conda()[name] == f"={version}"
    assert locked()[name] == version


def test_python_is_pinned_to_the_minor_that_is_tested():
    assert conda()["python"] == "=3.11"
    assert PYPROJECT["project"]["requires-python"] == ">=3.11"
    assert "with Python 3.11" in (ROOT / "requirements.lock").read_text()


def test_environment_yml_installs_what_pyproject_requires():
    missing = set(required()) - set(conda()) - {"typer"}  # typer comes with `-e .`, from where it is new enough
    assert missing == set()
    assert all(conda()[name] == spec for name, spec in required().items() if name in conda() and name not in TRIO)


def test_the_lock_satisfies_every_requirement_of_pyproject():
    every = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"]["dev"]]
    assert {re.split(r"[<>=]", row)[0] for row in every} <= set(locked())


def test_the_lock_records_hashes_and_no_address():
    text = (ROOT / "requirements.lock").read_text()
    assert text.count("--hash=sha256:") >= len(locked()) > 100
    assert not re.search(r"https?://|file://|^--|^-f|^-i| @ ", text, re.MULTILINE)


def modules() -> list[Path]:
    return sorted((ROOT / "labkit").rglob("*.py"))


def test_no_module_is_longer_than_300_lines():
    assert {path.name: n for path in modules() if (n := len(path.read_text().splitlines())) > 300} == {}


def test_the_package_can_be_found_to_be_checked():
    assert len(modules()) > 60


def test_the_lab_is_told_by_one_docstring():
    assert (ROOT / "labkit" / "__init__.py").read_text().count("\n") == 1


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_in_small_cells(path):
    cells = json.loads(path.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    lines = [sum(1 for line in cell["source"] if line.strip()) for cell in code]
    assert max(lines) <= 5


@pytest.mark.parametrize("stem", ["00-start-here", "01-one-read-end-to-end"])
def test_the_notebooks_are_there(stem):
    assert (ROOT / "notebooks" / f"{stem}.ipynb").is_file()


def test_pictures_load_neither_the_engine_nor_simpy():
    names = sorted(path.stem for path in (ROOT / "labkit" / "views").glob("*.py") if path.stem != "__init__")
    code = f"import sys\nfor n in {names}: __import__('labkit.views.' + n)\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"simpy", "bokeh", "ipywidgets"} & set(loaded)
    assert not [name for name in loaded if name.startswith(("labkit.kernel", "labkit.hardware", "labkit.host"))]


def test_the_engine_loads_no_drawing_library():
    code = "import sys, labkit.machine\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "simpy" in loaded
    assert not {"bokeh", "ipywidgets", "anywidget", "IPython"} & set(loaded)


def test_the_engine_runs_where_there_is_no_fcntl():
    code = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from labkit.machine import Machine\nprint(Machine(size='64 KiB').run()['verified'])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def test_only_the_agreed_things_stand_at_the_top():
    out = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if out.returncode:
        pytest.skip("not a git checkout: nothing tells what is tracked")
    top = {line.split("/")[0] for line in out.stdout.splitlines() if not line.startswith(".")}
    agreed = {"notebooks", "labkit", "data", "environment.yml", "tests", "README.md"}
    assert top <= agreed | {"pyproject.toml", "requirements.lock", "Makefile", "LICENSE"}
    assert agreed <= top


def test_every_rule_that_the_code_names_is_told_in_data_and_none_besides():
    families = (
        "AHCI|BIO|BLK|BLKDMA|BUD|BUF|D|DIO|DMA|DMABUF|IOVA|ITER|LAND|LIM|LOOP|"
        "MERGE|MISS|MM|MQ|NULL|NVME|P2P|PHYR|PMEM|PT|REG|SG|SPLIT|SWI|TRACE|VIO"
    )
    pattern = re.compile(rf"\b(?:(?:{families})-\d+|R\d+)")
    text = "\n".join(path.read_text() for path in modules())
    named = set(pattern.findall(re.sub(r"(\b[A-Z]+-?\d+)\.\.(\d+)", r"\1 \2", text)))
    rules = tomllib.loads((ROOT / "data" / "rules.toml").read_text())
    assert named == set(rules)
    assert all(row["rule"].endswith(".") and row["source"] for row in rules.values())
